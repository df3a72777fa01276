"""Digests of many examples at once, and the JSON that they are made of."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ESCAPED = r'[\x00-\x1f"\\]'
"""What JSON does not let stand in a text as it is."""


def joined(*columns: pa.Array | str, between: str = "") -> pa.Array:
    """The texts of each row, one behind the other; null where one is."""
    return pc.binary_join_element_wise(*columns, between)


def sha256_of(texts: pa.Array) -> pa.Array:
    """The sha256 of each text, hexadecimal."""
    return pa.array([sha256(text).hexdigest() for text in texts.cast(pa.binary()).to_pylist()], pa.string())


def repr_of(numbers: npt.NDArray[np.float64]) -> pa.Array:
    """Each number as Python and JSON write it, so that it is read back exactly; null where it is none."""
    distinct, places = np.unique(numbers.view(np.int64), return_inverse=True)  # by bits: 0.0 is not -0.0
    texts = [None if number != number else repr(number) for number in distinct.view(np.float64).tolist()]
    return pa.array(texts, pa.string()).take(pa.array(places))


def json_of(texts: pa.Array) -> pa.Array:
    """Each text as `json.dumps` writes it, other characters than ASCII as they are; `null` for none."""
    if pc.any(pc.match_substring_regex(texts, ESCAPED)).as_py():
        return pa.array([json.dumps(text, ensure_ascii=False) for text in texts.to_pylist()], pa.string())
    return pc.fill_null(joined('"', texts, '"'), "null")


def content_of(texts: pa.Array) -> memoryview:
    """The UTF-8 bytes of all texts, one behind the other, without a copy. No text may be null."""
    _, offsets, content = texts.buffers()
    if content is None:
        return memoryview(b"")
    first, last = (
        int.from_bytes(offsets[4 * place : 4 * place + 4].to_pybytes(), "little")
        for place in (texts.offset, texts.offset + len(texts))
    )
    return memoryview(content)[first:last]
