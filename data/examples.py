"""What every example has, whatever it shows: index columns, rejects, the join of items with their split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PARTS = ("train", "valid", "test")

INDEX = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),  # unique; the name inside the published archive
        pa.field("label", pa.string()),  # what stratification and duplicates compare; null: unlabelled
        pa.field("part", pa.string()),  # the part that the publisher put it in; null: none published
        pa.field("group", pa.string()),  # examples of one group (person, car, scene) belong together
        pa.field("time", pa.timestamp("us")),  # for splits by time
        pa.field("digest", pa.string(), nullable=False),  # sha256 of the decoded content, hexadecimal
    ]
)
"""Columns that open every item schema; a recipe's own columns follow."""

REJECTS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # a short constant, to be counted
        pa.field("detail", pa.string(), nullable=False),  # what exactly, for the person who looks
    ]
)

SPLIT = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),  # one of PARTS
    ]
)


@dataclass(frozen=True)
class Reject:
    """An example that was left out, and why."""

    item_id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Items:
    """The cleaned examples with the part that each belongs to, read by columns and never all at once."""

    clean: Path
    """Folder with `items-*.parquet`."""
    split: Path
    """Folder with `split.parquet`."""

    def shards(self) -> list[Path]:
        """The item files in order."""
        return sorted(self.clean.glob("items-*.parquet"))

    @cached_property
    def places(self) -> npt.NDArray[np.int8]:
        """The part of each example in the order of the shards: its place in PARTS, -1 where it is in none.

        ValueError where the split names an example that is not there, or one twice: it is of other items.
        """
        file = self.split / "split.parquet"
        table = pq.read_table(file, read_dictionary=["part"])
        names = table["item_id"].cast(pa.string())
        codes = pc.index_in(table["part"], value_set=pa.array(PARTS)).to_numpy().astype(np.int8)
        places: list[npt.NDArray[np.int8]] = []
        start = 0
        for shard in self.shards():
            there = _names(shard)
            if there.equals(names.slice(start, len(there))):  # one order: no name has to be looked up
                places.append(codes[start : start + len(there)])
                start += len(there)
            else:
                return self._looked_up(names, codes)
        if start < len(names):
            raise _of_other_items(file, names[start])
        return np.concatenate([np.empty(0, np.int8), *places])

    def _looked_up(self, names: pa.ChunkedArray, codes: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """`places`, where the split has another order than the items, or leaves some out."""
        there = pa.chunked_array(
            [chunk for shard in self.shards() for chunk in _names(shard).chunks], pa.string()
        )
        rows = pc.index_in(names, value_set=there)
        if rows.null_count:
            raise _of_other_items(self.split / "split.parquet", names.filter(pc.is_null(rows))[0])
        places = np.full(len(there), -1, dtype=np.int8)
        places[rows.to_numpy()] = codes
        if (places >= 0).sum() < len(names):
            raise ValueError(f"{self.split / 'split.parquet'} names an item twice; run split again")
        return places

    def count(self, parts: Sequence[str] = PARTS) -> int:
        """How many examples there are in `parts`."""
        return int(self.chosen(parts).sum())

    def chosen(self, parts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which examples are in `parts`, in the order of the shards."""
        return np.isin(self.places, [PARTS.index(part) for part in parts])

    def batches(
        self, parts: Sequence[str] = PARTS, columns: Sequence[str] = ("item_id", "label"), *, rows: int = 256
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of `columns` of the examples in `parts`, in the order of the shards."""
        chosen = self.chosen(parts)
        start = 0
        for shard in self.shards():
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                    here = chosen[start : start + batch.num_rows]
                    start += batch.num_rows
                    if here.any():
                        found = batch if here.all() else batch.filter(pa.array(here))
                        yield found.select(list(columns))

    def table(self, parts: Sequence[str] = PARTS, columns: Sequence[str] = ("item_id", "label")) -> pa.Table:
        """The same as one table: for the small columns, not for image bytes."""
        batches = list(self.batches(parts, columns, rows=65536))
        if batches:
            return pa.Table.from_batches(batches)
        schema = pq.read_schema(self.shards()[0])
        return pa.schema([schema.field(name) for name in columns]).empty_table()


def _names(shard: Path) -> pa.ChunkedArray:
    """The examples' ids; texts, whichever of its two kinds of them Arrow has written."""
    return pq.read_table(shard, columns=["item_id"])["item_id"].cast(pa.string())


def _of_other_items(file: Path, name: pa.Scalar) -> ValueError:
    return ValueError(f"{file} names {name.as_py()!r}, which clean does not hold; run split again")
