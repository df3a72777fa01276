"""Documents tokenised once into memory-mapped Arrow, vocabularies of training rows, and tokens as numbers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock

from data.examples import Items
from data.text.rules import SPECIALS, UNK, VERSION, tokenise
from data.text.settings import Tokenizer, Vocabulary

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The documents of some parts, in the order of the items."""

    item_ids: list[str]
    labels: list[str | None]
    words: list[str]
    """Distinct tokens, in the order in which they first occur."""
    codes: Codes
    """Places in `words` of all documents' tokens, one document after the other; memory-mapped, not to be
    written to."""
    offsets: npt.NDArray[np.int64]
    """Where each document begins in `codes`, and where the last one ends."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document."""
        return np.diff(self.offsets)

    def document(self, number: int) -> list[str]:
        """The tokens of one document."""
        run = self.codes[self.offsets[number] : self.offsets[number + 1]]
        return [self.words[code] for code in run.tolist()]


def open_tokens(
    items: Items, parts: Sequence[str], *, tokenizer: Tokenizer | None = None, cache: Path
) -> Tokens:
    """The documents of `parts` as tokens: from a folder below `cache`, made at first use.

    Its key is made of the documents' digests, the tokenizer and the version of the rules. It is written aside
    and renamed when whole, by one process at a time. ValueError where no document is in `parts`.
    """
    tokenizer = tokenizer or Tokenizer()
    table = items.table(parts, ["item_id", "label", "digest"])
    if not table.num_rows:
        raise ValueError(f"no document belongs to {' or '.join(parts)} in {items.split / 'split.parquet'}")
    target = cache / f"tokens-{_key(table['digest'].to_pylist(), tokenizer)}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.is_dir():
            aside = target.with_suffix(".partial")
            shutil.rmtree(aside, ignore_errors=True)  # of a build that was killed
            aside.mkdir()
            _build(items, parts, tokenizer, aside)
            aside.rename(target)
    documents = _mapped(target / "documents.arrow")["codes"].chunk(0)
    return Tokens(
        item_ids=table["item_id"].to_pylist(),
        labels=table["label"].to_pylist(),
        words=_mapped(target / "words.arrow")["word"].to_pylist(),
        codes=documents.values.to_numpy(),
        offsets=documents.offsets.to_numpy(),
    )


def read_texts(items: Items, parts: Sequence[str]) -> Iterator[str]:
    """The texts of `parts`, a batch in memory at a time."""
    for batch in items.batches(parts, ["text"]):
        yield from batch["text"].to_pylist()


def build_vocabulary(
    tokens: Tokens, *, minimum: int = 2, most: int = 60_000, specials: Sequence[str] = SPECIALS
) -> list[str]:
    """`specials` as they stand, then tokens of at least `minimum` occurrences, the most frequent first,
    `most` at most; equal frequencies in the order of the characters."""
    counts = np.bincount(tokens.codes, minlength=len(tokens.words)).tolist()
    counted = [
        (-count, word)
        for word, count in zip(tokens.words, counts, strict=True)
        if count >= minimum and word not in specials
    ]
    return [*specials, *(word for _, word in sorted(counted)[:most])]


def numericalise(tokens: Tokens, vocabulary: Sequence[str]) -> npt.NDArray[np.int64]:
    """The place in `vocabulary` of every token, in the order of `tokens.codes`; unknown ones are `xxunk`.

    ValueError names an unknown token where the vocabulary has no `xxunk`.
    """
    places = {word: place for place, word in enumerate(vocabulary)}
    unknown = places.get(UNK, -1)
    table = np.array([places.get(word, unknown) for word in tokens.words], dtype=np.int64)
    if unknown < 0 and (missing := np.flatnonzero(table < 0)).size:
        raise ValueError(
            f"the token {tokens.words[missing[0]]!r} is not in the vocabulary, which has no {UNK!r}"
            f" for it ({missing.size} such tokens)"
        )
    return table[tokens.codes]


def vocabulary_of(tokens: Tokens, settings: Vocabulary) -> list[str]:
    """`build_vocabulary` by settings."""
    return build_vocabulary(tokens, minimum=settings.minimum, most=settings.most)


def _key(digests: Sequence[str], tokenizer: Tokenizer) -> str:
    options: Mapping[str, object] = {"version": VERSION, **tokenizer.options()}
    made_of = [json.dumps(options, sort_keys=True), *digests]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:24]


def _build(items: Items, parts: Sequence[str], tokenizer: Tokenizer, folder: Path) -> None:
    """Write `documents.arrow` (one list of codes a document, one record batch) and `words.arrow`."""
    places: dict[str, int] = {}
    codes, offsets = array("i"), array("q", [0])
    for document in tokenise(read_texts(items, parts), **tokenizer.options()):
        codes.extend([places.setdefault(token, len(places)) for token in document])
        offsets.append(len(codes))
    runs = pa.LargeListArray.from_arrays(
        pa.array(np.frombuffer(offsets, np.int64)), pa.array(np.frombuffer(codes, np.int32))
    )
    _write(folder / "documents.arrow", pa.table({"codes": runs}))
    _write(folder / "words.arrow", pa.table({"word": pa.array(list(places), pa.string())}))


def _write(path: Path, table: pa.Table) -> None:
    with path.open("wb") as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
