"""Tables that say something about images: rows found by any ending of an image's path."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from data.examples import Reject
from data.images.lists import endings, never_found, text_of


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a table says about one image."""

    labels: tuple[str, ...]
    """Distinct labels of all rows that name it; empty where the cell is."""
    group: str | None
    time: datetime | None


class LabelTable:
    """A CSV with one row per image. ValueError names the file, the column or the row that is wrong."""

    def __init__(
        self, content: bytes, *, file: str, name: str = "", label: str = "", suffix: str = "",
        group: str = "", time: str = "",
    ) -> None:  # fmt: skip
        self.file = file
        table = _read(content, file)
        columns = [str(column) for column in table.columns]
        if not label and len(columns) < 2:
            raise ValueError(f"{file} has one column ({columns[0]}), names and labels need two")
        names = _column(table, name or columns[0], file).str.strip().str.replace("\\", "/")
        self._names = [f"{each.removeprefix('./')}{suffix}" for each in names]
        self._labels = pd.Categorical(_column(table, label or columns[1], file).str.strip())
        self._groups = pd.Categorical(_column(table, group, file).str.strip()) if group else None
        self._times = _times(_column(table, time, file), file, time) if time else None
        self._rows: dict[str, int | list[int]] = {}
        for number, each in enumerate(self._names):
            first = self._rows.get(each)
            if first is None:
                self._rows[each] = number
            else:
                self._rows[each] = [*([first] if isinstance(first, int) else first), number]
        self._seen = np.zeros(len(self._names), dtype=bool)

    def find(self, path: str) -> Row | None:
        """The row of an image: the longest ending of its path that the table names."""
        for key in endings(path):
            rows = self._rows.get(key)
            if rows is not None:
                numbers = [rows] if isinstance(rows, int) else rows
                self._seen[numbers] = True
                return self._row(numbers)
        return None

    def missing(self) -> Iterator[Reject]:
        """A reject for every row whose image was never asked for. ValueError where that is every row."""
        return never_found(self._names, self._seen, self.file)

    def _row(self, numbers: list[int]) -> Row:
        labels = tuple(sorted({str(self._labels[number]) for number in numbers} - {""}))
        group = str(self._groups[numbers[0]]) if self._groups is not None else ""
        time = self._times[numbers[0]] if self._times is not None else pd.NaT
        return Row(
            labels=labels,
            group=group or None,
            time=None if pd.isna(time) else pd.Timestamp(time).to_pydatetime(),
        )


def _read(content: bytes, file: str) -> pd.DataFrame:
    text = io.StringIO(text_of(content, file))
    separator = "\t" if file.lower().endswith(".tsv") else ","
    try:
        table = pd.read_csv(text, dtype=str, keep_default_na=False, sep=separator, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{file} is no table of comma-separated values: {error}") from None
    if table.empty:
        raise ValueError(f"{file} has no row")
    return table.fillna("")


def _column(table: pd.DataFrame, name: str, file: str) -> "pd.Series[str]":
    if name not in table.columns:
        raise ValueError(f"{file} has no column {name!r}; it has {', '.join(map(str, table.columns))}")
    return table[name]


def _times(values: "pd.Series[str]", file: str, column: str) -> "pd.Series[pd.Timestamp]":
    times = pd.to_datetime(
        values.where(values.str.strip() != "", None), errors="coerce", format="mixed", utc=True
    )
    wrong = np.flatnonzero(times.isna() & (values.str.strip() != ""))
    if len(wrong):
        raise ValueError(f"{file}, row {wrong[0] + 1}: {column} {values.iloc[wrong[0]]!r} is no date or time")
    return times.dt.tz_localize(None)
