"""What kinds share of receiving a question: named cells, texts of files, all faults in one message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

Given = TypeVar("Given")
Read = TypeVar("Read")


def cells(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, Any]]:
    """The values of a column, each with the name that a message gives it. ValueError for no such column."""
    if column not in rows.columns:
        columns = ", ".join(map(str, rows.columns)) or "none"
        raise ValueError(f"there is no column `{column}`; the columns are {columns}")
    return ((f"row {row} of column `{column}`", value) for row, value in enumerate(rows[column].tolist()))


def gather(
    named: Iterable[tuple[str, Given]], read: Callable[[Given, str], Read], *, faults: Sequence[str] = ()
) -> list[Read]:
    """`read(value, name)` of all, in order. One ValueError joins `faults`, which are known before, and those
    of all that it refused: no row is ever answered by guess."""
    found, faults = [], [*faults]
    for name, value in named:
        try:
            found.append(read(value, name))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("; ".join(faults))
    return found


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, without byte order mark. ValueError names the file and the first wrong
    byte."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
