"""The rows of a part are coded a stretch at a time, as at once and as in the exported model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.chunks import chunks
from data.examples import SPLIT, Items
from data.shards import ShardWriter
from data.tables import coding, prepare
from data.tables.cleaning import clean_classes, table_schema
from data.tables.coding import encode_part, learn_columns, question
from data.tables.settings import ClassCleaning
from tests import tables
from tests.jobs import raw_of


def flats(folder: Path) -> Items:
    """The flats as cleaned, every fifth of them held out."""
    block = ClassCleaning(target="let", id="flat", dates=("listed on",), date_format="%d.%m.%Y")
    raw = raw_of(folder / "download", {"table.csv": tables.flats().encode()})
    items = Items(folder / "clean", folder / "split")
    items.clean.mkdir()
    items.split.mkdir()
    names = []
    with ShardWriter(items.clean, table_schema()) as shards:
        for chunk in chunks(clean_classes(raw, block), table_schema()):
            shards.write(chunk.rows)
            names += chunk.rows["item_id"].to_pylist()
    parts = ["valid" if number % 5 == 0 else "train" for number in range(len(names))]
    pq.write_table(pa.table([names, parts], schema=SPLIT), items.split / "split.parquet")
    return items


def test_stretches_give_what_the_whole_part_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = flats(tmp_path)
    facts = learn_columns(items)
    whole = [encode_part(items, part, facts) for part in ("train", "valid")]
    monkeypatch.setattr(coding, "ROWS", 11)
    assert learn_columns(items) == facts
    for part, (codes, numbers) in zip(("train", "valid"), whole, strict=True):
        again = encode_part(items, part, facts)
        assert np.array_equal(codes, again[0])
        assert np.array_equal(numbers, again[1])


def test_the_exported_model_codes_a_published_row_alike(tmp_path: Path) -> None:
    items = flats(tmp_path)
    facts = learn_columns(items)
    codes, numbers = encode_part(items, "valid", facts)
    lines = [line.split(";") for line in tables.flats().splitlines()]
    published = pd.DataFrame(lines[1:], columns=lines[0])[::5]
    expected_codes, expected_numbers, faults = prepare.encode(published, question(facts))
    assert not faults
    assert np.array_equal(codes, expected_codes)
    assert np.array_equal(numbers, expected_numbers)
