"""Cleaned examples side by side: what `clean` works on, however a recipe makes its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from data.examples import Reject
from data.shards import GROUP_BYTES, GROUP_ROWS


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Neighbouring examples, and what was left out among them."""

    rows: pa.RecordBatch
    """Of the item schema."""
    rejects: tuple[tuple[int, Reject], ...] = ()
    """Each with the number of `rows` that stand before it, ascending."""


Found = Mapping[str, Any] | Reject | Chunk
"""What a recipe's `clean` yields: one example, what is left out, or many of both at once."""


def chunks(found: Iterable[Found], schema: pa.Schema) -> Iterator[Chunk]:
    """All of `found` in its order; single rows are gathered to as many as a row group holds."""
    rows: list[Mapping[str, Any]] = []
    rejects: list[tuple[int, Reject]] = []
    size = 0

    def gathered() -> Chunk:
        chunk = Chunk(rows=pa.RecordBatch.from_pylist(rows, schema=schema), rejects=tuple(rejects))
        rows.clear()
        rejects.clear()
        return chunk

    for each in found:
        if isinstance(each, Reject):
            rejects.append((len(rows), each))
        elif not isinstance(each, Chunk):
            rows.append(each)
            size += 64 + sum(len(value) for value in each.values() if isinstance(value, bytes | str))
        if isinstance(each, Chunk) or len(rows) + len(rejects) >= GROUP_ROWS or size >= GROUP_BYTES:
            size = 0
            if rows or rejects:
                yield gathered()
        if isinstance(each, Chunk):
            assert each.rows.schema.equals(schema), "a chunk holds rows of the recipe's schema"
            yield each
    if rows or rejects:
        yield gathered()
