"""Item files: Parquet shards of bounded size, written in order, with the same bytes for the same rows."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SHARD_BYTES = 256 * 10**6
"""Bytes of values after which a shard ends: DVC hashes few files, and a rewrite stays short."""

GROUP_BYTES = 8 * 2**20
"""Bytes of values per row group: what a reader holds at once."""

GROUP_ROWS = 4096
"""Rows per row group, where rows are small."""


class ShardWriter:
    """Writes rows to `items-00000.parquet`, ...; as a context, so that the last shard is closed.

    Where groups and shards end depends on the rows alone, not on the batches in which they come.
    Without a row there is still one shard, empty, with the schema.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.schema, self.shard_bytes = folder, schema, shard_bytes
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._group = self._shard = self._number = 0
        self._writer: Any = None

    def write(self, rows: pa.RecordBatch) -> None:
        """Add rows of the schema."""
        ends = np.cumsum(_sizes(rows))
        start = before = 0
        while start < rows.num_rows:
            room = min(GROUP_BYTES - self._group, self.shard_bytes - self._shard)
            full = int(np.searchsorted(ends, before + room)) + 1  # the row that fills it is still in
            stop = min(full, start + GROUP_ROWS - self._rows, rows.num_rows)
            size = int(ends[stop - 1]) - before
            self._batches.append(rows.slice(start, stop - start))
            self._rows += stop - start
            self._group += size
            self._shard += size
            if self._group >= GROUP_BYTES or self._rows >= GROUP_ROWS:
                self._flush()
            if self._shard >= self.shard_bytes:
                self._close()
            start, before = stop, before + size

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._rows or self._number == 0):
            self._flush()
        if self._writer is not None:
            self._close(flush=kind is None)

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = _writer(_path(self.folder, self._number), self.schema)
        if self._rows:
            # in one piece: pages end where pieces do
            self._writer.write_table(pa.Table.from_batches(self._batches, self.schema).combine_chunks())
        self._batches, self._rows, self._group = [], 0, 0

    def _close(self, *, flush: bool = True) -> None:
        if flush and self._rows:
            self._flush()
        self._writer.close()
        self._writer, self._shard = None, 0
        self._number += 1


def _sizes(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """About how many bytes each row holds: characters of its texts, bytes of its images."""
    sizes = np.full(rows.num_rows, 64, dtype=np.int64)
    for column in rows.columns:
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        if pa.types.is_string(texts.type) or pa.types.is_binary(texts.type):
            lengths = pc.utf8_length(texts) if pa.types.is_string(texts.type) else pc.binary_length(texts)
            lengths = lengths if texts is column else lengths.take(column.indices)
            sizes += pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
    return sizes


def shard_paths(folder: Path) -> list[Path]:
    """The item files in order."""
    return sorted(folder.glob("items-*.parquet"))


def drop_rows(folder: Path, rows: npt.NDArray[np.int64]) -> None:
    """Leave out rows by their number over all shards; only shards that hold one are rewritten.

    A shard of which nothing is left goes, and the later ones move up.
    """
    start = kept = 0
    for path in shard_paths(folder):
        with pq.ParquetFile(path) as file:
            count = file.metadata.num_rows
            here = rows[(rows >= start) & (rows < start + count)] - start
            start += count
            if len(here) == count and count:
                path.unlink()
                continue
            if len(here):
                partial = path.with_suffix(".partial")
                _rewrite(file, partial, here)
                partial.replace(path)
        path.replace(_path(folder, kept))
        kept += 1


def _rewrite(file: Any, path: Path, rows: npt.NDArray[np.int64]) -> None:
    start = 0
    with _writer(path, file.schema_arrow) as writer:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            keep = np.ones(group.num_rows, dtype=bool)
            keep[rows[(rows >= start) & (rows < start + group.num_rows)] - start] = False
            start += group.num_rows
            if keep.any():
                writer.write_table(group.filter(pa.array(keep)))


def _path(folder: Path, number: int) -> Path:
    return folder / f"items-{number:05}.parquet"


def _writer(path: Path, schema: pa.Schema) -> Any:
    # Dictionaries pay for labels, not for the bytes of images; level 1 hardly slows on JPEG.
    repeated = [
        field.name
        for field in schema
        if field.name in {"label", "part", "group"} or pa.types.is_dictionary(field.type)
    ]
    return pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=repeated, write_statistics=False
    )
