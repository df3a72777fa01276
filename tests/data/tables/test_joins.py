"""What side tables and other rows say about a row, against figures worked out by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.chunks import Chunk
from data.tables.cleaning import clean_numbers
from data.tables.joins import add_events, add_since, join_tables, side_table
from data.tables.settings import Events, Join, NumberCleaning, Since
from tests.jobs import raw_of

DAYS = pd.DataFrame(
    {
        "shop": ["1"] * 5 + ["2"] * 3,
        "day": [*"12345", *"123"],
        "event": [*"01000", *"001"],
        "y": [*"12345678"],
    }
)
DATES = pd.Series(pd.to_datetime("2024-01-0" + DAYS["day"]))


def test_days_since_and_until_an_event_stay_within_the_shop() -> None:
    found = add_events(DAYS.iloc[::-1], Events(columns=("event",), by="shop", days=2), DATES.iloc[::-1]).iloc[
        ::-1
    ]
    assert found["Afterevent"].tolist() == [0, 0, 1, 2, 3, 0, 0, 0]
    assert found["Beforeevent"].tolist() == [1, 0, 0, 0, 0, 2, 1, 0]
    assert found["event_bw"].tolist() == [0, 1, 1, 0, 0, 0, 0, 1]
    assert found["event_fw"].tolist() == [1, 1, 0, 0, 0, 0, 1, 1]


def test_events_must_be_zero_or_one() -> None:
    with pytest.raises(ValueError, match=r"'y' must hold 0 and 1; make it so with clean\.flags"):
        add_events(DAYS, Events(columns=("y",), by="shop"), DATES)


@pytest.mark.parametrize(
    ("year", "month", "expected"),
    [
        ("2023", "12", 17 // 30),
        ("2022", "1", 23),
        ("2021", "1", 24),
        ("1900", "1", 0),
        ("", "", 0),
        ("2025", "1", 0),
        ("2023", "13", 0),
    ],
)
def test_months_since_a_beginning(year: str, month: str, expected: int) -> None:
    rows = pd.DataFrame({"y": [year], "m": [month]})
    dates = pd.Series(pd.to_datetime(["2024-01-01"]))
    settings = Since(name="months", year="y", month="m", unit="months", limit=24)
    assert add_since(rows, settings, dates, ("",))["months"].tolist() == [expected]


def test_weeks_count_from_the_monday_of_the_iso_week() -> None:
    rows = pd.DataFrame({"y": ["2023"], "w": ["52"]})  # Monday 2023-12-25
    dates = pd.Series(pd.to_datetime(["2024-01-08"]))
    settings = Since(name="weeks", year="y", week="w", unit="weeks", limit=25)
    assert add_since(rows, settings, dates, ("",))["weeks"].tolist() == [2]


def test_asof_takes_the_latest_row_that_is_not_after() -> None:
    side = pd.DataFrame({"file": ["T_A", "T_A", "T_B"],
                         "week": ["2024-01-01 - x", "2024-01-08 - x", "2024-01-01 - x"],
                         "trend": ["10", "20", "30"]})  # fmt: skip
    join = Join.model_validate(
        {
            "table": "t.csv", "extract": {"state": ["file", "^T_(.)$"], "start": ["week", r"^(\S+)"]},
            "match": {"file": "^T_A"}, "asof": {"day": "start"}, "take": {"searched": "trend"},
        }
    )  # fmt: skip
    rows = pd.DataFrame({"day": ["2024-01-09", "2023-12-31", "2024-01-07"]})
    block = NumberCleaning(target="y")
    joined, lonely = join_tables(rows, side_table(side, join, ("",)), join, block)
    assert joined["searched"].fillna("none").tolist() == ["20", "none", "10"]
    assert lonely.tolist() == [False, True, False]


def test_two_rows_of_one_key_are_refused() -> None:
    side = pd.DataFrame({"shop": ["1", "1"], "kind": ["a", "b"]})
    with pytest.raises(ValueError, match=r"shops\.csv has several rows with shop '1'"):
        side_table(side, Join(table="shops.csv", keys={"shop": "shop"}), ())


def test_a_row_without_a_partner_is_rejected_or_has_gaps(tmp_path: Path) -> None:
    files = {"sales.csv": b"shop,y\n1,5\n9,6\n", "shops.csv": b"shop,size\n1,300\n"}

    def cleaned(folder: str, **join: Any) -> Chunk:
        block = NumberCleaning.model_validate(
            {
                "table": "sales.csv",
                "target": "y",
                "joins": [{"table": "shops.csv", "keys": {"shop": "shop"}, **join}],
            }
        )
        (chunk,) = clean_numbers(raw_of(tmp_path / folder, files), block)
        return chunk

    ((place, reject),) = cleaned("strict").rejects
    assert (place, reject.reason, reject.detail) == (
        1, "no partner", "sales.csv, row 1: shop '9' is not in shops.csv",
    )  # fmt: skip
    assert cleaned("lax", required=False).rows["numbers"].to_pylist() == [[1.0, 300.0], [9.0, None]]


def test_a_missing_side_table_or_column_is_named(tmp_path: Path) -> None:
    files = {"sales.csv": b"shop,y\n1,5\n", "shops.csv": b"store,size\n1,300\n"}
    block = NumberCleaning.model_validate(
        {"table": "sales.csv", "target": "y", "joins": [{"table": "shops.csv", "keys": {"shop": "shop"}}]}
    )
    with pytest.raises(ValueError, match=r"shops\.csv: there is no column 'shop'"):
        list(clean_numbers(raw_of(tmp_path, files), block))
