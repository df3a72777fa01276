"""Tables and lists that say something about images: rows found by any ending of an image's path."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.examples import Reject

MISSING = "listed, but not in the archive"


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
        for key in _endings(path):
            rows = self._rows.get(key)
            if rows is not None:
                numbers = [rows] if isinstance(rows, int) else rows
                self._seen[numbers] = True
                return self._row(numbers)
        return None

    def missing(self) -> Iterator[Reject]:
        """A reject for every row whose image was never asked for. ValueError where that is every row."""
        return _missing(self._names, self._seen, self.file)

    def _row(self, numbers: list[int]) -> Row:
        labels = tuple(sorted({str(self._labels[number]) for number in numbers} - {""}))
        group = str(self._groups[numbers[0]]) if self._groups is not None else ""
        time = self._times[numbers[0]] if self._times is not None else pd.NaT
        return Row(
            labels=labels,
            group=group or None,
            time=None if pd.isna(time) else pd.Timestamp(time).to_pydatetime(),
        )


class Listed:
    """The images that a published list names."""

    def __init__(self, names: list[str], *, file: str) -> None:
        self.file = file
        self._names = names
        self._rows = {name: number for number, name in enumerate(names)}
        self._seen = np.zeros(len(names), dtype=bool)

    def find(self, path: str) -> bool:
        """Is the image, or an ending of its path, in the list? An extension may be left out there."""
        for key in (*_endings(path), *_endings(str(PurePosixPath(path).with_suffix("")))):
            if key in self._rows:
                self._seen[self._rows[key]] = True
                return True
        return False

    def missing(self) -> Iterator[Reject]:
        """A reject for every entry that was never found. ValueError where that is every one."""
        return _missing(self._names, self._seen, self.file)


def read_list(content: bytes, *, file: str) -> Listed:
    """A text file with one image a line; what follows a blank (as in the lists of pets) is passed over."""
    text = _text(content, file)
    names = [line.split()[0].removeprefix("./") for line in text.splitlines() if line.strip()]
    names = [name for name in names if not name.startswith("#")]
    if not names:
        raise ValueError(f"{file} names no image")
    return Listed(list(dict.fromkeys(names)), file=file)


def _missing(names: list[str], seen: npt.NDArray[np.bool_], file: str) -> Iterator[Reject]:
    if names and not seen.any():
        raise ValueError(
            f"no image fits a row of {file} (first row: {names[0]!r});"
            " look at clean.labels.name, clean.labels.suffix and clean.images"
        )
    for number in np.flatnonzero(~seen):
        yield Reject(names[number], MISSING, f"{file}, row {number + 1}")


def _endings(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _text(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); save it as such"
        ) from None


def _read(content: bytes, file: str) -> pd.DataFrame:
    text = io.StringIO(_text(content, file))
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
