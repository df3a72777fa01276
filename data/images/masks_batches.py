"""Batches of images and masks: one geometry for both, light for the image alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.examples import Items
from data.images.augment import as_floats, change, generator_of, homographies, lightings, warp
from data.images.batches import AHEAD
from data.images.cache import Pixels, open_pixels
from data.images.masks import VOID
from data.images.prepare import height_and_width
from data.images.settings import Augmentation


class MaskBatches:
    """Batches (images, masks): float32 (N, 3, H, W) in [0, 1], stored channels last, and int64 (N, H, W) with
    a class's place or VOID for each pixel.

    In training the order depends on (seed, epoch) alone and the augmentation of a batch on (seed, epoch,
    step); so a batch is the same whether or not those before it were made. Otherwise the order is that of the
    items.
    """

    def __init__(
        self,
        images: Pixels,
        masks: Pixels,
        *,
        item_ids: Sequence[str],
        batch_size: int,
        training: bool,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        assert len(images) == len(masks) == len(item_ids)
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is not above 0")
        self.images, self.masks, self.item_ids = images, masks, tuple(item_ids)
        self.batch_size, self.training, self.seed = batch_size, training, seed
        self.augmentation, self.device = augmentation, torch.device(device)
        self.size = _one_size(images, self.item_ids)
        if augmentation is not None and augmentation.flip == "dihedral" and self.size[0] != self.size[1]:
            raise ValueError(f"augmentation.flip: dihedral turns squares; the size is {list(self.size)}")
        full, rest = divmod(len(images), batch_size)
        # One image alone leaves batch norms at the end of a network without a variance worth the name.
        self.steps = full + (1 if rest > (1 if training and full else 0) else 0)

    def __len__(self) -> int:
        return self.steps

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` from step `start` on; those before it cost nothing."""
        order = self.order(number)
        with ThreadPoolExecutor(1, "gather") as background:
            waiting: deque[tuple[int, Future[tuple[Tensor, Tensor]]]] = deque()
            for step in range(start, self.steps):
                waiting.append((step, background.submit(self._gather, order, step)))
                if len(waiting) > AHEAD:
                    first, future = waiting.popleft()
                    yield self._finish(future.result(), number, first)
            for step, future in waiting:
                yield self._finish(future.result(), number, step)

    def order(self, number: int) -> npt.NDArray[np.int64]:
        """The indices of all images in the order of epoch `number`."""
        if not self.training:
            return np.arange(len(self.images))
        drawn: npt.NDArray[np.int64] = torch.randperm(
            len(self.images), generator=generator_of(self.seed, number)
        ).numpy()
        return drawn

    def _gather(self, order: npt.NDArray[np.int64], step: int) -> tuple[Tensor, Tensor]:
        """uint8 images (N, H, W, C) and masks (N, H, W) on the host."""
        chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
        images = np.empty((len(chosen), *self.size, self.images.geometry.channels), np.uint8)
        masks = np.empty((len(chosen), *self.size), np.uint8)
        for place, index in enumerate(chosen.tolist()):
            images[place] = self.images[index]
            masks[place] = self.masks[index][..., 0]
        return torch.from_numpy(images), torch.from_numpy(masks)

    def _finish(self, gathered: tuple[Tensor, Tensor], number: int, step: int) -> tuple[Tensor, Tensor]:
        images, masks = (tensor.to(self.device, non_blocking=True) for tensor in gathered)
        images = images.permute(0, 3, 1, 2)
        if self.augmentation is None or not self.training:
            return as_floats(images), masks.long()
        return augment_pairs(images, masks, self.augmentation, generator_of(self.seed, number, step))


def augment_pairs(
    images: Tensor, masks: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`images` (N, C, H, W), uint8 or float in [0, 1], and `masks` (N, H, W) uint8, read through the same
    homographies: float32 images as `augment` makes them, stored channels last, and int64 masks.

    An image is resampled bilinearly, a mask by its nearest pixel; what lies outside of a mask is VOID,
    however the image goes on there. Light changes the image alone.
    """
    count, (height, width) = len(images), images.shape[-2:]
    aspect = width / height
    geometry = homographies(augmentation, count, size=min(height, width), generator=generator, aspect=aspect)
    shift, scale = lightings(augmentation, count, generator=generator)
    made = change(images, geometry, shift, scale, (height, width), padding=augmentation.padding)
    return made, warp_masks(masks, geometry)


def warp_masks(masks: Tensor, homographies: Tensor) -> Tensor:
    """`masks` (N, H, W) read through `homographies` (N, 3, 3), int64; VOID where that leads outside."""
    # Outside stands 0 (zeros), so every value goes up by one, and VOID becomes that 0.
    shifted = torch.where(masks == VOID, 0, masks.long() + 1).to(torch.float32)[:, None]
    read = warp(shifted, homographies, (masks.shape[-2], masks.shape[-1]), mode="nearest", padding="zeros")
    places = read[:, 0].round().long()
    return torch.where(places == 0, VOID, places - 1)


def open_pairs(
    items: Items,
    parts: Sequence[str],
    *,
    size: int | tuple[int, int],
    batch_size: int,
    training: bool,
    cache: Path,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    workers: int | None = None,
) -> MaskBatches:
    """Batches of the pairs of `parts`, from the cache below the folder `cache`.

    Whole pictures are brought to `size` (pixels a side, or height and width): what is cut off could not be
    answered for. Raises ValueError where no image is in `parts`.
    """
    names = items.table(parts, ["item_id"])["item_id"].to_pylist()
    seen = height_and_width(size)

    def pixels(column: str, channels: int, *, nearest: bool) -> Pixels:
        return open_pixels(
            items, parts, size=seen, channels=channels, resize="squish", column=column, nearest=nearest,
            folder=cache, limit=limit, workers=workers,
        )  # fmt: skip

    return MaskBatches(
        pixels("image", 3, nearest=False),
        pixels("mask", 1, nearest=True),
        item_ids=names,
        batch_size=batch_size,
        training=training,
        seed=seed,
        augmentation=augmentation,
        device=device,
    )


def scaled(size: int | tuple[int, int], side: int | None) -> tuple[int, int]:
    """Height and width of which the shorter is `side`, in the proportions of `size`; None keeps it."""
    height, width = height_and_width(size)
    if side is None:
        return height, width
    return round(height * side / min(height, width)), round(width * side / min(height, width))


def _one_size(images: Pixels, item_ids: Sequence[str]) -> tuple[int, int]:
    odd = np.flatnonzero((images.shapes != images.shapes[0]).any(1))
    assert not len(odd), f"{item_ids[odd[0]]} is not of the others' size"
    return int(images.shapes[0, 0]), int(images.shapes[0, 1])
