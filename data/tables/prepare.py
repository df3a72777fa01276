"""Cells to numbers, the same way in cleaning, in training and in the exported model.

This file travels with the export and runs alone: numpy and pandas are all that it needs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Texts = NDArray[np.object_]
Floats = NDArray[np.float64]

DATE_PARTS = (
    "Year", "Month", "Week", "Day", "Dayofweek", "Dayofyear", "Is_month_end", "Is_month_start", "Elapsed",
)  # fmt: skip
"""What a date is taken apart into (fastai's `add_datepart`; Elapsed in days since 1970)."""

UNKNOWN = 0
"""Code of a category that is missing, or that training never saw."""

_WHOLE = re.compile(r"[+-]?\d+\.0+")


def part_names(date: str) -> dict[str, str]:
    """Column by part: the date's name without a final `Date`, and the part's."""
    stem = re.sub("[Dd]ate$", "", date)
    return {part: stem + part for part in DATE_PARTS}


def as_texts(values: pd.Series[Any], missing: Collection[str]) -> Texts:
    """Each cell as stripped text, None where it says nothing. Whole numbers have no fraction: `12.0` is
    `12`."""
    codes, distinct = pd.factorize(values)
    texts = np.array([*(_text(value, missing) for value in distinct), None], dtype=object)
    taken: Texts = texts[codes]  # -1, a missing value, takes the last
    return taken


def _text(value: Any, missing: Collection[str]) -> str | None:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    if text in missing:
        return None
    return text[: text.index(".")] if _WHOLE.fullmatch(text) else text


def as_numbers(
    values: pd.Series[Any], missing: Collection[str], *, decimal: str = "."
) -> tuple[Floats, NDArray[np.bool_]]:
    """Each cell as a float64, nan where it says nothing; and where it says something that is no finite
    number."""
    if pd.api.types.is_numeric_dtype(values):
        floats = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isinf(floats), np.nan, floats), np.isinf(floats)
    codes, distinct = pd.factorize(values)  # a text is read once, however often it stands there
    texts = pd.Series(distinct).astype("string").str.strip()
    silent = texts.isna() | texts.isin(list(missing))
    if decimal == ",":
        texts = texts.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    floats = pd.to_numeric(texts.mask(silent), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~silent.to_numpy(dtype=bool) & ~np.isfinite(floats)
    floats = np.where(np.isfinite(floats), floats, np.nan)
    return np.append(floats, np.nan)[codes], np.append(wrong, False)[codes]  # -1, a missing value, the last


def as_dates(
    values: pd.Series[Any], missing: Collection[str], *, date_format: str = ""
) -> tuple[pd.Series[Any], NDArray[np.bool_]]:
    """Each cell as a date without a zone, NaT where it says nothing; and where it says something else."""
    if pd.api.types.is_datetime64_any_dtype(values):
        dates = values if values.dt.tz is None else values.dt.tz_convert("UTC").dt.tz_localize(None)
        return dates.dt.normalize().reset_index(drop=True), np.zeros(len(values), dtype=bool)
    codes, distinct = pd.factorize(pd.Series(as_texts(values, missing)))
    read = pd.to_datetime(
        pd.Series(distinct, dtype="string"), errors="coerce", format=date_format or "mixed", utc=True
    ).dt.tz_localize(None)
    dates = pd.concat([read, pd.Series([pd.NaT], dtype=read.dtype)], ignore_index=True)
    taken = dates.iloc[codes].reset_index(drop=True)  # -1, a missing value, takes the last
    return taken.dt.normalize(), taken.isna().to_numpy() & (codes >= 0)


def date_parts(dates: pd.Series[Any], name: str) -> pd.DataFrame:
    """The columns of DATE_PARTS of a series of dates, as floats; nan where there is no date."""
    here = dates.dt
    parts = {
        "Year": here.year, "Month": here.month, "Week": here.isocalendar().week, "Day": here.day,
        "Dayofweek": here.day_of_week, "Dayofyear": here.day_of_year, "Is_month_end": here.is_month_end,
        "Is_month_start": here.is_month_start, "Elapsed": (dates - pd.Timestamp(0)).dt.days,
    }  # fmt: skip
    there = dates.notna().to_numpy()
    return pd.DataFrame(
        {
            column: np.where(there, parts[part].to_numpy(dtype=np.float64, na_value=np.nan), np.nan)
            for part, column in part_names(name).items()
        }
    )


def wanted_columns(described: Mapping[str, Any]) -> list[str]:
    """The columns that a row must have: inputs, with each date in the place of its parts."""
    of_date = {part: name for name in described["dates"] for part in part_names(name).values()}
    inputs = [each["name"] for each in (*described["categories"], *described["numbers"])]
    return list(dict.fromkeys(of_date.get(name, name) for name in inputs))


def encode(
    frame: pd.DataFrame, described: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.float32], list[str]]:
    """Codes (N, categories and flags) and normalised numbers (N, numbers) of rows, and what is wrong with
    them.

    `described`: `categories` (name, vocabulary), `numbers` (name, median, mean, std, flag), `dates` by name,
    `missing`, `decimal`, `date_format`. Missing and unseen categories are UNKNOWN; a missing number is the
    median, and its flag (for numbers that had gaps in training) says so. ValueError for a missing column.
    """
    missing, faults = described["missing"], []
    columns: dict[str, pd.Series[Any]] = {
        str(name): frame[name].reset_index(drop=True) for name in frame.columns
    }
    for name in described["dates"]:
        if name in columns:
            dates, wrong = as_dates(columns[name], missing, date_format=described["date_format"])
            faults += _faults(columns[name], wrong, "no date")
            columns |= {
                str(part): values for part, values in date_parts(dates, name).items() if part not in columns
            }
    require(columns, described)
    codes, numbers, flags = [], [], []
    for each in described["categories"]:
        places = {text: place for place, text in enumerate(each["vocabulary"], start=1)}
        texts = as_texts(columns[each["name"]], missing)
        codes.append(np.array([places.get(text, UNKNOWN) for text in texts], dtype=np.int64))
    for each in described["numbers"]:
        floats, wrong = as_numbers(columns[each["name"]], missing, decimal=described["decimal"])
        faults += _faults(columns[each["name"]], wrong, "no finite number")
        numbers.append(normalise(floats, each))
        if each["flag"]:
            flags.append(np.isnan(floats).astype(np.int64) + 1)
    return _stacked([*codes, *flags], len(frame), np.int64), _stacked(numbers, len(frame), np.float32), faults


