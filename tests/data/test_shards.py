"""Where shards and their row groups end depends on the rows, not on the batches in which they come."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import shards
from data.shards import ShardWriter, shard_paths

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("image", pa.binary()),
        ("columns", pa.dictionary(pa.int32(), pa.string())),
        ("n", pa.int64()),
    ]
)


def rows(count: int) -> list[dict[str, Any]]:
    draw = random.Random(1)
    return [
        {
            "item_id": None if number % 7 == 3 else "\u00fc" * draw.randrange(40),
            "image": draw.randbytes(draw.randrange(900)), "columns": "the same", "n": number,
        }
        for number in range(count)
    ]  # fmt: skip


def groups_of(each: list[dict[str, Any]], *, group_bytes: int, shard_bytes: int) -> list[list[int]]:
    """Rows of each group of each shard, counted row by row."""
    found: list[list[int]] = [[]]
    here = group = shard = 0
    for row in each:
        size = 64 + sum(len(value) for value in row.values() if isinstance(value, bytes | str))
        here, group, shard = here + 1, group + size, shard + size
        if group >= group_bytes or here >= shards.GROUP_ROWS or shard >= shard_bytes:
            found[-1].append(here)
            here = group = 0
        if shard >= shard_bytes:
            found.append([])
            shard = 0
    found[-1] += [here] if here else []
    return [shard for shard in found if shard]


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_groups_and_shards_end_where_rows_one_by_one_end_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(shards, "GROUP_ROWS", 11)
    monkeypatch.setattr(shards, "GROUP_BYTES", 5_000)
    each = rows(300)
    batch = pa.RecordBatch.from_pylist(each, schema=SCHEMA)
    with ShardWriter(tmp_path, SCHEMA, shard_bytes=30_000) as writer:
        for start in range(0, len(each), at_once):
            writer.write(batch.slice(start, at_once))
    found = []
    for path in shard_paths(tmp_path):
        metadata = pq.read_metadata(path)
        found.append([metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)])
    assert found == groups_of(each, group_bytes=5_000, shard_bytes=30_000)
    assert [row for path in shard_paths(tmp_path) for row in pq.read_table(path).to_pylist()] == each


def test_the_bytes_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pylist(rows(5_000), schema=SCHEMA)
    contents = []
    for at_once in (1, 4096, 5_000):
        folder = tmp_path / str(at_once)
        folder.mkdir()
        with ShardWriter(folder, SCHEMA) as writer:
            for start in range(0, batch.num_rows, at_once):
                writer.write(batch.slice(start, at_once))
        contents.append([path.read_bytes() for path in shard_paths(folder)])
    assert contents[0] == contents[1] == contents[2]


def test_without_a_row_there_is_one_empty_shard(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, SCHEMA):
        pass
    (path,) = shard_paths(tmp_path)
    assert pq.read_table(path).num_rows == 0
