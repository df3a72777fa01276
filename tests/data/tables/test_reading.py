"""Tables as they come: encodings, delimiters, rows of another length, and what is no table at all."""

import pytest

from data.tables import reading
from data.tables.reading import Table, open_table


def read_table(content: bytes, **how: str) -> Table:
    return open_table(content, **how).whole()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encoding_and_delimiter_are_found_out(encoding: str, delimiter: str) -> None:
    text = f"stra\u00dfe{delimiter}n\nKr\u00fcgerweg{delimiter}7\n"
    table = read_table(text.encode(encoding), file="t.csv")
    assert table.rows.to_dict("list") == {"stra\u00dfe": ["Kr\u00fcgerweg"], "n": ["7"]}


def test_a_cell_in_quotes_may_hold_delimiters_and_lines() -> None:
    table = read_table(b'a,b\n"x,\ny",2\n', file="t.csv")
    assert table.rows["a"].tolist() == ["x,\ny"]


def test_rows_of_another_length_are_set_apart_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 32)  # several blocks
    lines = ["a,b"] + [f"{number},x" for number in range(30)]
    lines[5], lines[20] = "4", "19,x,y"
    table = open_table("\n".join(lines).encode(), file="t.csv")
    assert [each.row for each in table.ragged] == [4, 19]
    assert [each.found for each in table.ragged] == [1, 3]
    whole, stretches = table.whole(), [*table.stretches(7)]
    assert whole.rows["a"].tolist() == [str(number) for number in whole.numbers]
    assert [len(each.rows) for each in stretches] == [7, 7, 7, 7]
    assert [cell for each in stretches for cell in each.rows["a"]] == whole.rows["a"].tolist()
    assert [number for each in stretches for number in each.numbers] == whole.numbers.tolist()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"a,b\n", "no row"),
        (b"a,b,a\n1,2,3\n", "2 columns are named 'a'"),
        (b"PK\x03\x04\x00\x00", "no text"),
    ],
)
def test_what_is_no_table_is_refused_by_name(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"flats.csv.*{said}"):
        read_table(content, file="flats.csv")


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(ValueError, match="no encoding 'klingon'"):
        read_table(b"a\n1\n", file="t.csv", encoding="klingon")
