"""Copies among all rows, found with 40 bytes a row: a name twice, a content under two labels, duplicates."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

Key = np.dtype([("high", "<u8"), ("low", "<u8")])
"""16 bytes of a hash: among a billion rows two meet by chance with a probability of 1e-21."""


class Index:
    """What the comparison needs of each row."""

    def __init__(self) -> None:
        self._items, self._digests = bytearray(), bytearray()
        self._labels, self._parts = array("i"), array("i")
        self._label_codes: dict[str | None, int] = {None: -1}
        self._part_codes: dict[str | None, int] = {None: -1}

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, item_id: str, digest: str, label: str | None, part: str | None) -> None:
        """Note the next row. `digest`: hexadecimal, at least 16 bytes."""
        self._items += blake2b(item_id.encode(), digest_size=16).digest()
        self._digests += bytes.fromhex(digest[:32])
        self._labels.append(self._label_codes.setdefault(label, len(self._label_codes) - 1))
        self._parts.append(self._part_codes.setdefault(part, len(self._part_codes) - 1))

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


def _repeated(keys: bytearray, rows: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of each key that occurs more than once, ascending."""
    if not len(rows):
        return
    values = np.frombuffer(keys, dtype=Key)[rows]
    order = np.lexsort((rows, values["low"], values["high"]))
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(rows))
    several = ends - starts > 1
    for start, end in zip(starts[several], ends[several], strict=True):
        yield rows[order[start:end]].astype(np.int64)
