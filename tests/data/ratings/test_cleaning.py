"""Ratings to rows and rejects: every reason, which of two ratings stays, and the published files."""

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from data.chunks import Chunk
from data.editions.ratings import draw_ratings
from data.examples import Reject
from data.ratings import cleaning
from data.ratings.cleaning import clean_ratings
from data.ratings.settings import RatingCleaning
from tests.jobs import raw_of

HEAD = b"userId,movieId,rating,timestamp\n"
FILMS = b"movieId,title\n1,Emma (1996)\n2,Emma (1996)\n3,\n4,One\n4,Other\n"

TABBED: dict[str, Any] = {
    "ratings": {"file": "u.data", "delimiter": "\t", "columns": ["user", "item", "rating", "time"],
                "user": "user", "item": "item", "time": "time"},
    "titles": {"file": "u.item", "delimiter": "|", "encoding": "latin-1", "quote": "",
               "columns": ["item", "title"], "item": "item"},
}  # fmt: skip


def clean(folder: Path, lines: bytes, **block: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Rows and rejects of a file of ratings beside a list of films."""
    raw = raw_of(folder / "download", {"ratings.csv": lines, "movies.csv": FILMS})
    settings = RatingCleaning.model_validate({"range": [0.5, 5], **block})
    return apart(clean_ratings(raw, settings))


def apart(found: Iterable[Chunk]) -> tuple[list[dict[str, Any]], list[Reject]]:
    each = [*found]
    rows = [row for chunk in each for row in chunk.rows.to_pylist()]
    return rows, [reject for chunk in each for _, reject in chunk.rejects]


def test_a_rating_becomes_a_row_of_the_schema(tmp_path: Path) -> None:
    block = {"ratings": {"time": "timestamp"}, "titles": {}}
    rows, rejects = clean(tmp_path, HEAD + b"7,1,4.5,964982703\n", **block)
    (row,) = rows
    assert not rejects
    assert (row["item_id"], row["user"], row["item"], row["title"], row["rating"]) == (
        "ratings.csv:2", "7", "1", "Emma (1996)", 4.5,
    )  # fmt: skip
    assert row["time"].isoformat() == "2000-07-30T18:45:03"
    assert row["label"] is None


def test_two_things_of_one_title_stay_two(tmp_path: Path) -> None:
    rows, _ = clean(tmp_path, HEAD + b"7,1,4,0\n7,2,3,0\n", titles={})
    assert [(row["item"], row["title"]) for row in rows] == [("1", "Emma (1996)"), ("2", "Emma (1996)")]


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"7,1,5.5,0", "rating out of range", "5.5 is not in 0.5 to 5"),
        (b"7,1,0,0", "rating out of range", "0 is not in 0.5 to 5"),
        (b"7,1,four,0", "rating is not a number", "'four'"),
        (b"7,1,nan,0", "rating is not a number", "'nan'"),
        (b"7,1,inf,0", "rating is not a number", "'inf'"),
        (b"7,1,,0", "missing rating", "user '7'"),
        (b",1,4,0", "missing user", "item '1'"),
        (b"7, ,4,0", "missing item", "user '7'"),
        (b"7,1,4,soon", "unreadable time", "'soon' is no time"),
        (b"7,1,4,1666666666666", "unreadable time", "'1666666666666' is no time"),
        (b"7,1,4,", "unreadable time", "None is no time"),
        (b"7,9,4,0", "unknown item", "movies.csv does not hold it"),
        (b"7,3,4,0", "item without one title", "movies.csv has no title"),
        (b"7,4,4,0", "item without one title", "or several"),
        (b"7,1,4", "not a record", "3 fields in the place of 4"),
        (b"7,1,4,0,0", "not a record", "5 fields in the place of 4"),
    ],
)
def test_what_cannot_be_counted_is_rejected_with_its_line(
    tmp_path: Path, line: bytes, reason: str, detail: str
) -> None:
    block = {"ratings": {"time": "timestamp"}, "titles": {}}
    rows, rejects = clean(tmp_path, HEAD + b"1,1,4,0\n" + line + b"\n2,1,4,0\n", **block)
    assert [row["user"] for row in rows] == ["1", "2"]
    ((reject),) = rejects
    assert (reject.item_id, reject.reason) == ("ratings.csv:3", reason)
    assert "line 3" in reject.detail
    assert detail in reject.detail


def test_of_two_ratings_of_one_thing_the_later_one_counts(tmp_path: Path) -> None:
    lines = HEAD + b"7,1,2,300\n7,1,3,900\n7,1,4,600\n8,1,1,0\n"
    rows, rejects = clean(tmp_path, lines, ratings={"time": "timestamp"})
    assert [(row["user"], row["rating"]) for row in rows] == [("7", 3.0), ("8", 1.0)]
    assert {each.reason for each in rejects} == {"rated again"}
    assert "line 3 is later, with rating '3'" in rejects[0].detail
    assert "line 3 is later, with rating '3'" in rejects[1].detail


def test_without_a_time_the_last_line_counts(tmp_path: Path) -> None:
    rows, rejects = clean(tmp_path, HEAD + b"7,1,2,300\n7,1,3,200\n7,1,3,100\n")
    assert [row["item_id"] for row in rows] == ["ratings.csv:4"]
    assert len(rejects) == 2


def test_a_rating_that_is_rejected_supersedes_none(tmp_path: Path) -> None:
    rows, _ = clean(tmp_path, HEAD + b"7,1,2,0\n7,1,99,0\n")
    assert [row["rating"] for row in rows] == [2.0]


def test_times_may_be_iso_text_beside_seconds(tmp_path: Path) -> None:
    lines = HEAD + b"7,1,2,2019-01-22 08:30\n8,1,2,2019-01-22T08:30:00Z\n9,1,2,1548145800\n"
    rows, rejects = clean(tmp_path, lines, ratings={"time": "timestamp"})
    assert not rejects
    assert len({row["time"] for row in rows}) == 1


def test_item_ids_sort_as_the_lines_do(tmp_path: Path) -> None:
    rows, _ = clean(tmp_path, HEAD + b"".join(b"%d,1,4,0\n" % user for user in range(1, 30)))
    ids = [row["item_id"] for row in rows]
    assert ids == sorted(ids)
    assert ids[0] == "ratings.csv:02"


def test_the_digest_holds_who_what_and_how_much(tmp_path: Path) -> None:
    lines = HEAD + b"1,1,4,0\n11,1,4,0\n1,2,4,0\n2,1,3,0\n"
    rows, _ = clean(tmp_path, lines)
    again, _ = clean(tmp_path / "again", lines.replace(b"2,1,3,0", b"2,1,3.5,0"))
    assert len({row["digest"] for row in rows}) == 4
    assert [a["digest"] == b["digest"] for a, b in zip(rows, again, strict=True)] == [True, True, True, False]


def test_the_range_must_be_given() -> None:
    with pytest.raises(ValidationError, match="range"):
        RatingCleaning.model_validate({})
    with pytest.raises(ValidationError, match="lowest, highest"):
        RatingCleaning.model_validate({"range": [5, 0.5]})


@pytest.mark.parametrize("layout", ["headed", "tabbed", "bare"])
def test_the_drawn_edition_plants_every_reason(tmp_path: Path, layout: str) -> None:
    steps = [1.0, 5.0, 1.0] if layout == "tabbed" else [0.5, 5.0, 0.5]
    (archive,) = draw_ratings({"file": "a.zip", "folder": "f", "layout": layout, "steps": steps}, tmp_path)
    blocks = {"headed": {"ratings": {"time": "timestamp"}, "titles": {}}, "tabbed": TABBED,
              "bare": {"ratings": {"time": "timestamp"}}}  # fmt: skip
    raw = raw_of(tmp_path / "download", {"a.zip": archive.read_bytes()})
    rows, rejects = apart(
        clean_ratings(raw, RatingCleaning.model_validate({"range": steps[:2], **blocks[layout]}))
    )
    reasons = Counter(each.reason for each in rejects)
    titled = {"unknown item": 1, "item without one title": 2} if layout != "bare" else {}
    assert reasons == {
        "rating out of range": 2, "rating is not a number": 2, "missing user": 1, "missing item": 1,
        "missing rating": 1, "unreadable time": 1, "not a record": 2, "rated again": 3, **titled,
    }  # fmt: skip
    assert raw.ignored["empty lines"] == 1
    assert len(rows) > 4_000
    titles = {row["item"]: row["title"] for row in rows}
    assert layout == "bare" or len(set(titles.values())) == len(titles) - 1  # one title stands for two films


def test_drawn_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    settings = {"file": "a.tgz", "folder": "f", "layout": "headed", "users": 9, "items": 20, "each": 6}
    first, second = (
        draw_ratings(settings, folder)[0].read_bytes()
        for folder in (made(tmp_path, "1"), made(tmp_path, "2"))
    )
    assert first == second


def made(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def test_the_published_files_are_read_whole(tmp_path: Path, datasets: Path) -> None:
    whole = raw_of(tmp_path / "small", {"ml-latest-small.zip": datasets / "ml-latest-small.zip"})
    rows, rejects = apart(
        clean_ratings(
            whole,
            RatingCleaning.model_validate(
                {"range": [0.5, 5], "ratings": {"time": "timestamp"}, "titles": {}}
            ),
        )
    )
    assert (len(rows), rejects) == (100_836, [])
    assert len({row["user"] for row in rows}) == 610
    titles = {row["item"]: row["title"] for row in rows}
    assert len(titles) == 9_724
    assert titles["1"] == "Toy Story (1995)"
    assert len(set(titles.values())) < len(titles)  # Emma (1996) and others are two films each


def test_files_without_a_header_and_in_latin_1(tmp_path: Path, datasets: Path) -> None:
    raw = raw_of(tmp_path / "tabbed", {"ml-100k.zip": datasets / "ml-100k.zip"})
    rows, rejects = apart(clean_ratings(raw, RatingCleaning.model_validate({"range": [1, 5], **TABBED})))
    assert (len(rows), rejects) == (47_027, [])
    assert {row["rating"] for row in rows} == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_chunks_end_anywhere_and_digests_are_those_of_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = {3: b"7,1", 4: b"9,1,99,0", 8: b"1,2,3,4,5", 12: b"1,2,3,4,5"}
    lines = [
        faults.get(number, b"%d,%d,%d.5,%d" % (number % 5, number, number % 4, number))
        for number in range(13)
    ]
    whole = clean(tmp_path / "whole", HEAD + b"\n".join(lines), ratings={"time": "timestamp"})
    monkeypatch.setattr(cleaning, "CHUNK", 3)
    parted = clean(tmp_path / "parted", HEAD + b"\n".join(lines), ratings={"time": "timestamp"})
    assert whole == parted
    rows, rejects = whole
    assert [reject.item_id for reject in rejects] == [f"ratings.csv:{line:02}" for line in (5, 6, 10, 14)]
    for row in rows:
        content = f"{row['user']}\0{row['item']}\0{row['rating']!r}"
        assert row["digest"] == sha256(content.encode()).hexdigest()


def test_numbers_are_read_in_columns_as_pandas_reads_them_one_by_one() -> None:
    texts = ["3", "3.5", "-2.", ".5", "1e3", "inf", "-inf", "nan", "four", "0x10", "1,5", "1_000", None, "+7"]
    expected = pd.to_numeric(pd.Series(texts), errors="coerce").to_numpy(np.float64)
    assert np.array_equal(cleaning._numbers(pa.array(texts)), expected, equal_nan=True)
