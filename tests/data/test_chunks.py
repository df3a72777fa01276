"""Rows and chunks of rows come out alike, with every reject in its place."""

import pyarrow as pa
import pytest

from data import chunks as module
from data.chunks import Chunk, chunks
from data.examples import Reject

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


def row(number: int) -> dict[str, object]:
    return {"n": number, "text": "x" * number}


def told(each: list[Chunk]) -> list[int | str]:
    """The numbers of the rows, with the names of the rejects between them."""
    said: list[int | str] = []
    for chunk in each:
        numbers, rejects = chunk.rows["n"].to_pylist(), list(chunk.rejects)
        for place in range(len(numbers) + 1):
            while rejects and rejects[0][0] == place:
                said.append(rejects.pop(0)[1].item_id)
            said += numbers[place : place + 1]
    return said


@pytest.mark.parametrize(("rows", "size"), [(4096, 8 * 2**20), (2, 8 * 2**20), (4096, 100)])
def test_the_order_is_kept_wherever_chunks_end(monkeypatch: pytest.MonkeyPatch, rows: int, size: int) -> None:
    monkeypatch.setattr(module, "GROUP_ROWS", rows)
    monkeypatch.setattr(module, "GROUP_BYTES", size)
    batch = pa.RecordBatch.from_pylist([row(4), row(5)], schema=SCHEMA)
    made = Chunk(rows=batch, rejects=((1, Reject("c", "cut")),))
    found = [
        row(1),
        Reject("a", "empty"),
        Reject("b", "empty"),
        row(2),
        row(3),
        made,
        row(6),
        Reject("d", ""),
    ]
    assert told(list(chunks(found, SCHEMA))) == [1, "a", "b", 2, 3, 4, "c", 5, 6, "d"]


def test_nothing_gives_no_chunk() -> None:
    assert list(chunks([], SCHEMA)) == []
