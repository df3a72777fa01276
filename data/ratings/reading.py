"""Delimited text to columns of strings, vectorised; lines that are no records are told apart by number."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data.archives import Raw
from data.ratings.settings import Delimited

SEPARATOR = "\x1f"
"""ASCII's own unit separator, in the place of a delimiter of several characters."""

BLOCK = 2**24
"""Bytes that are parsed at once."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The records of one file."""

    table: pa.Table
    """The wanted columns as trimmed strings; null where a field is empty."""
    number: npt.NDArray[np.int64]
    """Line of each record in the file, from 1."""
    broken: dict[int, str]
    """What is wrong with the lines that are no records, by number."""
    blank: int
    """Empty lines."""


def read_delimited(raw: Raw, settings: Delimited, wanted: Sequence[str]) -> Lines:
    """The columns `wanted` of a file.

    ValueError names the file and what is wrong as a whole: it is not there, empty, in another encoding, or
    has no such column (with the nearest).
    """
    text = raw.find(settings.file)
    try:
        text = text.decode(settings.encoding).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{settings.file}, line {line}: the text is not {settings.encoding} ({error.reason});"
            " name its encoding, e.g. `encoding: latin-1`"
        ) from None
    if b"\0" in text[:BLOCK]:
        raise ValueError(f"{settings.file} is no text: it holds zero bytes")
    delimiter, quote = settings.delimiter, settings.quote
    if len(delimiter) > 1:
        text, delimiter, quote = text.replace(delimiter.encode(), SEPARATOR.encode()), SEPARATOR, ""
    if not text.strip():
        raise ValueError(f"{settings.file} is empty")
    names = _names(text, settings, delimiter, quote)
    _check(names, wanted, settings)
    return _parse(text, settings, wanted, names, delimiter=delimiter, quote=quote)


def _names(text: bytes, settings: Delimited, delimiter: str, quote: str) -> list[str]:
    """Names of all columns: from the first line, or the given ones and numbers for the rest."""
    first = text.split(b"\n", 1)[0].decode().rstrip("\r")
    quoting: Any = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    fields = next(csv.reader(io.StringIO(first), delimiter=delimiter, **quoting), [])
    if not settings.columns:
        return [field.strip() for field in fields]
    if len(settings.columns) > len(fields):
        raise ValueError(
            f"{settings.file}: `columns` names {len(settings.columns)} columns, but its first line has"
            f" {len(fields)}; is the delimiter {settings.delimiter!r}?"
        )
    return [*settings.columns, *(f"column {place}" for place in range(len(settings.columns), len(fields)))]


def _check(names: list[str], wanted: Sequence[str], settings: Delimited) -> None:
    for name in wanted:
        if names.count(name) == 1:
            continue
        if name in names:
            raise ValueError(
                f"{settings.file} has {names.count(name)} columns called {name!r}; rename all but one"
            )
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(repr, names[:12]))}"
        raise ValueError(
            f"{settings.file} has no column {name!r}; {hint}"
            + (f" (is the delimiter {settings.delimiter!r}?)" if len(names) == 1 else "")
        )


def _parse(
    text: bytes, settings: Delimited, wanted: Sequence[str], names: list[str], *, delimiter: str, quote: str
) -> Lines:
    broken: dict[int, str] = {}

    def note(row: Any) -> str:
        broken[row.number] = f"{row.actual_columns} fields in the place of {row.expected_columns}"
        return "skip"

    header = 0 if settings.columns else 1
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(text),
            # one thread: only then are broken lines numbered
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=BLOCK, column_names=names, skip_rows=header
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                quote_char=quote or False,
                newlines_in_values=False,
                ignore_empty_lines=False,
                invalid_row_handler=note,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(wanted), column_types=dict.fromkeys(wanted, pa.string())
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{settings.file} cannot be read ({error})") from None
    total = table.num_rows + len(broken)
    number = np.setdiff1d(np.arange(1, total + 1, dtype=np.int64) + header, [*broken])
    columns = {}
    for name in wanted:
        column = pc.utf8_trim_whitespace(table[name])
        columns[name] = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    table = pa.table(columns)
    blank = np.ones(table.num_rows, dtype=bool)
    for column in table.columns:
        blank &= pc.is_null(column).to_numpy()
    if blank.any():  # a line without a character, or with delimiters alone
        lines = text.split(b"\n")
        empty = np.array([not lines[line - 1].strip() for line in number[blank]])
        blank[np.flatnonzero(blank)[~empty]] = False
        table, number = table.filter(pa.array(~blank)), number[~blank]
    return Lines(table=table, number=number, broken=broken, blank=int(blank.sum()))
