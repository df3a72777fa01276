"""Item files: Parquet shards of bounded size, written in order, with the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

SHARD_BYTES = 256 * 10**6
"""Bytes of values after which a shard ends: DVC hashes few files, and a rewrite stays short."""

GROUP_BYTES = 8 * 2**20
"""Bytes of values per row group: what a reader holds at once."""

GROUP_ROWS = 4096
"""Rows per row group, where rows are small."""


class ShardWriter:
    """Writes rows to `items-00000.parquet`, ...; as a context, so that the last shard is closed.

    Without a row there is still one shard, empty, with the schema.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.schema, self.shard_bytes = folder, schema, shard_bytes
        self._rows: list[Mapping[str, Any]] = []
        self._group = self._shard = self._number = 0
        self._writer: Any = None

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one row of the schema."""
        self._rows.append(row)
        size = 64 + sum(len(value) for value in row.values() if isinstance(value, bytes | str))
        self._group += size
        self._shard += size
        if self._group >= GROUP_BYTES or len(self._rows) >= GROUP_ROWS:
            self._flush()
        if self._shard >= self.shard_bytes:
            self._close()

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
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self.schema))
        self._rows, self._group = [], 0

    def _close(self, *, flush: bool = True) -> None:
        if flush and self._rows:
            self._flush()
        self._writer.close()
        self._writer, self._shard = None, 0
        self._number += 1


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
