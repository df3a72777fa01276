"""What kinds share of receiving: every fault is named, in the order of rows; texts are read as written."""

from pathlib import Path

import pandas as pd
import pytest

from tasks.predictors.questions import cells, gather, read_text


def whole(value: object, name: str) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{name}: {value!r} is not whole")
    return value


def test_all_faults_stand_in_one_message() -> None:
    rows = pd.DataFrame({"count": pd.Series([1, "a", 2, None], dtype=object)})
    with pytest.raises(ValueError, match=r"^idle; row 1 of column `count`: 'a' .*; row 3 of .* None is"):
        gather(cells(rows, "count"), whole, faults=["idle"])
    assert gather(cells(rows.iloc[[0, 2]], "count"), whole) == [1, 2]


def test_a_fault_that_is_known_before_is_enough() -> None:
    with pytest.raises(ValueError, match=r"^idle$"):
        gather([], whole, faults=["idle"])


@pytest.mark.parametrize(
    ("rows", "told"), [(pd.DataFrame({"a": [1], "b": [2]}), "a, b"), (pd.DataFrame(), "none")]
)
def test_a_missing_column_is_named_with_those_that_are_there(rows: pd.DataFrame, told: str) -> None:
    with pytest.raises(ValueError, match=rf"there is no column `count`; the columns are {told}$"):
        cells(rows, "count")


def test_a_text_loses_its_byte_order_mark_only(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeffcafé\r\n".encode())
    assert read_text(file) == "café\r\n"
    file.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"text.txt is not UTF-8 text: unexpected end of data at byte 3"):
        read_text(file)
