"""A published table to columns of text: encoding and delimiter found out, rows of another length set
apart."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from data.archives import Raw

ENDINGS = (".csv", ".tsv", ".txt", ".data")
"""Files that may be tables, where the block names none."""

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

DELIMITERS = (",", ";", "\t", "|")

BLOCK = 16 * 2**20
"""Bytes that are parsed at once; a cell must fit."""


@dataclass(frozen=True, kw_only=True)
class Ragged:
    """A row with more or fewer cells than the header."""

    row: int
    """From 0, counted with all rows."""
    expected: int
    found: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as published: every cell is text."""

    file: str
    """Name inside the archive."""
    rows: pd.DataFrame
    """Columns of text (Arrow strings), stripped of nothing."""
    numbers: NDArray[np.int64]
    """The number of each row in the file, from 0, rows of another length included."""
    ragged: tuple[Ragged, ...]


def read_tables(
    raw: Raw, names: Collection[str], *, delimiter: str = "", encoding: str = ""
) -> dict[str, Table]:
    """The tables of those names, in one pass over the archives.

    ValueError where one is missing (with the nearest), and as `read_table`.
    """
    return {
        name: read_table(content, file=name, delimiter=delimiter, encoding=encoding)
        for name, content in raw.find_all(names).items()
    }


def only_table(raw: Raw) -> str:
    """The name of the one table that there is; other files are counted as ignored. ValueError for none,
    several."""
    found = []
    for member in raw.members():
        if member.name.lower().endswith(ENDINGS[:2]):
            found.append(member.name)
        else:
            raw.ignore("no table")
    if len(found) != 1:
        said = f"there are {', '.join(found[:5])}" if found else "there is no .csv and no .tsv"
        raise ValueError(f"clean.table must say which file is the table: {said}")
    return found[0]


def read_table(content: bytes, *, file: str, delimiter: str = "", encoding: str = "") -> Table:
    """All cells as text. ValueError: an empty file, no text, no rows, or columns that share a name."""
    if not content.strip():
        raise ValueError(f"{file} is empty")
    encoding = encoding or _encoding(content, file)
    try:
        head = content[: 2**20].decode(encoding, errors="ignore").lstrip("\ufeff")
    except LookupError:
        raise ValueError(f"{file}: there is no encoding {encoding!r}") from None
    delimiter = delimiter or _delimiter(head)
    header = next(csv.reader(io.StringIO(head), delimiter=delimiter))
    columns = [name.strip() for name in header]
    _check(columns, file)
    if encoding == "utf-8-sig":  # Arrow knows no marks
        content, encoding = content[len(codecs.BOM_UTF8) :], "utf-8"
    ragged: list[Ragged] = []
    batches = _parse(content, header, file=file, delimiter=delimiter, encoding=encoding, ragged=ragged)
    rows = pa.Table.from_batches(
        [batch.rename_columns(columns) for batch in batches],
        pa.schema([(name, pa.string()) for name in columns]),
    )
    if not rows.num_rows:
        raise ValueError(f"{file} has a header but no row of its length ({len(columns)} columns)")
    numbers = np.delete(np.arange(rows.num_rows + len(ragged)), [each.row for each in ragged])
    frame = rows.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get)
    return Table(file=file, rows=frame, numbers=numbers, ragged=tuple(ragged))


def _parse(
    content: bytes, header: list[str], *, file: str, delimiter: str, encoding: str, ragged: list[Ragged]
) -> list[pa.RecordBatch]:
    """Batches of text; what has another length than the header goes to `ragged` (Arrow counts the header as
    1)."""

    def note(row: pa.csv.InvalidRow) -> str:
        ragged.append(
            Ragged(row=row.number - 2, expected=row.expected_columns, found=row.actual_columns, text=row.text)
        )
        return "skip"

    try:
        reader = pyarrow.csv.open_csv(
            io.BytesIO(content),
            read_options=pyarrow.csv.ReadOptions(encoding=encoding, block_size=BLOCK, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
        return list(reader)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as a table in {encoding}: {error}") from None


def _encoding(content: bytes, file: str) -> str:
    for mark, name in MARKS:
        if content.startswith(mark):
            return name
    if b"\0" in content[: 2**16]:
        raise ValueError(f"{file} holds zero bytes, so it is no text; export it as CSV")
    try:
        content.decode()
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _delimiter(head: str) -> str:
    """The candidate that occurs most often in the header, outside of quotes; a comma where none does."""
    line = re.sub(r'"[^"]*"', "", head.split("\n", 1)[0])
    return max(DELIMITERS, key=lambda each: (line.count(each), each == ","))


def _check(columns: list[str], file: str) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(
            f"{file}: {columns.count(twice[0])} columns are named {twice[0]!r}; give each its own name"
        )
