"""Batches: deterministic, resumable in mid-epoch, the same pixels with and without a cache."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.examples import Items
from data.images.augment import warp
from data.images.batches import (
    UNLABELLED,
    ImageBatches,
    channel_statistics,
    label_targets,
    label_vocabulary,
    open_images,
    tta,
)
from data.images.prepare import prepare
from data.images.settings import Augmentation
from tests.data.images.written import drawn, encoded, mixed, pets, write_items

Open = Callable[..., ImageBatches]


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    """21 training and 10 validation images of three classes, and 2 without a label."""
    contents = mixed(33)
    labels = [None if number > 30 else "cba"[number % 3] for number in range(33)]
    parts = ["valid" if place % 3 == 2 else "train" for place in range(31)] + ["test"] * 2
    return write_items(tmp_path_factory.mktemp("items") / "clean", contents, labels=labels, parts=parts)


@pytest.fixture(scope="module")
def opened(items: Items, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Opens the items with small defaults."""
    cache = tmp_path_factory.mktemp("cache")

    def opens(*parts: str, **settings: Any) -> ImageBatches:
        usual: dict[str, Any] = {
            "vocabulary": ["a", "b", "c"], "size": 32, "batch_size": 4, "training": parts == ("train",),
            "cache": cache,
        }  # fmt: skip
        return open_images(items, parts, **{**usual, **settings})

    return opens


def same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(one, other)
        for pair in zip(some, others, strict=True)
        for one, other in zip(*pair, strict=True)
    )


def test_validation_batches_are_prepare_in_order_with_the_last_one_partial(
    items: Items, opened: Open
) -> None:
    batches = opened("valid")
    everything = list(batches.epoch(0))
    contents = items.table(["valid"], ["image", "label"])
    assert len(batches) == len(everything) == 3
    assert [len(targets) for _, targets in everything] == [4, 4, 2]
    images, targets = torch.cat([x for x, _ in everything]), torch.cat([y for _, y in everything])
    expected = np.stack([prepare(one, size=32) for one in contents["image"].to_pylist()])
    assert torch.equal(images, torch.from_numpy(expected).permute(0, 3, 1, 2).float() / 255)
    assert ["abc"[target] for target in targets] == contents["label"].to_pylist()
    assert list(batches.item_ids) == items.table(["valid"], ["item_id"])["item_id"].to_pylist()
    assert images.dtype == torch.float32
    assert targets.dtype == torch.int64
    assert everything[0][0].is_contiguous(memory_format=torch.channels_last)
    assert same(everything, list(batches.epoch(5)))


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_a_start_in_mid_epoch_gives_what_straight_through_gives(
    opened: Open, augmentation: Augmentation | None, start: int
) -> None:
    straight = list(opened("train", augmentation=augmentation).epoch(3))
    assert same(list(opened("train", augmentation=augmentation).epoch(3, start=start)), straight[start:])


def test_order_windows_and_augmentation_depend_on_seed_and_epoch(opened: Open) -> None:
    first = list(opened("train", augmentation=Augmentation()).epoch(0))
    assert same(first, list(opened("train", augmentation=Augmentation()).epoch(0)))
    assert not same(first, list(opened("train", augmentation=Augmentation()).epoch(1)))
    assert not same(first, list(opened("train", augmentation=Augmentation(), seed=1).epoch(0)))


def test_an_epoch_shows_every_training_image_once(opened: Open) -> None:
    """21 images in batches of 6; the last batch has 3."""
    batches = opened("train", batch_size=6)
    assert sorted(batches.order(2).tolist()) == list(range(len(batches.images)))
    drawn_labels = Counter(target for _, targets in batches.epoch(2) for target in targets.tolist())
    assert drawn_labels == Counter(batches.targets.tolist())


def test_torchs_own_generator_is_left_alone(opened: Open) -> None:
    before = torch.get_rng_state()
    list(opened("train", augmentation=Augmentation()).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_windows_of_one_image_differ_along_its_longer_side(tmp_path: Path) -> None:
    """Without augmentation and of the very size, a training image is a crop of its pixels somewhere."""
    values = drawn(1, 64, 32)
    items = write_items(tmp_path / "clean", [encoded(values)] * 2, labels=["a", "a"])
    batches = open_images(
        items, ["train"], vocabulary=["a"], size=32, batch_size=2, training=True, cache=tmp_path / "cache"
    )
    crops = {values[:, left : left + 32].tobytes(): left for left in range(33)}
    places = []
    for number in range(40):
        for images, _ in batches.epoch(number):
            for image in (images * 255).round().byte().permute(0, 2, 3, 1):
                places.append(crops[np.ascontiguousarray(image.numpy()).tobytes()])
    assert len(set(places)) > 25
    assert min(places) <= 1
    assert max(places) >= 31


def test_a_margin_shows_the_whole_window_at_the_size(opened: Open) -> None:
    batches = opened("train", margin=1.5)
    assert batches.window == (48, 48)
    assert batches.size == (32, 32)
    assert next(iter(batches.epoch(0)))[0].shape == (4, 3, 32, 32)


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "steps"),
    [(4, False, 5), (6, False, 4), (6, True, 3), (20, False, 1), (21, True, 1), (30, True, 1)],
)
def test_a_single_rest_and_if_wished_any_rest_is_dropped_in_training(
    opened: Open, batch_size: int, drop_last: bool, steps: int
) -> None:
    """Of 21 training images in batches of 4 or 20 one remains, on which batch norm would fail."""
    batches = opened("train", batch_size=batch_size, drop_last=drop_last)
    assert len(batches.images) == 21
    sizes = [len(targets) for _, targets in batches.epoch(0)]
    assert len(sizes) == len(batches) == steps
    assert min(sizes) > 1


