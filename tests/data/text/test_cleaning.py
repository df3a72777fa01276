"""Texts of every layout become rows, and whatever is left out gets its reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from data.archives import Raw
from data.editions import generate
from data.examples import Reject
from data.text.cleaning import TextCleaning, clean_texts, text_schema
from tests.jobs import raw_of, tar_of
from tests.scratch import ROOT

Rows = list[dict[str, Any]]


def cleaned(raw: Raw, **block: Any) -> tuple[Rows, dict[str, Reject]]:
    found = list(clean_texts(raw, TextCleaning.model_validate(block)))
    rows = [row for row in found if isinstance(row, dict)]
    assert all(list(row) == text_schema().names for row in rows)
    return rows, {row.item_id: row for row in found if isinstance(row, Reject)}


def archive(tmp_path: Path, files: dict[str, bytes]) -> Raw:
    return raw_of(tmp_path / "download", {"texts.tgz": tar_of(files)})


def table(tmp_path: Path, content: str | bytes, name: str = "mine.csv") -> Raw:
    content = content.encode() if isinstance(content, str) else content
    return raw_of(tmp_path / "download", {name: content})


def test_documents_take_label_and_part_from_their_folders(tmp_path: Path) -> None:
    files = {"a/train/pos/1.txt": b"Good.\r\n", "a/test/neg/1.txt": "\ufeffBad.".encode(), "a/notes.md": b"#"}
    raw = archive(tmp_path, files)
    rows, rejects = cleaned(raw, parts={"train": "train", "test": "valid"})
    assert [(row["item_id"], row["label"], row["part"], row["text"]) for row in rows] == [
        ("a/train/pos/1.txt", "pos", "train", "Good.\n"),
        ("a/test/neg/1.txt", "neg", "valid", "Bad."),
    ]
    assert not rejects
    assert raw.ignored == {"no .txt file: *.md": 1}


def test_a_label_may_stand_two_folders_up_or_nowhere(tmp_path: Path) -> None:
    raw = archive(tmp_path, {"letters/kind/2001/a.txt": b"Dear", "letters/rude/2001/b.txt": b"You"})
    assert [row["label"] for row in cleaned(raw, level=2)[0]] == ["kind", "rude"]
    assert [row["label"] for row in cleaned(raw, labels="none")[0]] == [None, None]


def test_folders_without_labels_become_the_test_part(tmp_path: Path) -> None:
    raw = archive(tmp_path, {"t/pos/1.txt": b"a", "t/neg/1.txt": b"b", "unsup/9.txt": b"c"})
    rows, _ = cleaned(raw, unlabelled=["unsup"])
    assert [(row["label"], row["part"]) for row in rows] == [("pos", None), ("neg", None), (None, "test")]


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"", "empty text", "0 characters"),
        (b" \n\t", "empty text", "white space"),
        (b"\x00\x07\x1b", "control characters only", "3 characters"),
        (b"<br />&nbsp;", "no tokens", "HTML"),
        ("\u200b".encode(), "control characters only", "1 characters"),
        ("café".encode("latin-1"), "not in the encoding", "utf-8"),
        (b"ab " * 40, "too long", "120 characters"),
        (b"%08d " * 1_250_000 % tuple(range(1_250_000)), "too long", "11,250,000 bytes"),
    ],
)
def test_a_text_that_cannot_be_used_gets_its_reason(
    tmp_path: Path, content: bytes, reason: str, detail: str
) -> None:
    raw = archive(tmp_path, {"a/1.txt": b"Good.", "a/2.txt": content})
    rows, rejects = cleaned(raw, most=100)
    assert len(rows) == 1
    assert rejects["a/2.txt"].reason == reason
    assert detail in rejects["a/2.txt"].detail


def test_a_text_beside_the_classes_has_no_label(tmp_path: Path) -> None:
    raw = archive(tmp_path, {"a/train/pos/1.txt": b"a", "a/train/2.txt": b"b", "3.txt": b"c"})
    _, rejects = cleaned(raw, parts={"train": "train"})
    assert {reject.reason for reject in rejects.values()} == {"no label"}
    assert rejects["a/train/2.txt"].detail == "the folder 'train' is a part, not a class"
    assert rejects["3.txt"].detail == "0 folders above it, clean.level is 1"


def test_another_encoding_is_read_as_the_block_says(tmp_path: Path) -> None:
    raw = archive(tmp_path, {"a/1.txt": "café".encode("latin-1")})
    assert cleaned(raw, encoding="latin-1")[0][0]["text"] == "café"


def test_a_table_with_names_of_its_own(tmp_path: Path) -> None:
    raw = table(tmp_path, 'who,verdict,words,held_out\nann,like,"So, so\ngood",no\nbob,hate,Bad,YES\n')
    rows, rejects = cleaned(raw, layout="table", text="words", label="verdict", id="who", validity="held_out")
    assert [(row["item_id"], row["label"], row["part"], row["text"]) for row in rows] == [
        ("ann", "like", "train", "So, so\ngood"),
        ("bob", "hate", "valid", "Bad"),
    ]
    assert not rejects


def test_rows_of_a_table_are_numbered_in_order(tmp_path: Path) -> None:
    raw = table(tmp_path, "label,text\n" + "".join(f"a,text {number}\n" for number in range(12)))
    ids = [row["item_id"] for row in cleaned(raw, layout="table")[0]]
    assert ids == sorted(ids)
    assert ids[0] == "mine.csv:01"


def test_a_table_tells_what_is_wrong_with_each_row(tmp_path: Path) -> None:
    lines = [
        "label,text,is_valid",
        "a,fine,True",
        ",no label,True",
        "a,,False",
        "a,odd,maybe",
        "a,b",
        "a,b,c,d",
    ]
    content = ("\n".join(lines) + "\n").encode() + b"a,caf\xe9,False\n" + b"b," + b"x" * 300_000 + b",False\n"
    rows, rejects = cleaned(table(tmp_path, content), layout="table", validity="is_valid")
    assert len(rows) == 1
    assert [reject.reason for reject in rejects.values()] == [
        "no label", "empty text", "unknown validity", "wrong number of fields", "wrong number of fields",
        "not in the encoding", "too long",
    ]  # fmt: skip
    assert "row 5" in rejects["mine.csv:5"].detail


def test_a_table_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    raw = table(tmp_path, "review,stars\nGood,5\n")
    with pytest.raises(ValueError, match=r"no column 'text' \(clean.text\); it has review, stars"):
        cleaned(raw, layout="table")


def test_several_tables_ask_for_a_name(tmp_path: Path) -> None:
    raw = archive(tmp_path, {"one.csv": b"label,text\na,b\n", "two.csv": b"label,text\na,b\n"})
    with pytest.raises(ValueError, match="name the table; there are one"):
        cleaned(raw, layout="table")
    assert len(cleaned(raw, layout="table", table="two.csv")[0]) == 1


def test_lines_keep_their_order_in_their_names(tmp_path: Path) -> None:
    raw = archive(tmp_path, {"n/train.txt": b"one\ntwo\r\n" * 6, "n/valid.txt": b"three"})
    rows, _ = cleaned(raw, layout="lines", parts={"train.txt": "train", "valid.txt": "valid"})
    ids = [row["item_id"] for row in rows]
    assert ids == sorted(ids)
    assert Counter(row["part"] for row in rows) == {"train": 12, "valid": 1}
    assert ids[0] == "n/train.txt:01"
    assert {row["text"] for row in rows} == {"one", "two", "three"}


def test_passages_together_are_the_whole_text(tmp_path: Path) -> None:
    text = "".join(f"Line {number} of a book.\n" for number in range(400)) + "The end"
    rows, _ = cleaned(table(tmp_path, text, "book.txt"), layout="passages", passage=500)
    assert "".join(row["text"] for row in rows) == text
    assert all(500 <= len(row["text"]) < 530 for row in rows[:-1])
    assert [row["item_id"] for row in rows] == sorted(row["item_id"] for row in rows)


def test_equal_passages_are_not_copies_but_equal_documents_are(tmp_path: Path) -> None:
    passages, _ = cleaned(table(tmp_path, "again\n" * 50, "book.txt"), layout="passages", passage=6)
    assert len({row["digest"] for row in passages}) == 50
    documents, _ = cleaned(archive(tmp_path / "b", {"a/1.txt": b"same", "b/2.txt": b"same"}))
    assert len({row["digest"] for row in documents}) == 1


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"layout": "lines", "text": "words"}, "text has no effect with `layout: lines`"),
        ({"layout": "table", "level": 2}, "level has no effect"),
        ({"labels": "none", "level": 2}, "no effect with `labels: none`"),
        ({"encoding": "utf-9"}, "Python knows no 'utf-9'"),
    ],
)
def test_a_setting_without_effect_is_an_error(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TextCleaning.model_validate(block)


def test_nothing_to_read_is_an_error_that_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file fits"):
        cleaned(archive(tmp_path, {"a/1.txt": b"a"}), files=["b/"])


@pytest.mark.parametrize("name", ["imdb", "imdb_sample"])
def test_the_generated_edition_has_a_text_for_every_reason(tmp_path: Path, name: str) -> None:
    source = yaml.safe_load((ROOT / "sources" / f"{name}.yaml").read_text())
    settings = {key: value for key, value in source["generated"].items() if key != "generator"}
    made = generate("reviews", {**settings, "file": source["file"]}, tmp_path / "drawn")
    again = generate("reviews", {**settings, "file": source["file"]}, tmp_path / "again")
    assert made[0].read_bytes() == again[0].read_bytes()
    entry = yaml.safe_load((ROOT / "params.yaml").read_text())["applications"][name]
    rows, rejects = cleaned(raw_of(tmp_path / "download", {source["file"]: made[0]}), **entry["clean"])
    reasons = {reject.reason for reject in rejects.values()}
    expected = {
        "empty text",
        "control characters only",
        "no tokens",
        "too long",
        "not in the encoding",
        "no label",
    }
    assert reasons >= expected
    assert reasons - expected == (
        {"unknown validity", "wrong number of fields"} if name == "imdb_sample" else set()
    )
    copies = [count for count in Counter(row["digest"] for row in rows).values() if count > 1]
    assert len(copies) >= 2, "within a part, under two labels"


def test_the_real_reviews_are_read_whole(datasets: Path, tmp_path: Path) -> None:
    raw = raw_of(tmp_path / "a", {"imdb.tgz": datasets / "imdb.tgz"})
    rows, rejects = cleaned(
        raw, files=["imdb/train/", "imdb/test/"], parts={"train": "train", "test": "valid"}
    )
    assert Counter((row["part"], row["label"]) for row in rows) == {
        ("train", "pos"): 1500, ("train", "neg"): 1500, ("valid", "pos"): 600, ("valid", "neg"): 600,
    }  # fmt: skip
    assert not rejects
    sample = raw_of(tmp_path / "b", {"imdb_sample.tgz": datasets / "imdb_sample.tgz"})
    rows, _ = cleaned(sample, layout="table", validity="is_valid")
    assert Counter(row["part"] for row in rows) == {"train": 800, "valid": 200}
