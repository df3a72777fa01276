"""An edition of shops: sales by day and shop, with tables of shops, states, weather and searches beside them.

The side tables may also be published ones: then shops and sales are drawn to fit them (`side_tables`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from data.editions.archives import write_archive

SEED = 20190425

SIDES = ("store_states.csv", "state_names.csv", "googletrend.csv", "weather.csv")
"""Tables that stand-ins take as they are published."""

STATES = {
    "BE": "Berlin",
    "BW": "BadenWuerttemberg",
    "HB,NI": "Niedersachsen",
    "HE": "Hessen",
    "SN": "Sachsen",
}

EVENTS = ("Rain", "Fog-Rain", "Snow", "NA", "NA")


class Shops(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Tables in the layout of the competition and of the course's archive."""

    file: str
    """Name of the archive."""
    stores: int = Field(ge=8, le=1115)
    """Shops; published tables of states know 1,115."""
    days: int = Field(ge=60, le=942)
    """Days of sales up to 2015-07-31; published tables reach back for 942."""
    side_tables: str = ""
    """Archive whose tables of states, weather and searches are taken; empty: they are drawn."""
    seed: int = Field(default=SEED, ge=0)
    """Of the drawing."""


def draw_shops(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive of seven tables; the sales end with one fault of each kind."""
    checked = Shops.model_validate(dict(settings))
    rng = np.random.default_rng(checked.seed)
    dates = pd.date_range(end="2015-07-31", periods=checked.days)
    ahead = pd.date_range("2015-08-01", periods=48)
    sides = (
        published(Path(checked.side_tables)) if checked.side_tables else _sides(checked, dates, ahead, rng)
    )
    stores = _stores(checked, rng)
    days = _days(checked, pd.DatetimeIndex(dates.append(ahead)), rng)
    sales = _sales(days, stores, _frames(sides), rng)
    sales = sales.sort_values(["Date", "Store"], ascending=[False, True], kind="stable")
    columns = [
        "Store",
        "DayOfWeek",
        "Date",
        "Sales",
        "Customers",
        "Open",
        "Promo",
        "StateHoliday",
        "SchoolHoliday",
    ]
    known = sales["Date"] <= "2015-07-31"
    test = sales[~known].drop(columns=["Sales", "Customers"])
    test.insert(0, "Id", np.arange(1, len(test) + 1))
    train = _csv(sales[known][columns]) + _faults().encode()
    tables = {
        "train.csv": train,
        "test.csv": _csv(test[["Id", *[name for name in columns if name in test.columns]]]),
        "store.csv": _csv(stores), **sides,
    }  # fmt: skip
    return [write_archive(folder / checked.file, list(tables.items()))]


def published(archive: Path) -> dict[str, bytes]:
    """The side tables of an archive. ValueError where one is missing."""
    import tarfile

    found = {}
    with tarfile.open(archive) as file:
        for name in SIDES:
            member = next((each for each in file.getmembers() if Path(each.name).name == name), None)
            stream = file.extractfile(member) if member else None
            if stream is None:
                raise ValueError(f"{archive} has no table {name}")
            found[name] = stream.read()
    return found


def _sides(
    settings: Shops, dates: pd.DatetimeIndex, ahead: pd.DatetimeIndex, rng: np.random.Generator
) -> dict[str, bytes]:
    """States of the shops, their names, weather by day and searches by week."""
    every = pd.DatetimeIndex(dates.append(ahead))
    codes = list(STATES)
    states = pd.DataFrame(
        {"Store": np.arange(1, settings.stores + 1), "State": rng.choice(codes, settings.stores)}
    )
    names = pd.DataFrame({"StateName": list(STATES.values()), "State": codes})
    weeks = pd.date_range(every[0] - pd.Timedelta(days=int(every[0].day_of_week) + 8), every[-1], freq="7D")
    trends = []
    for code in ["", *codes]:
        level = 60 + 25 * np.sin(np.arange(len(weeks)) / 6 + rng.uniform(0, 6)) + rng.normal(0, 5, len(weeks))
        span = [f"{week:%Y-%m-%d} - {week + pd.Timedelta(days=6):%Y-%m-%d}" for week in weeks]
        name = "Rossmann_DE" + (f"_{code.split(',')[-1]}" if code else "")
        trends.append(
            pd.DataFrame({"file": name, "week": span, "trend": level.clip(0, 100).round().astype(int)})
        )
    weather: pd.DataFrame = pd.concat([_weather(name, every, rng) for name in STATES.values()])
    tables = (states, names, pd.concat(trends), weather)
    return {name: _csv(table) for name, table in zip(SIDES, tables, strict=True)}


def _weather(state: str, dates: pd.DatetimeIndex, rng: np.random.Generator) -> pd.DataFrame:
    count = len(dates)
    mean = 10 - 9 * np.cos((dates.day_of_year.to_numpy() - 20) / 58) + rng.normal(0, 3, count)
    humidity = rng.normal(72, 9, count).clip(30, 98)
    wind = rng.gamma(4, 3, count)
    cloud = rng.integers(0, 9, count).astype(object)
    cloud[rng.random(count) < 0.08] = "NA"
    whole = {
        "Max_TemperatureC": mean + 4, "Mean_TemperatureC": mean, "Min_TemperatureC": mean - 4,
        "Dew_PointC": mean - 3, "MeanDew_PointC": mean - 5, "Min_DewpointC": mean - 7,
        "Max_Humidity": (humidity + 14).clip(0, 100), "Mean_Humidity": humidity,
        "Min_Humidity": humidity - 20,
        "Max_Sea_Level_PressurehPa": rng.normal(1018, 6, count),
        "Mean_Sea_Level_PressurehPa": rng.normal(1015, 6, count),
        "Min_Sea_Level_PressurehPa": rng.normal(1012, 6, count),
        "Max_VisibilityKm": rng.integers(10, 32, count),
        "Mean_VisibilityKm": rng.integers(6, 20, count), "Min_VisibilitykM": rng.integers(1, 10, count),
        "Max_Wind_SpeedKm_h": wind * 2, "Mean_Wind_SpeedKm_h": wind,
    }  # fmt: skip
    table = pd.DataFrame({name: np.round(values).astype(int) for name, values in whole.items()})
    table.insert(0, "file", state)
    table.insert(1, "Date", dates.strftime("%Y-%m-%d"))
    gusts = np.round(wind * 3).astype(int).astype(object)
    gusts[rng.random(count) < 0.5] = "NA"
    return table.assign(
        Max_Gust_SpeedKm_h=gusts, Precipitationmm=rng.gamma(0.5, 2, count).round(2), CloudCover=cloud,
        Events=rng.choice(EVENTS, count), WindDirDegrees=rng.integers(0, 360, count),
    )  # fmt: skip


def _stores(settings: Shops, rng: np.random.Generator) -> pd.DataFrame:
    """The table of shops: some without competition, some with, some with the lasting promotion."""
    count = settings.stores
    distance = (np.exp(rng.normal(7.5, 1.2, count)) / 10).round() * 10
    opened = rng.random(count) < 0.7
    promo2 = rng.random(count) < 0.5
    intervals = rng.choice(["Jan,Apr,Jul,Oct", "Feb,May,Aug,Nov", "Mar,Jun,Sept,Dec"], count)
    blank = np.full(count, np.nan)
    distances = pd.Series(distance.astype(int).astype(str))
    distances[count // 3] = ""  # one shop's is unknown
    return pd.DataFrame(
        {
            "Store": np.arange(1, count + 1),
            "StoreType": rng.choice(list("abcd"), count, p=[0.54, 0.04, 0.13, 0.29]),
            "Assortment": rng.choice(list("abc"), count, p=[0.52, 0.02, 0.46]),
            "CompetitionDistance": distances,
            "CompetitionOpenSinceMonth": np.where(opened, rng.integers(1, 13, count), blank),
            "CompetitionOpenSinceYear": np.where(opened, rng.integers(2005, 2016, count), blank),
            "Promo2": promo2.astype(int),
            "Promo2SinceWeek": np.where(promo2, rng.integers(1, 53, count), blank),
            "Promo2SinceYear": np.where(promo2, rng.integers(2010, 2016, count), blank),
            "PromoInterval": np.where(promo2, intervals, ""),
        }
    )


def _days(settings: Shops, dates: pd.DatetimeIndex, rng: np.random.Generator) -> pd.DataFrame:
    """A row per shop and day: open or not, promotions in every other week, holidays. The last shop is new."""
    each = pd.DataFrame(
        {"Date": dates.strftime("%Y-%m-%d"), "DayOfWeek": dates.day_of_week + 1, "when": dates}
    )
    holidays = {"01-01": "a", "05-01": "a", "10-03": "a", "12-25": "c", "12-26": "c"}
    each["StateHoliday"] = dates.strftime("%m-%d").map(holidays).fillna("0").to_numpy()
    each.loc[each["Date"].isin(["2013-04-01", "2014-04-21", "2015-04-06"]), "StateHoliday"] = "b"
    week = (dates - pd.Timestamp("2012-12-31")).days.to_numpy() // 7
    each["Promo"] = ((week % 2 == 0) & (dates.day_of_week.to_numpy() < 5)).astype(int)
    each["SchoolHoliday"] = dates.month.isin([7, 8]).astype(int) | (week % 11 == 0)
    rows = each.merge(pd.DataFrame({"Store": np.arange(1, settings.stores + 1)}), how="cross")
    rows["SchoolHoliday"] = rows["SchoolHoliday"].astype(int) & (rng.random(len(rows)) < 0.97)
    rows["SchoolHoliday"] = rows["SchoolHoliday"].astype(int)
    rows["Open"] = ((rows["DayOfWeek"] != 7) & (rows["StateHoliday"] == "0")).astype(int)
    late = (rows["Store"] == settings.stores) & (rows["when"] < "2015-07-10")
    return rows[~late].reset_index(drop=True)


def _frames(sides: Mapping[str, bytes]) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(io.BytesIO(content)) for name, content in sides.items()}


def _sales(
    days: pd.DataFrame, stores: pd.DataFrame, sides: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> pd.DataFrame:
    """Sales and customers: effects that depend on one another, with about 8 % of noise."""
    shop = days["Store"].to_numpy() - 1
    kind = stores["StoreType"].to_numpy()[shop]
    weekday, promo = days["DayOfWeek"].to_numpy(), days["Promo"].to_numpy()
    level = rng.normal(8.6, 0.3, len(stores))
    taste = rng.normal(0.0, 0.12, (len(stores), 8))  # each shop has its own week
    logs = (
        level[shop] + taste[shop, weekday] + np.where(weekday == 1, 0.15, 0) + np.where(weekday == 6, -0.1, 0)
    )
    logs += (
        promo
        * np.where(kind == "a", 0.36, np.where(kind == "d", 0.25, 0.08))
        * np.where(weekday == 1, 1.3, 1)
    )
    month = days["when"].dt.month.to_numpy()
    logs += np.where(month == 12, 0.25, 0.04 * np.sin(month)) * np.where(kind == "c", -0.4, 1)
    school = days["SchoolHoliday"].to_numpy()
    logs += school * np.where(stores["Assortment"].to_numpy()[shop] == "c", 0.12, -0.06)
    distance = pd.to_numeric(stores["CompetitionDistance"]).fillna(20_000).to_numpy()[shop]
    opened = pd.to_datetime(
        stores["CompetitionOpenSinceYear"].fillna(1990).astype(int).astype(str)
        + stores["CompetitionOpenSinceMonth"].fillna(1).astype(int).astype(str).str.zfill(2), format="%Y%m",
    ).to_numpy()[shop]  # fmt: skip
    there = (days["when"].to_numpy() > opened) & stores["CompetitionOpenSinceYear"].notna().to_numpy()[shop]
    logs -= there * 0.25 / (1 + distance / 1000)
    before = days["when"].isin(
        pd.to_datetime(days.loc[days["StateHoliday"] != "0", "Date"]) - pd.Timedelta(days=1)
    )
    logs += before.to_numpy() * 0.2
    logs += _of_sides(days, sides, shop)
    sales = np.exp(logs + rng.normal(0, 0.08, len(days))) * days["Open"].to_numpy()
    return days.assign(
        Sales=np.round(sales).astype(int),
        Customers=np.round(sales / 9.5 * rng.uniform(0.9, 1.1, len(days))).astype(int),
    )


def _of_sides(
    days: pd.DataFrame, sides: Mapping[str, pd.DataFrame], shop: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What weather and searches add: rain costs, searches bring."""
    state = sides["store_states.csv"].set_index("Store")["State"].reindex(days["Store"].unique())
    names = sides["state_names.csv"].set_index("State")["StateName"]
    place = days["Store"].map(state).map(names)
    weather = sides["weather.csv"].drop_duplicates(["file", "Date"]).set_index(["file", "Date"])
    met = weather.reindex(pd.MultiIndex.from_arrays([place, days["Date"]]))
    rain = met["Events"].fillna("").str.contains("Rain").to_numpy() * -0.05
    warm = met["Max_TemperatureC"].fillna(12).to_numpy()
    searched = sides["googletrend.csv"]
    whole = searched[searched["file"] == "Rossmann_DE"].copy()
    whole["start"] = pd.to_datetime(whole["week"].str[:10]).astype("datetime64[ns]")
    order = np.argsort(days["when"].to_numpy(), kind="stable")
    asked = days[["when"]].iloc[order].assign(when=lambda table: table["when"].astype("datetime64[ns]"))
    trend = pd.merge_asof(
        asked, whole[["start", "trend"]].sort_values("start"), left_on="when", right_on="start"
    )
    found = np.empty(len(days))
    found[order] = trend["trend"].fillna(60).to_numpy()
    return rain + np.where(warm > 24, 0.06, 0.0) + (found - 60) / 400


def _faults() -> str:
    """A row too short, a word for sales, no sales, a day that does not exist, a shop that nobody knows."""
    return (
        "1,5,2015-06-19\n"
        "1,5,2015-06-19,many,555,1,1,0,0\n"
        "1,5,2015-06-19,,555,1,1,0,0\n"
        "1,5,2015-02-31,5000,555,1,1,0,0\n"
        "9999,5,2015-06-19,5000,555,1,1,0,0\n"
    )


def _csv(table: pd.DataFrame) -> bytes:
    content: bytes = table.to_csv(index=False, lineterminator="\n").encode()
    return content
