"""A published table to columns of text: encoding and delimiter found out, rows of another length set
apart."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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
    """A table as published, or a stretch of it: every cell is text."""

    file: str
    """Name inside the archive."""
    rows: pd.DataFrame
    """Columns of text (Arrow strings), stripped of nothing."""
    numbers: NDArray[np.int64]
    """The number of each row in the file, from 0, rows of another length included."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """The text of a table, parsed anew for every pass over it: its cells are never there all at once."""

    file: str
    """Name inside the archive."""
    content: bytes
    header: tuple[str, ...]
    """Names of the columns as they are written."""
    delimiter: str
    encoding: str

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return [name.strip() for name in self.header]

    @cached_property
    def ragged(self) -> tuple[Ragged, ...]:
        """The rows of another length than the header."""
        return self._counted[0]

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """The number of each row that has the header's length. ValueError where there is none."""
        ragged, rows = self._counted
        if not rows:
            raise ValueError(
                f"{self.file} has a header but no row of its length ({len(self.header)} columns)"
            )
        return np.delete(np.arange(rows + len(ragged)), [each.row for each in ragged])

    @cached_property
    def _counted(self) -> tuple[tuple[Ragged, ...], int]:
        ragged: list[Ragged] = []
        rows = sum(batch.num_rows for batch in self._parse(self.header[:1], ragged))
        return tuple(ragged), rows

    def whole(self) -> Table:
        """All rows at once."""
        return self._table(pa.Table.from_batches(self._parse(self.header, []), self._schema(self.header)), 0)

    def stretches(self, rows: int) -> Iterator[Table]:
        """So many rows at a time, in their order; the last stretch may be shorter."""
        waiting, start = pa.Table.from_batches([], self._schema(self.header)), 0
        for batch in self._parse(self.header, []):
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
            while waiting.num_rows >= rows:
                yield self._table(waiting.slice(0, rows), start)
                waiting, start = waiting.slice(rows), start + rows
        if waiting.num_rows:
            yield self._table(waiting, start)

    def _table(self, rows: pa.Table, start: int) -> Table:
        frame = rows.rename_columns(self.columns).to_pandas(
            types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get
        )
        return Table(file=self.file, rows=frame, numbers=self.numbers[start : start + len(frame)])

    def _schema(self, columns: Sequence[str]) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in columns])

    def _parse(self, columns: Sequence[str], ragged: list[Ragged]) -> Iterator[pa.RecordBatch]:
        """Batches of these columns as text; what has another length than the header goes to `ragged` (Arrow
        counts the header as 1)."""

        def note(row: pa.csv.InvalidRow) -> str:
            expected, found = row.expected_columns, row.actual_columns
            ragged.append(Ragged(row=row.number - 2, expected=expected, found=found, text=row.text))
            return "skip"

        try:
            yield from pyarrow.csv.open_csv(
                io.BytesIO(self.content),
                read_options=pyarrow.csv.ReadOptions(
                    encoding=self.encoding, block_size=BLOCK, use_threads=False
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=note
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(columns),
                    column_types=self._schema(columns),
                    strings_can_be_null=False,
                ),
            )
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise ValueError(f"{self.file} cannot be read as a table in {self.encoding}: {error}") from None


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


def open_table(content: bytes, *, file: str, delimiter: str = "", encoding: str = "") -> Published:
    """A table whose cells are all text. ValueError: an empty file, no text, or columns that share a name."""
    if not content or content.isspace():
        raise ValueError(f"{file} is empty")
    encoding = encoding or _encoding(content, file)
    try:
        head = content[: 2**20].decode(encoding, errors="ignore").lstrip("\ufeff")
    except LookupError:
        raise ValueError(f"{file}: there is no encoding {encoding!r}") from None
    delimiter = delimiter or _delimiter(head)
    header = next(csv.reader(io.StringIO(head), delimiter=delimiter))
    if encoding == "utf-8-sig":  # Arrow knows no marks
        content, encoding = content[len(codecs.BOM_UTF8) :], "utf-8"
    table = Published(
        file=file, content=content, header=tuple(header), delimiter=delimiter, encoding=encoding
    )
    _check(table.columns, file)
    return table


def _encoding(content: bytes, file: str) -> str:
    for mark, name in MARKS:
        if content.startswith(mark):
            return name
    if b"\0" in content[: 2**16]:
        raise ValueError(f"{file} holds zero bytes, so it is no text; export it as CSV")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(content), BLOCK):
            decoder.decode(content[start : start + BLOCK], final=start + BLOCK >= len(content))
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
