"""Items meet their split by position where the order is the same, and by name where it is not."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from data.examples import PARTS, SPLIT, Items

NAMES = [f"item {number:03}" for number in range(100)]
PART = [PARTS[number % 7 % 3] for number in range(100)]


def items_of(folder: Path, names: list[str], split: dict[str, str]) -> Items:
    """Two shards of these items, in this order, beside this split."""
    for place, here in enumerate((names[:60], names[60:])):
        table = pa.table({"item_id": here, "label": [name.upper() for name in here]})
        (folder / "clean").mkdir(exist_ok=True)
        pq.write_table(table, folder / "clean" / f"items-{place:05}.parquet", row_group_size=25)
    (folder / "split").mkdir()
    table = pa.table([list(split), list(split.values())], schema=SPLIT)
    pq.write_table(table, folder / "split" / "split.parquet")
    return Items(folder / "clean", folder / "split")


def looked_up(items: Items, parts: list[str]) -> list[str]:
    """Ids of the examples in `parts`: each is looked up by its name."""
    split = pq.read_table(items.split / "split.parquet")
    wanted = split.filter(pc.is_in(split["part"], pa.array(parts)))["item_id"].to_pylist()
    there = [name for shard in items.shards() for name in pq.read_table(shard)["item_id"].to_pylist()]
    return [name for name in there if name in wanted]


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], NAMES[50:] + NAMES[:50]])
@pytest.mark.parametrize("left_out", [[], NAMES[10:12], NAMES[-1:], NAMES[:1]])
def test_every_part_as_looked_up_by_name(tmp_path: Path, names: list[str], left_out: list[str]) -> None:
    split = {name: part for name, part in zip(NAMES, PART, strict=True) if name not in left_out}
    items = items_of(tmp_path, names, split)
    for parts in (["train"], ["valid", "test"], list(PARTS)):
        for rows in (7, 256):
            found = [
                name for batch in items.batches(parts, rows=rows) for name in batch["item_id"].to_pylist()
            ]
            assert found == looked_up(items, parts)
        table = items.table(parts, ["label", "item_id"])
        assert table.column_names == ["label", "item_id"]
        assert table["label"].to_pylist() == [name.upper() for name in table["item_id"].to_pylist()]
        assert items.count(parts) == table.num_rows


def test_a_part_without_examples_is_an_empty_table(tmp_path: Path) -> None:
    items = items_of(tmp_path, NAMES, dict.fromkeys(NAMES, "train"))
    assert items.table(["test"], ["label"]).schema.names == ["label"]
    assert items.count(["test"]) == 0


@pytest.mark.parametrize("strange", ["item 999", "another"])
def test_a_split_of_other_items_is_an_error(tmp_path: Path, strange: str) -> None:
    items = items_of(tmp_path, NAMES, {**dict.fromkeys(NAMES, "train"), strange: "valid"})
    with pytest.raises(ValueError, match=rf"split\.parquet names '{strange}'.*run split again"):
        items.count()


def test_an_item_that_is_split_twice_is_an_error(tmp_path: Path) -> None:
    items = items_of(tmp_path, NAMES, {})
    pq.write_table(
        pa.table([NAMES[:3] + NAMES[2:], ["train"] * 101], schema=SPLIT), items.split / "split.parquet"
    )
    with pytest.raises(ValueError, match="names an item twice"):
        items.count()