def test_without_room_for_a_cache_the_batches_are_the_same(opened: Open, tmp_path: Path) -> None:
    cached = list(opened("train", augmentation=Augmentation()).epoch(1))
    assert same(list(opened("train", augmentation=Augmentation(), cache=tmp_path, limit=10).epoch(1)), cached)


def test_an_abandoned_epoch_ends_its_thread(opened: Open) -> None:
    import threading

    running = iter(opened("train").epoch(0))
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gather")]


def test_unlabelled_images_have_a_target_of_their_own(opened: Open) -> None:
    assert opened("test").targets.tolist() == [UNLABELLED, UNLABELLED]


def test_vocabulary_and_targets() -> None:
    assert label_vocabulary(["b", None, "a", "b"]) == ["a", "b"]
    assert label_targets(["b", None, "a"], ["a", "b"]).tolist() == [1, -1, 0]
    with pytest.raises(ValueError, match=r"no training example has the label 'c' \(1 such"):
        label_targets(["a", "c"], ["a", "b"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"resize": "none"}, "needs images of one size"),
        ({"margin": 0.5}, "margin"),
    ],
)
def test_what_cannot_be_is_named(opened: Open, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        opened("train", **settings)
    with pytest.raises(ValueError, match="augmentation: has no effect"):
        opened("valid", augmentation=Augmentation())


def test_views_begin_with_the_image_itself_and_repeat(opened: Open) -> None:
    images, _ = next(iter(opened("valid").epoch(0)))
    views = list(tta(images, Augmentation()))
    assert len(views) == 5
    assert torch.equal(views[0], images)
    assert all(view.shape == images.shape and not torch.equal(view, images) for view in views[1:])
    assert all(torch.equal(*pair) for pair in zip(views, tta(images, Augmentation()), strict=True))
    assert not torch.equal(views[1], views[2])


def test_statistics_of_the_training_pixels(items: Items, opened: Open, tmp_path: Path) -> None:
    found = channel_statistics(items, ["train"], size=32, cache=tmp_path)
    batches = opened("train")
    pixels = (
        np.concatenate([batches.images[place].reshape(-1, 3) for place in range(len(batches.images))]) / 255
    )
    assert found["mean"] == pytest.approx(pixels.mean(0), abs=1e-12)
    assert found["std"] == pytest.approx(pixels.std(0), abs=1e-12)


def test_real_photographs_fast_enough_to_feed_a_network(datasets: Path, tmp_path: Path) -> None:
    """The rate is printed, not judged: machines differ."""
    contents = pets(datasets)
    items = write_items(tmp_path / "clean", contents, labels=["pet"] * len(contents))
    batches = open_images(
        items, ["train"], vocabulary=["pet"], size=128, batch_size=32, training=True,
        cache=tmp_path / "cache", augmentation=Augmentation(),
    )  # fmt: skip
    list(batches.epoch(0))
    begin = time.perf_counter()
    images = torch.cat([images for images, _ in batches.epoch(1)])
    print(f"{len(images) / (time.perf_counter() - begin):.0f} augmented images of 128 pixels per second")
    assert images.shape == (len(contents), 3, 128, 128)
    judged = open_images(
        items,
        ["train"],
        vocabulary=["pet"],
        size=128,
        batch_size=32,
        training=False,
        cache=tmp_path / "cache",
    )
    plain = torch.cat([images for images, _ in judged.epoch(0)])
    # Augmentation changes pictures, but not what a collection of them looks like as a whole.
    assert images.mean((0, 2, 3)).tolist() == pytest.approx(plain.mean((0, 2, 3)).tolist(), abs=0.03)
    assert images.std().item() == pytest.approx(plain.std().item(), abs=0.03)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator on this machine")
def test_an_accelerator_gives_the_same_batches(opened: Open) -> None:
    host, there = (
        list(opened("train", augmentation=Augmentation(), device=one).epoch(0)) for one in ("cpu", "cuda")
    )
    for (images, targets), (other, other_targets) in zip(host, there, strict=True):
        assert (images - other.cpu()).abs().max() < 1 / 255  # the host rounds to bytes
        assert torch.equal(targets, other_targets.cpu())
    eye = torch.eye(3).expand(len(there[0][0]), 3, 3)
    assert torch.equal(warp(there[0][0], eye, 32), there[0][0])
