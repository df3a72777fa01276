"""Tokens in memory-mapped Arrow: made once, the same as the rules', numbered by training rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.examples import SPLIT, Items
from data.shards import ShardWriter
from data.text import tokens as module
from data.text.cleaning import text_schema
from data.text.rules import SPECIALS, tokenise
from data.text.settings import Tokenizer
from data.text.tokens import build_vocabulary, numericalise, open_tokens

TEXTS = {"a": "The cat sat.", "b": "The dog sat on the cat!!!!", "c": "A bird", "d": "Cat"}


def written(folder: Path, texts: dict[str, str] = TEXTS, valid: tuple[str, ...] = ("d",)) -> Items:
    for name in ("clean", "split"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder / "clean", text_schema()) as shards:
        for item_id, text in texts.items():
            row: dict[str, Any] = {
                "item_id": item_id, "label": item_id.upper(), "part": None, "group": None, "time": None,
                "digest": text.encode().hex(), "text": text,
            }  # fmt: skip
            shards.write(pa.RecordBatch.from_pylist([row], schema=text_schema()))
    parts = ["valid" if item_id in valid else "train" for item_id in texts]
    pq.write_table(pa.table([list(texts), parts], schema=SPLIT), folder / "split" / "split.parquet")
    return Items(folder / "clean", folder / "split")


def test_documents_are_the_rules_own(tmp_path: Path) -> None:
    tokens = open_tokens(written(tmp_path), ["train"], cache=tmp_path / "cache")
    assert tokens.item_ids == ["a", "b", "c"]
    assert tokens.labels == ["A", "B", "C"]
    assert [tokens.document(number) for number in range(3)] == list(tokenise([TEXTS[name] for name in "abc"]))
    assert tokens.lengths().sum() == len(tokens.codes)
    assert tokens.codes.dtype == np.int32
    assert not tokens.codes.flags.owndata, "a view of the mapped file"
    with pytest.raises(ValueError, match="read-only"):
        tokens.codes[0] = 1


def test_a_text_is_tokenised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path)
    open_tokens(items, ["train"], cache=tmp_path / "cache")

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("tokenised twice")

    monkeypatch.setattr(module, "tokenise", never)
    assert open_tokens(items, ["train"], cache=tmp_path / "cache").document(2)[-1] == "bird"
    with pytest.raises(AssertionError, match="twice"):
        open_tokens(items, ["train"], tokenizer=Tokenizer(name="characters"), cache=tmp_path / "cache")


def test_other_texts_and_other_rules_are_tokenised_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tokens(written(tmp_path), ["train"], cache=tmp_path / "cache")
    items = written(tmp_path, {**TEXTS, "c": "A fish"})
    assert open_tokens(items, ["train"], cache=tmp_path / "cache").document(2)[-1] == "fish"
    monkeypatch.setattr(module, "VERSION", 999)
    assert len(list((tmp_path / "cache").glob("tokens-*[!k]"))) == 2
    open_tokens(items, ["train"], cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("tokens-*[!k]"))) == 3


def test_what_a_killed_build_left_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = written(tmp_path)

    def killed(*_: Any, **__: Any) -> Any:
        yield ["half"]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "tokenise", killed)
        with pytest.raises(KeyboardInterrupt):
            open_tokens(items, ["train"], cache=tmp_path / "cache")
    assert len(open_tokens(items, ["train"], cache=tmp_path / "cache")) == 3


def test_the_vocabulary_is_ordered_by_frequency_and_cut(tmp_path: Path) -> None:
    tokens = open_tokens(written(tmp_path), ["train"], cache=tmp_path / "cache")
    vocabulary = build_vocabulary(tokens, minimum=2)
    assert vocabulary == [*SPECIALS, "the", "cat", "sat"]  # 3, 2 and 2 times
    assert build_vocabulary(tokens, minimum=1, most=1) == [*SPECIALS, "the"]
    assert build_vocabulary(tokens, minimum=3, specials=()) == ["the", "xxbos"]


def test_numbers_are_places_in_the_vocabulary(tmp_path: Path) -> None:
    items = written(tmp_path)
    train, valid = (open_tokens(items, [part], cache=tmp_path / "cache") for part in ("train", "valid"))
    vocabulary = build_vocabulary(train, minimum=1)
    assert [vocabulary[code] for code in numericalise(train, vocabulary)[:4].tolist()] == train.document(0)[
        :4
    ]
    short = [*SPECIALS, "the"]
    assert [short[code] for code in numericalise(valid, short).tolist()] == ["xxbos", "xxmaj", "xxunk"]
    with pytest.raises(ValueError, match=r"'cat' is not in the vocabulary"):
        numericalise(valid, ["xxbos", "xxmaj"])


def test_a_part_without_documents_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no document belongs to test"):
        open_tokens(written(tmp_path), ["test"], cache=tmp_path / "cache")