def normalise(values: Floats, statistics: Mapping[str, Any]) -> NDArray[np.float32]:
    """(x - mean) / (std + 1e-7), with the median for nan (fastai's FillMissing and Normalize)."""
    filled = np.where(np.isnan(values), statistics["median"], values)
    scaled: NDArray[np.float32] = ((filled - statistics["mean"]) / (statistics["std"] + 1e-7)).astype(
        np.float32
    )
    return scaled


def require(columns: Collection[str], described: Mapping[str, Any]) -> None:
    """ValueError that names every column that is not there, with the nearest that is."""
    of_date = {part: name for name in described["dates"] for part in part_names(name).values()}
    inputs = [each["name"] for each in (*described["categories"], *described["numbers"])]
    lacking = list(dict.fromkeys(of_date.get(name, name) for name in inputs if name not in columns))
    if lacking:
        raise ValueError(
            "; ".join(f"there is no column {name!r}{nearest(name, columns)}" for name in lacking)
        )


def nearest(name: str, columns: Collection[str]) -> str:
    """A hint with the most similar column, or with all of them."""
    close = difflib.get_close_matches(name, [str(each) for each in columns], n=1, cutoff=0.5)
    return (
        f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(map(str, columns)) or 'none'}"
    )


def _faults(values: pd.Series[Any], wrong: NDArray[np.bool_], what: str) -> list[str]:
    return [
        f"row {row}, column {values.name!r}: {values.iloc[row]!r} is {what}" for row in np.flatnonzero(wrong)
    ]


def _stacked(columns: Sequence[NDArray[Any]], rows: int, kind: Any) -> NDArray[Any]:
    return np.stack(columns, axis=1).astype(kind) if columns else np.zeros((rows, 0), kind)
