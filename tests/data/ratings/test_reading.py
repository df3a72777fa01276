"""Delimited text: published layouts, and files that are wrong as a whole."""

from pathlib import Path
from typing import Any

import pytest

from data.ratings import reading
from data.ratings.reading import Lines, read_delimited
from data.ratings.settings import Delimited
from tests.jobs import raw_of


def read(folder: Path, content: bytes, wanted: list[str], **settings: Any) -> Lines:
    raw = raw_of(folder / "download", {"t.csv": content})
    return read_delimited(raw, Delimited(file="t.csv", **settings), wanted)


def test_the_wanted_columns_are_read_as_trimmed_text(tmp_path: Path) -> None:
    lines = read(tmp_path, b'a,b,c\n 1 ,"x, ""y""",3\n2,,\n', ["b", "a"])
    assert lines.table.to_pydict() == {"b": ['x, "y"', None], "a": ["1", "2"]}
    assert lines.number.tolist() == [2, 3]


def test_a_file_without_a_header_gets_names_for_its_first_columns(tmp_path: Path) -> None:
    lines = read(tmp_path, "1|Amélie \"Poulain\"|x\n".encode("latin-1"), ["title"], delimiter="|",
                 columns=["item", "title"], encoding="latin-1", quote="")  # fmt: skip
    assert lines.table["title"].to_pylist() == ['Amélie "Poulain"']
    assert lines.number.tolist() == [1]


def test_a_delimiter_of_several_characters(tmp_path: Path) -> None:
    lines = read(tmp_path, b"1::10::4.5\n2::11::3\n", ["user", "rating"], delimiter="::",
                 columns=["user", "item", "rating"])  # fmt: skip
    assert lines.table.to_pylist() == [{"user": "1", "rating": "4.5"}, {"user": "2", "rating": "3"}]


def test_a_byte_order_mark_and_windows_line_ends_are_no_content(tmp_path: Path) -> None:
    lines = read(tmp_path, b"\xef\xbb\xbfa,b\r\n1,2\r\n", ["a", "b"])
    assert lines.table.to_pylist() == [{"a": "1", "b": "2"}]


def test_lines_that_are_no_records_are_numbered_over_all_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK", 64)
    content = b"a,b\n" + b"1,2\n" * 50 + b"only one\n\n" + b"1,2\n" * 50 + b"1,2,3\n,\n"
    lines = read(tmp_path, content, ["a", "b"])
    assert lines.broken == {52: "1 fields in the place of 2", 104: "3 fields in the place of 2"}
    assert lines.blank == 1
    assert lines.number.tolist() == [*range(2, 52), *range(54, 104), 105]
    assert lines.table.num_rows == 101


@pytest.mark.parametrize(
    ("content", "wanted", "settings", "message"),
    [
        (b"userId,movieId\n1,2\n", "movieid", {}, "no column 'movieid'; did you mean 'movieId'"),
        (b"user;item\n1;2\n", "zzz", {}, r"is the delimiter ','\?"),
        (b"a,a\n1,2\n", "a", {}, "2 columns called 'a'"),
        (b"a\n1\n", "b", {"columns": ["a", "b"]}, "names 2 columns, but its first line has 1"),
        (b"\n  \n", "a", {}, "is empty"),
        ("a\né\n".encode("latin-1"), "a", {}, "line 2: the text is not utf-8.*latin-1"),
        (b"a\0,b\n", "b", {}, "no text"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_named(
    tmp_path: Path, content: bytes, wanted: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, content, [wanted], **settings)
    assert "t.csv" in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    raw = raw_of(tmp_path / "download", {"rating.csv": b"a\n"})
    with pytest.raises(ValueError, match=r"no file 'ratings.csv'.*did you mean 'rating.csv'"):
        read_delimited(raw, Delimited(file="ratings.csv"), ["a"])
