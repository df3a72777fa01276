"""Rows of a table with their types, and a reason for every row that is left out."""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from data.archives import Raw
from data.tables import cleaning
from data.tables.cleaning import clean_classes, table_schema
from data.tables.settings import ClassCleaning
from tests import tables
from tests.jobs import publish


def test_an_entry_alone_says_what_a_table_holds(tmp_path: Path) -> None:
    rows, rejects = tables.classes(
        tmp_path, tables.flats(), target="let", id="flat", dates=["listed on"], date_format="%d.%m.%Y"
    )
    described = json.loads(rows[0]["columns"])
    assert not rejects
    assert rows[3]["item_id"] == "F0003"
    assert "district" in described["categories"]
    assert described["numbers"][:2] == ["square metres", "rent"]
    assert "listed onMonth" in described["categories"]
    assert rows[5]["numbers"][0] is None
    assert set(rows[0]) == set(table_schema().names)


REASONS = {
    "ragged row": "F9001;Hafen;50",
    "not a number": "F9002;Hafen;large;01.02.2024;yes;900",
    "not a date": "F9003;Hafen;50;30.02.2024;yes;900",
    "no target": "F9004;Hafen;50;01.02.2024;;900",
    "unknown target": "F9005;Hafen;50;01.02.2024;perhaps;900",
    "not above the bound": "F9006;Hafen;50;01.02.2024;yes;0",
    "no id": ";Hafen;50;01.02.2024;yes;900",
}


def test_each_faulty_row_has_its_reason_and_is_named(tmp_path: Path) -> None:
    table = tables.flats() + "\n".join(REASONS.values()) + "\n"
    rows, rejects = tables.classes(
        tmp_path, table, target="let", id="flat", time="listed on", date_format="%d.%m.%Y",
        classes=["yes", "no"], above={"rent": 0},
    )  # fmt: skip
    assert len(rows) == 240
    assert {each.reason: each.reason for each in rejects} == {reason: reason for reason in REASONS}
    said = {each.reason: each.detail for each in rejects}
    assert said["not a number"] == "table.csv, row 241: square metres 'large'"
    assert "3 cells, the header has 6" in said["ragged row"]


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table\.csv has no column 'distrikt'; did you mean 'district'\?"):
        tables.classes(tmp_path, tables.flats(), target="let", categories=["distrikt"])


def test_a_column_of_mixed_types_is_a_name_or_must_be_settled(tmp_path: Path) -> None:
    lines = ["a,b,y"] + [f"{n if n % 2 else 'x'},{n},{n % 3}" for n in range(60)]
    rows, _ = tables.classes(tmp_path / "1", "\n".join(lines), target="y")
    assert json.loads(rows[0]["columns"])["categories"] == ["a"]
    lines = ["a,b,y"] + [f"text {n},{n},{n % 3}" for n in range(600)]
    with pytest.raises(ValueError, match="column 'a' holds 600 texts in 600 rows"):
        tables.classes(tmp_path / "2", "\n".join(lines), target="y")


def test_numbers_with_decimal_commas(tmp_path: Path) -> None:
    rows, rejects = tables.numbers(tmp_path, "a;y\n1.234,5;2,5\n0,5;1\n", target="y", decimal=",")
    assert not rejects
    assert [row["numbers"] for row in rows] == [[1234.5], [0.5]]
    assert [row["target"] for row in rows] == [2.5, 1.0]


def test_published_parts_by_rows_and_by_column(tmp_path: Path) -> None:
    rows, _ = tables.classes(tmp_path / "1", tables.flats(), target="let", id="flat", drop=["listed on"],
                             valid_rows=[80, 100])  # fmt: skip
    assert Counter(row["part"] for row in rows) == {"train": 220, "valid": 20}
    assert rows[80]["part"] == "valid"
    with pytest.raises(ValueError, match="ends at 500"):
        tables.classes(tmp_path / "2", tables.flats(), target="let", drop=["flat"], valid_rows=[80, 500])
    table = "a,y,where\n1,u,train\n2,v,valid\n3,u,elsewhere\n"
    rows, rejects = tables.classes(tmp_path / "3", table, target="y", part="where")
    assert [row["part"] for row in rows] == ["train", "valid"]
    assert [each.reason for each in rejects] == ["unknown part"]


def test_equal_people_are_not_one_person(tmp_path: Path) -> None:
    rows, _ = tables.classes(tmp_path, "a,y\n1,u\n1,u\n2,v\n", target="y")
    assert len({row["digest"] for row in rows}) == 3


def test_targets_are_unified_and_the_unlabelled_may_be_the_test_part(tmp_path: Path) -> None:
    table = "a,y\n1, >50K.\n2,>50K\n3,<=50K\n4,?\n"
    rows, _ = tables.classes(tmp_path, table, target="y", relabel={">50K.": ">50K"}, without_target="test")
    assert [(row["label"], row["part"]) for row in rows][-1] == (None, "test")
    assert Counter(row["label"] for row in rows) == {">50K": 2, "<=50K": 1, None: 1}


def test_the_census_of_the_course(datasets: Path, tmp_path: Path) -> None:
    raw = Raw(publish(tmp_path, {"adult_sample.tgz": datasets / "adult_sample.tgz"}))
    block = ClassCleaning(target="salary", valid_rows=(800, 1000), classes=("<50k", ">=50k"))
    rows = [row for chunk in clean_classes(raw, block) for row in chunk.rows.to_pylist()]
    assert len(rows) == 32_561
    assert Counter(row["label"] for row in rows) == {"<50k": 24_720, ">=50k": 7_841}
    described = json.loads(rows[0]["columns"])
    assert described["numbers"] == [
        "age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"
    ]  # fmt: skip
    missing = sum(row["numbers"][described["numbers"].index("education-num")] is None for row in rows)
    assert missing == 487


def test_stretches_end_anywhere_and_digests_are_those_of_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block: dict[str, Any] = {
        "target": "let", "id": "flat", "time": "listed on", "dates": ["listed on"], "date_format": "%d.%m.%Y",
        "classes": ["yes", "no"], "above": {"rent": 0}, "valid_rows": [80, 100],
    }  # fmt: skip
    more = tables.flats(30, seed=2).partition("\n")[2]
    table = tables.flats() + "\n".join(REASONS.values()) + "\n" + more
    whole = tables.classes(tmp_path / "whole", table, **block)
    monkeypatch.setattr(cleaning, "CHUNK", 17)
    parted = tables.classes(tmp_path / "parted", table, **block)
    assert whole == parted
    assert len(whole[1]) == len(REASONS)
    for row in whole[0]:
        content = [row["item_id"], row["categories"], row["numbers"], row["label"], row["target"]]
        assert row["digest"] == sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def test_quantities_are_digested_as_json_writes_them(tmp_path: Path) -> None:
    rows, _ = tables.numbers(tmp_path, 'a,n,y\n"say ""x""",-0.0,1e16\nb\u00fc,0.1,3\n,,2\n', target="y")
    for row in rows:
        content = [row["item_id"], row["categories"], row["numbers"], row["label"], row["target"]]
        assert row["digest"] == sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
    assert [row["numbers"] for row in rows] == [[-0.0], [0.1], [None]]
