"""Drawn texts: the official layout to the byte, and every reason for which a text is left out."""

import tarfile
from collections import Counter
from pathlib import Path

import pytest

from data.archives import Raw
from data.editions import generate
from data.editions.numerals import in_words
from data.examples import Reject
from data.text.cleaning import TextCleaning, clean_texts
from tests.data.editions.test_editions import drawn
from tests.jobs import raw_of


def reasons(raw: Raw, block: TextCleaning) -> Counter[str]:
    return Counter(row.reason for row in clean_texts(raw, block) if isinstance(row, Reject))


def test_numbers_up_to_9999_are_the_published_files(datasets: Path, tmp_path: Path) -> None:
    spans = {"human_numbers/train.txt": [1, 7999], "human_numbers/valid.txt": [8001, 9999]}
    (path,) = generate("numerals", {"file": "x.tgz", "files": spans}, tmp_path)
    with tarfile.open(path) as ours, tarfile.open(datasets / "human_numbers.tgz") as theirs:
        for name in spans:
            mine, published = ours.extractfile(name), theirs.extractfile(name)
            assert mine is not None
            assert published is not None
            assert mine.read() == published.read()


def test_numbers_in_words() -> None:
    assert in_words(8042) == "eight thousand forty two"
    assert in_words(120_000) == "one hundred twenty thousand"


def test_every_fault_of_a_line_is_planted_and_found(tmp_path: Path) -> None:
    (path,) = drawn("human_numbers", tmp_path / "drawn")
    raw = raw_of(tmp_path / "download", {path.name: path})
    assert reasons(raw, TextCleaning(layout="lines", most=2000)) == {
        "empty text": 1, "control characters only": 1, "no tokens": 1, "too long": 1,
        "not in the encoding": 1,
    }  # fmt: skip


def test_every_fault_of_a_passage_is_planted_and_found(tmp_path: Path) -> None:
    (path,) = drawn("nietzsche", tmp_path / "drawn")
    raw = raw_of(tmp_path / "download", {path.name: path})
    found = reasons(raw, TextCleaning(layout="passages", passage=500, most=4000))
    assert set(found) == {"empty text", "control characters only", "no tokens", "too long"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"files": {"a.txt": [5, 2]}}, "the first not above the last"),
        ({"files": {"a.txt": [1, 2]}, "faults": "b.txt"}, "not in 'b.txt'"),
    ],
)
def test_settings_that_cannot_be_drawn(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        generate("numerals", {"file": "x.tgz", **settings}, tmp_path)
