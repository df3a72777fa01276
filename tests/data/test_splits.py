"""Every method holds out what it says, in the shares it says, whatever the order of the rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from data import splits
from data.splits import OUT, Division, divide


def index(labels: list[str | None], **columns: Any) -> pd.DataFrame:
    count = len(labels)
    table = pd.DataFrame(
        {
            "item_id": [f"{number:05}.jpg" for number in range(count)],
            "label": pd.Series(labels, dtype="str"),
            "part": pd.Series([None] * count, dtype="str"),
            "group": pd.Series([None] * count, dtype="str"),
            "time": pd.Series([pd.NaT] * count, dtype="datetime64[us]"),
            "digest": [f"{number:064x}" for number in range(count)],
        }
    )
    return table.assign(**columns)


def split(table: pd.DataFrame, **settings: Any) -> Division:
    return divide(table, **{"method": "stratified", "valid": 0.2, "test": 0.0, "seed": 1, **settings})


def counts(parts: np.ndarray) -> dict[str, int]:
    return {
        str(part): int(count)
        for part, count in zip(*np.unique(parts.astype(str), return_counts=True), strict=True)
    }


@pytest.mark.parametrize("method", ["random", "stratified"])
def test_shares_are_exact_and_the_seed_decides(method: str) -> None:
    table = index(["a"] * 700 + ["b"] * 300)
    one, again, other = (split(table, method=method, test=0.1, seed=seed) for seed in (1, 1, 2))
    assert counts(one.parts) == {"train": 700, "valid": 200, "test": 100}
    assert np.array_equal(one.parts, again.parts)
    assert 0.2 < (one.parts != other.parts).mean() < 0.8
    if method == "stratified":
        assert counts(one.parts[:700]) == {"train": 490, "valid": 140, "test": 70}


def test_stratified_over_many_classes_reaches_the_total() -> None:
    table = index([f"class {number % 37}" for number in range(37 * 7)])
    done = split(table)
    assert counts(done.parts)["valid"] == 52  # a fifth of 259
    assert table.groupby("label")["item_id"].count().index[0] == "class 0"
    held_out = table["label"][done.parts == "valid"].value_counts()
    assert (held_out.min(), held_out.max(), len(held_out)) == (1, 2, 37)


def test_small_classes_go_to_training_or_are_left_out_and_are_reported() -> None:
    table = index(["a"] * 40 + ["b"] * 40 + ["c", "d", "d"])
    done = split(table, test=0.2)
    assert done.small_classes == {"c": 1, "d": 2}
    assert set(done.parts[80:]) == {"train"}
    assert counts(done.parts) == {"train": 49, "valid": 17, "test": 17}
    done = split(table, test=0.2, small_classes="reject")
    assert list(done.parts[80:]) == [OUT] * 3
    assert done.small_classes == {"c": 1, "d": 2}
    assert counts(done.parts)["valid"] == 16


def test_a_random_split_reports_classes_that_training_never_sees() -> None:
    done = divide(index(["a"] * 4, part=["train", "train", "valid", "valid"], label=["a", "a", "a", "z"]),
                  method="published", valid=0.2, test=0, seed=0)  # fmt: skip
    assert done.unseen_classes == {"z": 1}


def test_groups_are_never_separated() -> None:
    random = np.random.default_rng(0)
    groups = pd.Series([f"person {number}" for number in random.integers(0, 60, 1000)], dtype="str")
    table = index(["a", "b"] * 500, group=groups)
    done = split(table, method="group", test=0.1)
    parts_of_group = pd.Series(done.parts).groupby(groups).nunique()
    assert parts_of_group.max() == 1
    share = counts(done.parts)
    assert abs(share["valid"] - 200) <= 20
    assert abs(share["test"] - 100) <= 20
    with pytest.raises(ValueError, match=r"no example has a group; set clean.group"):
        split(index(["a"] * 9), method="group")


def test_by_order_the_last_are_held_out() -> None:
    done = split(index([None] * 1000), method="order", valid=0.2, test=0.1)
    assert "".join(part[0] for part in done.parts) == "t" * 700 + "v" * 200 + "t" * 100
    assert counts(done.parts) == {"train": 700, "valid": 200, "test": 100}


def test_an_order_has_no_folds() -> None:
    with pytest.raises(ValueError, match=r"split.folds has no effect on split.method order"):
        split(index([None] * 10), method="order", folds=5)


def test_by_time_the_latest_are_held_out_and_ties_stay_together() -> None:
    days = pd.Series(pd.date_range("2024-01-01", periods=100).repeat(10), dtype="datetime64[us]")
    shuffled = days.sample(frac=1, random_state=3, ignore_index=True)
    done = split(index(["a"] * 1000, time=shuffled), method="time", valid=0.1505, test=0.1)
    last = shuffled.groupby(done.parts).max()
    first = shuffled.groupby(done.parts).min()
    assert last["train"] < first["valid"] <= last["valid"] < first["test"]
    assert counts(done.parts) == {"train": 750, "valid": 150, "test": 100}
    missing = index(["a"] * 3, time=pd.Series([pd.NaT, pd.Timestamp(1), pd.Timestamp(2)]))
    with pytest.raises(ValueError, match=r"1 of 3 examples have none \(first: '00000.jpg'\)"):
        split(missing, method="time")


def test_published_parts_are_taken_as_they_are_or_refused() -> None:
    parts = ["train"] * 5 + ["valid"] * 3 + ["test"] * 2
    table = index(["a"] * 8 + [None] * 2, part=parts)
    assert list(split(table, method="published").parts) == parts
    with pytest.raises(ValueError, match=r"there is no part valid \(there is train\)"):
        split(table[:5], method="published")
    with pytest.raises(ValueError, match=r"2 of 10 examples lie in no published part \(first: '00008.jpg'\)"):
        split(table.assign(part=[*parts[:8], None, None]), method="published")


@pytest.mark.parametrize("method", ["random", "stratified"])
def test_unlabelled_published_test_images_are_never_drawn(method: str) -> None:
    table = index(["a", "b"] * 20 + [None] * 10, part=["train"] * 40 + ["test"] * 10)
    done = split(table, method=method)
    assert set(done.parts[40:]) == {"test"}
    assert counts(done.parts[:40]) == {"train": 32, "valid": 8}


def test_data_without_any_label_is_drawn_at_random_only() -> None:
    assert counts(split(index([None] * 50), method="random").parts) == {"train": 40, "valid": 10}
    with pytest.raises(ValueError, match="no example has a label; use random"):
        split(index([None] * 50))


def test_equal_content_and_ties_share_a_part() -> None:
    digests = [f"{number // 2:064x}" for number in range(200)]
    ties = [(0, 50), (50, 100), (100, 150)]
    for seed in range(10):
        done = split(index(["a", "b"] * 100, digest=digests), ties=ties, seed=seed)
        assert (done.parts[::2] == done.parts[1::2]).all()
        assert len({done.parts[row] for row in (0, 50, 100, 150)}) == 1
        assert counts(done.parts)["valid"] == 40


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"valid": 0.6, "test": 0.5}, r"split.valid \+ split.test is 1.1"),
        ({"small_classes": "reject", "labels": list("abcdefghij")}, "no example is left to draw from"),
        ({"labels": list("abcdefghij")}, "the valid part would be empty"),
    ],
)
def test_an_empty_part_is_an_error(settings: dict[str, Any], message: str) -> None:
    labels = settings.pop("labels", ["a"] * 10)
    with pytest.raises(ValueError, match=message):
        split(index(labels), **settings)


def test_folds_hold_every_example_out_once_and_keep_units_whole() -> None:
    index = pd.DataFrame(
        {
            "item_id": [f"{number:03d}" for number in range(60)],
            "label": ["a", "b", "b"] * 20,
            "part": [None] * 60,
            "group": [None] * 60,
            "digest": [str(number) for number in range(60)],
        }
    )
    held_out = []
    for fold in range(5):
        parts = divide(
            index, method="stratified", valid=0.2, test=0.0, seed=1, ties=[(0, 3)], folds=5, fold=fold
        ).parts
        rows = np.flatnonzero(parts == "valid")
        assert sum(index["label"][rows] == "a") in (3, 4, 5)
        assert (0 in rows) == (3 in rows), "tied examples share a fold"
        held_out += rows.tolist()
    assert sorted(held_out) == list(range(60))


def test_folds_need_a_draw() -> None:
    with pytest.raises(ValueError, match=r"folds has no effect on split.method published"):
        divide(pd.DataFrame(), method="published", valid=0.2, test=0.0, seed=1, folds=5)


def taken_one_by_one(units: list[int], sizes: list[int], quota: int) -> list[int]:
    """From the front whatever still fits, but never the last unit; else the smallest."""
    chosen: list[int] = []
    for unit in units:
        if sizes[unit] <= quota and len(chosen) + 1 < len(units):
            chosen.append(unit)
            quota -= sizes[unit]
    if not chosen and quota > 0 and len(units) > 1:
        chosen = [min(units, key=lambda unit: sizes[unit])]
    return chosen


@pytest.mark.parametrize("seed", range(40))
def test_units_are_taken_as_one_by_one(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count = int(draw.integers(1, 30))
    sizes = draw.integers(1, 2 + seed % 9, count)
    units = draw.permutation(count)
    for quota in range(sizes.sum() + 2):
        found = splits._take(units, sizes, quota)
        assert found.tolist() == taken_one_by_one(units.tolist(), sizes.tolist(), quota)


def test_rows_whose_content_is_their_own_are_units_of_their_own() -> None:
    table = index(["a"] * 6, digest=pd.Series(["x", None, "y", "x", None, "y"], dtype="category"))
    units = splits._units(table, [], group=False)
    assert units.tolist() == [0, 1, 2, 0, 3, 2]
    assert splits._units(table.assign(digest=None), [], group=False).tolist() == [*range(6)]


def test_names_as_categories_are_divided_like_names_as_texts() -> None:
    labels = [f"class {number % 7}" for number in range(300)] + ["rare", None]
    groups = pd.Series([f"person {number % 40}" for number in range(302)], dtype="str")
    table = index(labels, group=groups)
    named = table.astype(dict.fromkeys(("label", "group", "digest"), "category"))
    for settings in ({}, {"test": 0.1}, {"method": "random"}, {"method": "group"}, {"folds": 5, "fold": 2}):
        one, other = split(table, **settings), split(named, **settings)
        assert one.parts.tolist() == other.parts.tolist()
        assert (one.small_classes, one.unseen_classes) == (other.small_classes, other.unseen_classes)
