"""Batches of pairs: one geometry for both, void at the borders, the same batch wherever one begins."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.examples import Items
from data.images.augment import generator_of
from data.images.masks import VOID
from data.images.masks_batches import MaskBatches, augment_pairs, open_pairs, scaled, warp_masks
from data.images.settings import Augmentation
from tests.data.images.masked import disc, write_pairs

ALL = Augmentation(rotate=30.0, zoom=1.5, warp=0.3, p_affine=1.0, p_lighting=1.0, lighting=0.4)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    return write_pairs(tmp_path_factory.mktemp("items") / "clean")


def opened(items: Items, folder: Path, part: str = "train", **changes: Any) -> MaskBatches:
    settings: dict[str, Any] = {"size": (24, 32), "batch_size": 3, "training": part == "train"}
    return open_pairs(items, [part], cache=folder, **{**settings, **changes})


def test_validation_sees_the_pixels_as_they_are(items: Items, tmp_path: Path) -> None:
    batches = opened(items, tmp_path, "valid", batch_size=4)
    ((images, masks),) = batches.epoch(0)
    assert images.shape == (4, 3, 24, 32)
    assert masks.dtype == torch.int64
    for place in range(4):
        image, mask = disc(8 + place)
        assert np.array_equal((images[place] * 255).round().byte().permute(1, 2, 0).numpy(), image)
        assert np.array_equal(masks[place].numpy(), np.where(mask == 2, VOID, mask))


def test_a_mask_keeps_its_values_at_any_size(items: Items, tmp_path: Path) -> None:
    for size in ((12, 40), 20, (50, 64)):
        ((images, masks),) = opened(items, tmp_path, "valid", batch_size=4, size=size).epoch(0)
        assert images.shape[-2:] == masks.shape[-2:]
        assert set(masks.unique().tolist()) == {0, 1, VOID}


def test_an_epoch_is_the_same_wherever_it_begins(items: Items, tmp_path: Path) -> None:
    batches = opened(items, tmp_path, augmentation=ALL, seed=5)
    torch.manual_seed(0)
    whole = list(batches.epoch(2))
    torch.manual_seed(1)
    rest = list(batches.epoch(2, start=1))
    for (images, masks), (again, same) in zip(whole[1:], rest, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(masks, same)
    other = list(batches.epoch(3))
    assert not torch.equal(whole[0][0], other[0][0])


def test_one_picture_alone_is_not_trained_on(items: Items, tmp_path: Path) -> None:
    assert len(opened(items, tmp_path, batch_size=7)) == 1
    assert len(opened(items, tmp_path, batch_size=3)) == 3
    assert len(opened(items, tmp_path, "valid", batch_size=3)) == 2


def test_image_and_mask_move_alike() -> None:
    """A disc that shines is still where its mask says, after any geometry; light leaves masks alone."""
    pairs = [disc(seed, height=48, width=64) for seed in range(8)]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([np.where(mask == 1, 1, 0) for _, mask in pairs]).astype(np.uint8))
    geometry = ALL.model_copy(update={"lighting": 0.0, "p_lighting": 0.75})
    seen, moved = augment_pairs(images, masks, geometry, generator_of(1))
    lit, same = augment_pairs(images, masks, ALL, generator_of(1))
    assert torch.equal(moved, same)
    assert not torch.equal(seen, lit)
    bright = seen.mean(dim=1) > 0.42
    disagree = (bright != (moved == 1)) & (moved != VOID)
    assert not torch.equal(moved, masks.long())
    assert disagree.float().mean() < 0.02


def test_what_lies_outside_is_void_whatever_the_image_shows_there() -> None:
    images = torch.full((4, 3, 20, 30), 255, dtype=torch.uint8)
    masks = torch.zeros((4, 20, 30), dtype=torch.uint8)
    shifts = Augmentation(flip="none", rotate=0.0, zoom=1.0, warp=0.0, lighting=0.0, pad=0.3)
    seen, moved = augment_pairs(images, masks, shifts, generator_of(3))
    assert set(moved.unique().tolist()) == {0, VOID}
    assert torch.equal(seen, torch.ones_like(seen)), "the image is continued by reflection"
    half = torch.eye(3).repeat(1, 1, 1)
    half[0, 0, 2] = 1.0
    read = warp_masks(masks[:1], half)
    assert (read[0, :, :15] == 0).all()
    assert (read[0, :, 15:] == VOID).all()


def test_a_cache_knows_masks_from_images_and_notices_new_masks(items: Items, tmp_path: Path) -> None:
    opened(items, tmp_path)
    assert len(list(tmp_path.glob("*/whole.json"))) == 2
    opened(items, tmp_path)
    assert len(list(tmp_path.glob("*/whole.json"))) == 2
    assert np.array_equal(opened(items, tmp_path, limit=0).masks[3], opened(items, tmp_path).masks[3])


def test_dihedral_needs_squares(items: Items, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dihedral turns squares; the size is \[24, 32\]"):
        opened(items, tmp_path, augmentation=Augmentation(flip="dihedral"))


def test_a_phase_scales_both_sides() -> None:
    assert scaled((360, 480), 180) == (180, 240)
    assert scaled((360, 480), None) == (360, 480)
    assert scaled(128, 64) == (64, 64)
