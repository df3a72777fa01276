"""What other tables and other rows say about a row: joins, events around a day, time since a beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.tables.prepare import as_dates, as_numbers, as_texts, nearest
from data.tables.settings import Events, Join, Since, TableCleaning

UNITS = {"days": 1, "weeks": 7, "months": 30}


def side_table(table: pd.DataFrame, join: Join, missing: Sequence[str]) -> pd.DataFrame:
    """The side table as its join wants it: columns extracted, cells replaced, rows matched; texts stripped.

    ValueError where a column is missing, or where two rows have the same key.
    """
    side = pd.DataFrame({name: as_texts(table[name], missing) for name in table.columns})
    for name, (column, pattern) in join.extract.items():
        side[name] = _column(side, column, join.table).astype("string").str.extract(pattern, expand=False)
    for column, changes in join.replace.items():
        side[column] = _column(side, column, join.table).replace(changes)
    for column, pattern in join.match.items():
        fits = _column(side, column, join.table).astype("string").str.contains(pattern, regex=True, na=False)
        side = side[fits.to_numpy(dtype=bool)]
    keys = [*join.keys.values(), *join.asof.values()]
    for key in keys:
        _column(side, key, join.table)
    side = side.dropna(subset=keys)
    again = side.duplicated(keys)
    if again.any():
        said = ", ".join(f"{key} {side.loc[again, key].iloc[0]!r}" for key in keys)
        raise ValueError(f"{join.table} has several rows with {said}; a row can take only one of them")
    return side


def join_tables(
    rows: pd.DataFrame, side: pd.DataFrame, join: Join, block: TableCleaning
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The rows with the columns that they take, in their order; and which of them have no partner."""
    keys = [*join.keys.values(), *join.asof.values()]
    take = join.take or {name: name for name in side.columns if name not in rows.columns and name not in keys}
    for name, column in take.items():
        _column(side, column, join.table)
        if name in rows.columns:
            raise ValueError(
                f"clean.joins: {join.table} gives {name!r}, which the rows have already; rename it in take"
            )
    left = pd.DataFrame({"row": np.arange(len(rows))})
    right = pd.DataFrame({"partner": np.arange(len(side))})
    by = [f"key{number}" for number in range(len(join.keys))]
    for key, (name, column) in zip(by, join.keys.items(), strict=True):
        left[key] = as_texts(_column(rows, name, "the rows"), block.missing)
        right[key] = side[column].to_numpy()
    if not join.asof:
        found = left.merge(right, on=by, how="left")["partner"]
    else:
        ((name, column),) = join.asof.items()
        left["when"], _ = as_dates(
            _column(rows, name, "the rows"), block.missing, date_format=block.date_format
        )
        right["when"], wrong = as_dates(side[column], block.missing)
        if wrong.any():
            raise ValueError(f"{join.table}: {column} {side[column].to_numpy()[wrong][0]!r} is no date")
        known = left.dropna().sort_values("when", kind="stable")
        met = pd.merge_asof(known, right.sort_values("when", kind="stable"), on="when", by=by or None)
        found = met.set_index("row")["partner"].reindex(left["row"]).reset_index(drop=True)
    lonely = found.isna().to_numpy()
    places = found.fillna(-1).to_numpy(dtype=np.int64)
    taken = {}
    for name, column in take.items():
        cells = np.array([*side[column], None], dtype=object)
        taken[name] = pd.Series(cells[places], index=rows.index, dtype="string")
    return pd.concat([rows, pd.DataFrame(taken, index=rows.index)], axis=1), lonely


def add_flags(rows: pd.DataFrame, block: TableCleaning) -> pd.DataFrame:
    """The columns of `flags` as 0 and 1; missing cells stay missing."""
    made = {}
    for name, ordinary in block.flags.items():
        texts = as_texts(_column(rows, name, "the rows"), block.missing)
        flags = np.array([np.nan if text is None else float(text != ordinary) for text in texts])
        made[name] = pd.Series(flags, index=rows.index)
    return rows.assign(**made)


