"""Copies among all rows, found with 40 bytes a row: a name twice, a content under two labels, duplicates."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.digests import content_of

Key = np.dtype([("high", "<u8"), ("low", "<u8")])
"""16 bytes of a hash: among a billion rows two meet by chance with a probability of 1e-21."""


HALF = np.dtype("<u8")
"""Half a key, by which most rows are told apart already."""


class Index:
    """What the comparison needs of each row."""

    def __init__(self) -> None:
        self._items, self._digests = bytearray(), bytearray()
        self._labels, self._parts = array("i"), array("i")
        self._label_codes: dict[str | None, int] = {None: -1}
        self._part_codes: dict[str | None, int] = {None: -1}

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, rows: pa.RecordBatch) -> None:
        """Note the next rows: item_id, digest (hexadecimal, at least 16 bytes), label and part."""
        names = rows["item_id"].cast(pa.binary()).to_pylist()
        self._items += b"".join([blake2b(name, digest_size=16).digest() for name in names])
        self._digests += bytes.fromhex(
            str(content_of(pc.utf8_slice_codeunits(rows["digest"], 0, 32)), "ascii")
        )
        _note(rows["label"], self._labels, self._label_codes)
        _note(rows["part"], self._parts, self._part_codes)

    def labels(self, *, without: Late) -> Counter[str]:
        """Rows by label, of the rows that stay."""
        codes = np.delete(np.frombuffer(self._labels, dtype=np.int32), without.rows())
        names = {code: name for name, code in self._label_codes.items()}
        values, counts = np.unique(codes, return_counts=True)
        return Counter(
            {
                str(names[int(value)]): int(count)
                for value, count in zip(values, counts, strict=True)
                if value >= 0
            }
        )

    def late(self) -> Late:
        """Rows to leave out now that all are known.

        `duplicate name`: all but the first of one item id. `two labels`: every labelled row of a content
        that stands under two labels, in whatever parts. `exact duplicate`: of one content within one part
        the first labelled row stays (the first, where none is).
        """
        labels = np.frombuffer(self._labels, dtype=np.int32)
        parts = np.frombuffer(self._parts, dtype=np.int32)
        names = {code: name for name, code in self._label_codes.items()}
        found: dict[int, tuple[str, int, tuple[str, ...]]] = {}
        for rows in _repeated(self._items, np.arange(len(self))):
            for row in rows[1:].tolist():
                found[row] = ("duplicate name", int(rows[0]), ())
        left = np.delete(np.arange(len(self)), sorted(found))
        for rows in _repeated(self._digests, left):
            labelled = rows[labels[rows] >= 0]
            distinct = np.unique(labels[labelled])
            if len(distinct) > 1:
                said = tuple(sorted(str(names[int(code)]) for code in distinct))
                for row in labelled.tolist():
                    other = labelled[labels[labelled] != labels[row]][0]
                    found[row] = ("two labels", int(other), said)
                rows = rows[labels[rows] < 0]
            for part in np.unique(parts[rows]):
                here = rows[parts[rows] == part]
                stays = int(here[np.argmax(labels[here] >= 0)])
                for row in here.tolist():
                    if row != stays:
                        found[row] = ("exact duplicate", stays, ())
        return Late(found)


class Late:
    """Rows to leave out, with their reason, the other row that speaks against them, and the labels met."""

    def __init__(self, found: dict[int, tuple[str, int, tuple[str, ...]]]) -> None:
        self._found = found

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[tuple[int, str, int, tuple[str, ...]]]:
        for row in sorted(self._found):
            yield (row, *self._found[row])

    def rows(self) -> npt.NDArray[np.int64]:
        """Their numbers, ascending."""
        return np.array(sorted(self._found), dtype=np.int64)

    def mentioned(self) -> set[int]:
        """They and the rows that speak against them."""
        return {*self._found, *(other for _, other, _ in self._found.values())}


def shared_digests(paths: Sequence[Path]) -> pa.ChunkedArray:
    """The digest of each row of item files where another row may have the same; null for all the others."""
    halves = np.concatenate([np.empty(0, HALF), *(_halves(column) for column in _digest_columns(paths))])
    repeated = twice(halves)
    if not len(repeated):
        return pa.chunked_array([pa.nulls(len(halves), pa.string())])
    shared = (
        pc.if_else(pa.array(among(_halves(column), repeated)), column, pa.scalar(None, pa.string()))
        for column in _digest_columns(paths)
    )
    return pa.chunked_array([*shared], pa.string())


def _digest_columns(paths: Sequence[Path]) -> Iterator[pa.Array]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["digest"]):
                yield batch["digest"]


def _halves(digests: pa.Array) -> npt.NDArray[Any]:
    """The first 8 bytes of each."""
    texts = pc.utf8_slice_codeunits(digests, 0, 2 * HALF.itemsize)
    return np.frombuffer(bytes.fromhex(str(content_of(texts), "ascii")), HALF)


def _note(column: pa.Array, codes: array[int], known: dict[str | None, int]) -> None:
    """Append the code of each text; one that is met for the first time gets the next code."""
    encoded = column.dictionary_encode(null_encoding="encode")
    places = [known.setdefault(text, len(known) - 1) for text in encoded.dictionary.to_pylist()]
    codes.frombytes(np.array(places, np.int32)[encoded.indices.to_numpy()].tobytes())


def _repeated(keys: bytearray, rows: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of each key that occurs more than once, ascending."""
    values = np.frombuffer(keys, dtype=Key)
    halves = values["high"][rows]
    rows = rows[among(halves, twice(halves))]  # few, as a rule: only they are sorted by the whole key
    if not len(rows):
        return
    values = values[rows]
    order = np.lexsort((rows, values["low"], values["high"]))
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(rows))
    several = ends - starts > 1
    for start, end in zip(starts[several], ends[several], strict=True):
        yield rows[order[start:end]].astype(np.int64)


def twice(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values that occur more than once, ascending, each once."""
    ordered = np.sort(values)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def among(values: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of the values are one of `wanted`, which is ascending."""
    if not len(wanted):
        return np.zeros(len(values), dtype=bool)
    found: npt.NDArray[np.bool_] = wanted[np.searchsorted(wanted, values).clip(max=len(wanted) - 1)] == values
    return found
