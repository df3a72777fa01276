"""What every example has, whatever it shows: index columns, rejects, the join of items with their split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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

    def parts(self) -> dict[str, str]:
        """Part by item id."""
        table = pq.read_table(self.split / "split.parquet")
        return dict(zip(table["item_id"].to_pylist(), table["part"].to_pylist(), strict=True))

    def batches(
        self, parts: Sequence[str] = PARTS, columns: Sequence[str] = ("item_id", "label"), *, rows: int = 256
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of `columns` of the examples in `parts`, in the order of the shards."""
        table = pq.read_table(self.split / "split.parquet")
        wanted = table.filter(pc.is_in(table["part"], pa.array(parts, pa.string())))["item_id"]
        wanted = wanted.combine_chunks()
        for shard in self.shards():
            with pq.ParquetFile(shard) as file:
                read = list(dict.fromkeys([*columns, "item_id"]))
                for batch in file.iter_batches(batch_size=rows, columns=read):
                    chosen = batch.filter(pc.is_in(batch["item_id"], wanted)).select(list(columns))
                    if chosen.num_rows:
                        yield chosen

    def table(self, parts: Sequence[str] = PARTS, columns: Sequence[str] = ("item_id", "label")) -> pa.Table:
        """The same as one table: for the small columns, not for image bytes."""
        batches = list(self.batches(parts, columns, rows=65536))
        if batches:
            return pa.Table.from_batches(batches)
        schema = pq.read_schema(self.shards()[0])
        return pa.schema([schema.field(name) for name in columns]).empty_table()
