"""What each user has rated, packed for JSON: one text instead of a list of millions of numbers.

It travels with the exported model, so it imports nothing of the project.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]


def pack(users: Codes, items: Codes, *, known: int) -> dict[str, Any]:
    """`starts`: place of the first item of each of the `known` users (codes from 1), and the end; `items`:
    the items' codes, user after user, as base64 of little-endian int32."""
    order = np.lexsort((items, users))
    starts = np.searchsorted(users[order], np.arange(1, known + 2))
    return {
        "starts": starts.tolist(),
        "items": base64.b64encode(items[order].astype("<i4").tobytes()).decode(),
    }


def unpack(packed: Mapping[str, Any]) -> tuple[Codes, Codes]:
    """Starts and items as arrays."""
    items = np.frombuffer(base64.b64decode(packed["items"]), dtype="<i4").astype(np.int64)
    return np.array(packed["starts"], dtype=np.int64), items


def of_user(starts: Codes, items: Codes, code: int) -> Codes:
    """The items that the user of that code has rated; none for the unknown user, whose code is 0."""
    return items[starts[code - 1] : starts[code]] if code else items[:0]
