"""Cells to codes and numbers, whatever type they come in."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.tables.prepare import as_dates, as_numbers, as_texts, date_parts, encode

QUESTION: dict[str, Any] = {
    "categories": [{"name": "shop", "vocabulary": ["1", "2"]}, {"name": "Month", "vocabulary": ["1", "2"]}],
    "numbers": [{"name": "size", "median": 10.0, "mean": 12.0, "std": 2.0, "flag": True}],
    "dates": {"Date": "2024-01-01"}, "missing": ["", "?"], "decimal": ".", "date_format": "",
}  # fmt: skip


def test_a_whole_number_is_the_same_name_in_every_type() -> None:
    for values in (["1", "2"], [1, 2], [1.0, 2.0], ["1.0", " 2 "]):
        assert as_texts(pd.Series(values), ("",)).tolist() == ["1", "2"]
    assert as_texts(pd.Series(["?", None, np.nan, "x"]), ("?",)).tolist() == [None, None, None, "x"]


def test_numbers_that_are_none_are_told_from_gaps() -> None:
    values, wrong = as_numbers(pd.Series(["1e3", "?", "many", "inf", " 2.5 "]), ("?",))
    assert np.array_equal(values, [1000, np.nan, np.nan, np.nan, 2.5], equal_nan=True)
    assert wrong.tolist() == [False, False, True, True, False]


def test_a_date_is_taken_apart_as_fastai_does() -> None:
    dates, wrong = as_dates(pd.Series(["2015-07-31", "2015-02-31", ""]), ("",))
    assert wrong.tolist() == [False, True, False]
    parts = date_parts(dates, "SaleDate").iloc[0].to_dict()
    assert parts == {
        "SaleYear": 2015, "SaleMonth": 7, "SaleWeek": 31, "SaleDay": 31, "SaleDayofweek": 4,
        "SaleDayofyear": 212,
        "SaleIs_month_end": 1, "SaleIs_month_start": 0, "SaleElapsed": 16647,
    }  # fmt: skip


def test_rows_of_any_type_become_codes_and_numbers() -> None:
    dates = ["2024-02-01", "2024-09-01", None]
    frame = pd.DataFrame({"shop": [2, 7, None], "size": [14.0, None, "8"], "Date": dates})
    codes, numbers, faults = encode(frame, QUESTION)
    assert not faults
    assert codes.tolist() == [
        [2, 2, 1],
        [0, 0, 2],
        [0, 0, 1],
    ]  # unseen and missing names: 0; flag: 2 is a gap
    assert numbers[:, 0].tolist() == pytest.approx([1.0, -1.0, -2.0])


def test_every_faulty_cell_and_missing_column_is_named() -> None:
    frame = pd.DataFrame({"shop": ["1", "1"], "size": ["large", "8"], "Date": ["2024-02-01", "soon"]})
    assert encode(frame, QUESTION)[2] == [
        "row 1, column 'Date': 'soon' is no date", "row 0, column 'size': 'large' is no finite number",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"no column 'Date'.*no column 'size'; did you mean 'sizes'\?"):
        encode(pd.DataFrame({"shop": ["1"], "sizes": ["8"]}), QUESTION)


def test_a_text_is_the_same_number_however_often_it_stands_there() -> None:
    texts = ["1", "1.5", " 2 ", "many", "", None, "1e3", "-0.0", "inf", "?"]
    values, wrong = as_numbers(pd.Series(texts * 3), ("", "?"))
    for place, text in enumerate(texts * 3):
        (value,), (fault,) = as_numbers(pd.Series([text], dtype="str"), ("", "?"))
        assert np.array_equal(value, values[place], equal_nan=True)
        assert fault == wrong[place]