def add_events(rows: pd.DataFrame, settings: Events, dates: pd.Series[Any]) -> pd.DataFrame:
    """`AfterX`, `BeforeX`, `X_bw`, `X_fw` for each column of events, among the rows of one kind in time."""
    group = pd.factorize(as_texts(_column(rows, settings.by, "the rows"), ()))[0]
    days = (dates.to_numpy() - np.datetime64(0, "D")).astype("timedelta64[D]").astype(np.float64)
    days[dates.isna().to_numpy()] = np.nan
    order = np.lexsort((days, group))
    group, days = group[order], days[order]
    made: dict[str, NDArray[np.float64]] = {}
    for name in settings.columns:
        values, wrong = as_numbers(_column(rows, name, "the rows"), ("", "nan"))
        if wrong.any() or not np.isin(values[~np.isnan(values)], (0, 1)).all():
            raise ValueError(f"clean.events: {name!r} must hold 0 and 1; make it so with clean.flags")
        event = np.nan_to_num(values[order])
        if settings.elapsed:
            last = pd.Series(np.where(event > 0, days, np.nan)).groupby(group)
            made[f"After{name}"] = np.nan_to_num(days - last.ffill().to_numpy())
            made[f"Before{name}"] = np.nan_to_num(last.bfill().to_numpy() - days)
        if settings.days:
            made[f"{name}_bw"] = _window(event, group, settings.days)
            made[f"{name}_fw"] = _window(event[::-1], group[::-1], settings.days)[::-1]
    back = np.argsort(order)
    return rows.assign(**{name: pd.Series(values[back], index=rows.index) for name, values in made.items()})


def _window(values: NDArray[np.float64], group: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """The sum of each value and the `size` - 1 before it, within its group."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    here = np.arange(len(values))
    first = np.concatenate([[True], group[1:] != group[:-1]])[: len(values)]
    start = np.maximum.accumulate(np.where(first, here, 0))
    windows: NDArray[np.float64] = total[here + 1] - total[np.maximum(here - size + 1, start)]
    return windows


def add_since(
    rows: pd.DataFrame, settings: Since, dates: pd.Series[Any], missing: Sequence[str]
) -> pd.DataFrame:
    """The number `settings.name`: whole units since the beginning; 0 where it is unknown, absurd or to
    come."""

    def read(column: str) -> NDArray[np.float64]:
        return as_numbers(_column(rows, column, "the rows"), missing)[0]

    year, within = read(settings.year), read(settings.month or settings.week)
    known = ~np.isnan(year) & ~np.isnan(within) & (year >= settings.earliest) & (year < 2262)
    text = pd.Series(np.where(known, year, settings.earliest).astype(int).astype(str))
    part = pd.Series(np.where(known, within, 1).astype(int).astype(str))
    if settings.month:
        start = pd.to_datetime(text + "-" + part + "-15", format="%Y-%m-%d", errors="coerce")
    else:
        start = pd.to_datetime(text + "-" + part + "-1", format="%G-%V-%u", errors="coerce")
    days = (dates.reset_index(drop=True) - start).dt.days.to_numpy(dtype=np.float64, na_value=np.nan)
    units = np.floor(np.nan_to_num(np.where(known, days, 0.0)).clip(0) / UNITS[settings.unit])
    if settings.limit is not None:
        units = units.clip(max=settings.limit)
    return rows.assign(**{settings.name: pd.Series(units, index=rows.index)})


def _column(table: pd.DataFrame, name: str, where: str) -> pd.Series[Any]:
    if name not in table.columns:
        raise ValueError(f"{where}: there is no column {name!r}{nearest(name, list(table.columns))}")
    return table[name]


def derived(rows: pd.DataFrame, block: TableCleaning, dates: pd.Series[Any] | None) -> pd.DataFrame:
    """Flags, events and times since, in this order; the last two need the rows' dates."""
    rows = add_flags(rows, block)
    if dates is not None:
        for events in block.events:
            rows = add_events(rows, events, dates)
        for since in block.since:
            rows = add_since(rows, since, dates, block.missing)
    return rows
