"""Features that are computed once: all of them, in any order, the same from any step on."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.images.batches import ImageBatches, open_images
from data.images.features import FeatureBatches
from tests.data.images.written import mixed, write_items


class Means:
    """The mean colour, and how many images it was asked for."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.mean((2, 3))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> ImageBatches:
    """21 images in batches of 4, so that one remains."""
    folder = tmp_path_factory.mktemp("items")
    labels = ["abc"[number % 3] for number in range(21)]
    items = write_items(folder / "clean", mixed(21), labels=labels)
    return open_images(
        items, ["train"], vocabulary=["a", "b", "c"], size=32, batch_size=4, training=False,
        cache=Path(folder) / "cache",
    )  # fmt: skip


def whole(pictures: ImageBatches) -> tuple[Tensor, Tensor]:
    """What the plain way gives: features and targets of all pictures in order."""
    made = [(images.mean((2, 3)), targets) for images, targets in pictures.epoch(0)]
    return torch.cat([one for one, _ in made]), torch.cat([one for _, one in made])


def test_in_evaluation_they_come_in_order_and_are_computed_once(pictures: ImageBatches) -> None:
    means = Means()
    batches = FeatureBatches(pictures, means, training=False)
    assert means.seen == 0
    for number in range(3):
        features, targets = (torch.cat(each) for each in zip(*batches.epoch(number), strict=True))
        assert torch.equal(features, whole(pictures)[0])
        assert torch.equal(targets, whole(pictures)[1])
    assert means.seen == 21
    assert len(batches) == 6


def test_in_training_each_epoch_has_its_own_order_of_all_but_a_single_rest(pictures: ImageBatches) -> None:
    batches = FeatureBatches(pictures, Means(), training=True)
    features, targets = whole(pictures)
    orders = []
    for number in range(3):
        made = list(batches.epoch(number))
        assert [len(rows) for rows, _ in made] == [4] * 5 == [4] * len(batches)
        drawn = torch.cat([rows for rows, _ in made])
        places = [int((features == row).all(1).nonzero()[0]) for row in drawn]
        assert len(set(places)) == 20
        assert torch.equal(torch.cat([each for _, each in made]), targets[places])
        orders.append(tuple(places))
    assert len(set(orders)) == 3


def test_the_same_epoch_is_the_same_from_any_step_on(pictures: ImageBatches) -> None:
    straight = list(FeatureBatches(pictures, Means(), training=True).epoch(4))
    for start in range(6):
        later = list(FeatureBatches(pictures, Means(), training=True).epoch(4, start=start))
        assert len(later) == 5 - start
        assert all(
            torch.equal(one, other)
            for pair in zip(later, straight[start:], strict=True)
            for one, other in zip(*pair, strict=True)
        )
