"""Copies are found in whole columns as they would be found row by row."""

import random
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.copies import Index, among, shared_digests, twice

Row = tuple[str, str, str | None, str | None]


def rows_of(count: int, *, seed: int) -> list[Row]:
    """Name, digest, label and part of rows among which names and contents come again."""
    draw = random.Random(seed)
    return [
        (
            f"item {draw.randrange(2 * count)}",
            sha256(str(draw.randrange(count)).encode()).hexdigest(),
            draw.choice(["a", "a", "a", "b", None]),
            draw.choice(["train", "valid", None]),
        )
        for _ in range(count)
    ]


def index_of(rows: list[Row], *, at_once: int) -> Index:
    names = ("item_id", "digest", "label", "part")
    batch = pa.RecordBatch.from_pylist(
        [dict(zip(names, row, strict=True)) for row in rows],
        pa.schema([(name, pa.string()) for name in names]),
    )
    index = Index()
    for start in range(0, len(rows), at_once):
        index.add(batch.slice(start, at_once))
    return index


def late_one_by_one(rows: list[Row]) -> dict[int, str]:
    """Reason by row, with dictionaries."""
    found: dict[int, str] = {}
    names: set[str] = set()
    contents: dict[str, list[int]] = {}
    for number, (name, digest, _, _) in enumerate(rows):
        if name in names:
            found[number] = "duplicate name"
        else:
            names.add(name)
            contents.setdefault(digest, []).append(number)
    for numbers in contents.values():
        labelled = [number for number in numbers if rows[number][2] is not None]
        if len({rows[number][2] for number in labelled}) > 1:
            found |= dict.fromkeys(labelled, "two labels")
            numbers = [number for number in numbers if number not in labelled]
        for part in {rows[number][3] for number in numbers}:
            here = [number for number in numbers if rows[number][3] == part]
            stays = next((number for number in here if rows[number][2] is not None), here[0])
            found |= {number: "exact duplicate" for number in here if number != stays}
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_once", [1, 64, 1000])
def test_late_rejects_as_found_one_by_one(seed: int, at_once: int) -> None:
    rows = rows_of(200, seed=seed)
    index = index_of(rows, at_once=at_once)
    late = index.late()
    found = late_one_by_one(rows)
    assert {row: reason for row, reason, _, _ in late} == found
    kept = [label for number, (_, _, label, _) in enumerate(rows) if number not in found and label]
    assert index.labels(without=late) == {label: kept.count(label) for label in set(kept)}


def test_only_digests_that_occur_again_are_named(tmp_path: Path) -> None:
    digests = [row[1] for row in rows_of(60, seed=3)]
    paths = [tmp_path / "items-00000.parquet", tmp_path / "items-00001.parquet"]
    for path, here in zip(paths, (digests[:40], digests[40:]), strict=True):
        pq.write_table(pa.table({"digest": here}), path)
    expected = [digest if digests.count(digest) > 1 else None for digest in digests]
    assert shared_digests(paths).to_pylist() == expected
    assert None in expected
    pq.write_table(pa.table({"digest": sorted(set(digests))}), paths[0])
    assert shared_digests(paths[:1]).null_count == len(set(digests))


def test_values_that_occur_twice_and_membership() -> None:
    values = np.array([5, 1, 5, 2, 1, 5, 9])
    assert twice(values).tolist() == [1, 5]
    assert among(values, twice(values)).tolist() == [True, True, True, False, True, True, False]
    assert not among(values, np.array([], np.int64)).any()
