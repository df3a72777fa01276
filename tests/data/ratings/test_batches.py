"""Batches: each rating once an epoch, in an order of its own; vocabularies of training rows only."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data.examples import SPLIT, Items
from data.ratings import seen
from data.ratings.batches import RatingBatches, encode, open_part, vocabulary
from data.ratings.cleaning import rating_schema

GIVEN = [  # user, item, rating, part
    ("10", "b", 4.0, "train"),
    ("9", "a", 2.0, "train"),
    ("10", "a", 5.0, "train"),
    ("10", "c", 1.0, "valid"),
    ("anna", "b", 3.0, "train"),
    ("new", "a", 3.0, "valid"),
]


@pytest.fixture
def items(tmp_path: Path) -> Items:
    rows = [
        {
            "item_id": str(place),
            "digest": "",
            "user": user,
            "item": item,
            "title": item.upper(),
            "rating": rating,
        }
        for place, (user, item, rating, _) in enumerate(GIVEN)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=rating_schema()), tmp_path / "items-00000.parquet")
    parts = [{"item_id": str(place), "part": row[-1]} for place, row in enumerate(GIVEN)]
    pq.write_table(pa.Table.from_pylist(parts, schema=SPLIT), tmp_path / "split.parquet")
    return Items(tmp_path, tmp_path)


def numbered(count: int, **options: int | None) -> RatingBatches:
    numbers = np.arange(count)
    return RatingBatches(
        numbers, numbers + 1000, numbers.astype(np.float32), batch_size=4, seed=options.get("seed")
    )


def test_every_rating_stands_once_in_an_epoch_and_rows_stay_together() -> None:
    batches = numbered(10, seed=3)
    drawn = [*batches.epoch(0)]
    assert [len(users) for users, _, _ in drawn] == [4, 4, 2]
    assert len(batches) == 3
    users, items, ratings = (torch.cat(column) for column in zip(*drawn, strict=True))
    assert sorted(users.tolist()) == [*range(10)]
    assert torch.equal(items, users + 1000)
    assert torch.equal(ratings, users.float())
    assert (users.dtype, items.dtype, ratings.dtype) == (torch.int64, torch.int64, torch.float32)


def test_epochs_differ_and_can_be_drawn_again_from_anywhere() -> None:
    batches = numbered(50, seed=3)
    first = [users.tolist() for users, _, _ in batches.epoch(0)]
    assert first != [users.tolist() for users, _, _ in batches.epoch(1)]
    assert first != [users.tolist() for users, _, _ in numbered(50, seed=4).epoch(0)]
    assert first[7:] == [users.tolist() for users, _, _ in numbered(50, seed=3).epoch(0, start=7)]


def test_drawing_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    list(numbered(20, seed=1).epoch(0))
    assert torch.equal(torch.rand(1), expected)


def test_without_a_seed_the_order_is_that_of_the_rows() -> None:
    assert [users.tolist() for users, _, _ in numbered(5).epoch(9)] == [[0, 1, 2, 3], [4]]


def test_vocabularies_and_statistics_are_of_training_rows_only(items: Items) -> None:
    facts = vocabulary(items)
    assert facts["users"] == ["9", "10", "anna"]  # numbers by size, then texts
    assert facts["items"] == ["a", "b"]
    assert facts["titles"] == ["A", "B"]
    assert facts["counts"] == [2, 2]
    assert (facts["lowest"], facts["highest"], facts["mean"]) == (2.0, 5.0, 3.5)
    starts, rated = seen.unpack(facts["seen"])
    assert [seen.of_user(starts, rated, code).tolist() for code in range(4)] == [[], [1], [1, 2], [2]]


def test_who_training_never_saw_is_code_0(items: Items) -> None:
    facts = vocabulary(items)
    ((users, names, ratings),) = open_part(items, "valid", facts, batch_size=8).epoch(0)
    assert users.tolist() == [2, 0]
    assert names.tolist() == [0, 1]
    assert ratings.tolist() == [1.0, 3.0]
    assert encode(pa.array(["anna", "ANNA"]), facts["users"]).tolist() == [3, 0]


def test_a_training_part_without_ratings_is_refused(items: Items) -> None:
    parts = [{"item_id": str(place), "part": "valid"} for place in range(len(GIVEN))]
    pq.write_table(pa.Table.from_pylist(parts, schema=SPLIT), items.split / "split.parquet")
    with pytest.raises(ValueError, match="training part holds no rating"):
        vocabulary(items)
