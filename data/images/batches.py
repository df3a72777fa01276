"""Batches of images: drawn by (seed, epoch), cut from the cache on the host, augmented on the device."""

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
from data.images.augment import as_floats, augment, generator_of, warp
from data.images.cache import Pixels, open_pixels, pixel_statistics
from data.images.prepare import height_and_width
from data.images.settings import Augmentation

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Statistics that the published ImageNet weights expect (torchvision, fastai's `imagenet_stats`)."""

MARGIN = 256 / 224
"""Side of a cached training image over the side that the network sees: ImageNet's 256 for 224, which leaves
detail for fastai's zoom of 1.1."""

UNLABELLED = -1
"""Target of an image without a label."""

AHEAD = 2
"""Batches that are gathered in the background before they are asked for."""

TTA_VIEWS = 4
"""Augmented views beside the original (fastai 0.7 and the course of 2018: 4, mean of all five)."""


def label_vocabulary(labels: Sequence[str | None]) -> list[str]:
    """The labels in alphabetical order, each once; null is none."""
    return sorted({label for label in labels if label is not None})


def label_targets(labels: Sequence[str | None], vocabulary: Sequence[str]) -> npt.NDArray[np.int64]:
    """The place of each label in `vocabulary`, `UNLABELLED` for null; ValueError names an unknown label."""
    places = {label: place for place, label in enumerate(vocabulary)}
    unknown = sorted({label for label in labels if label is not None and label not in places})
    if unknown:
        raise ValueError(
            f"no training example has the label {unknown[0]!r} ({len(unknown)} such labels): "
            "put examples of it into the training part, or reject it"
        )
    return np.array([UNLABELLED if label is None else places[label] for label in labels], dtype=np.int64)


def channel_statistics(
    items: Items,
    parts: Sequence[str],
    *,
    size: int,
    cache: Path,
    channels: int = 3,
    resize: str = "crop",
    margin: float = MARGIN,
    limit: int | None = None,
) -> dict[str, list[float]]:
    """Mean and deviation (`mean`, `std`) of each channel in [0, 1] over the training pixels of `parts`, which
    normalise the inputs of a network from scratch."""
    return pixel_statistics(
        open_pixels(
            items,
            parts,
            size=size,
            channels=channels,
            resize=resize,
            margin=margin,
            folder=cache,
            limit=limit,
        )
    )


class ImageBatches:
    """Batches (images, targets): float32 (N, C, size, size) in [0, 1], stored channels last, and int64 (N,).

    In training the order depends on (seed, epoch) alone, and window and augmentation of a batch on (seed,
    epoch, step); so a batch is the same whether or not those before it were made. Otherwise the order is that
    of the items.
    """

    def __init__(
        self,
        images: Pixels,
        targets: npt.NDArray[np.int64],
        *,
        item_ids: Sequence[str],
        batch_size: int,
        training: bool,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        assert len(images) == len(targets) == len(item_ids)
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is not above 0")
        if augmentation is not None and not training:
            raise ValueError("augmentation: has no effect on images that are not trained on; see tta")
        self.images, self.targets, self.item_ids = images, targets, tuple(item_ids)
        self.batch_size, self.training, self.seed = batch_size, training, seed
        self.augmentation, self.device = augmentation, torch.device(device)
        self.window, self.size = _window(images, self.item_ids)
        self.steps = count_steps(len(images), batch_size, training=training, drop_last=drop_last)

    def __len__(self) -> int:
        return self.steps

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` from step `start` on; those before it cost nothing."""
        order = self.order(number)
        with ThreadPoolExecutor(1, "gather") as background:
            waiting: deque[Future[tuple[Tensor, Tensor]]] = deque()
            for step in range(start, self.steps):
                waiting.append(background.submit(self._gather, order, number, step))
                if len(waiting) > AHEAD:
                    yield self._finish(waiting.popleft().result(), number, step - AHEAD)
            for step in range(self.steps - len(waiting), self.steps):
                yield self._finish(waiting.popleft().result(), number, step)

    def order(self, number: int) -> npt.NDArray[np.int64]:
        """The indices of all images in the order of epoch `number`."""
        if not self.training:
            return np.arange(len(self.images))
        drawn: npt.NDArray[np.int64] = shuffled(len(self.images), self.seed, number).numpy()
        return drawn

    def _gather(self, order: npt.NDArray[np.int64], number: int, step: int) -> tuple[Tensor, Tensor]:
        """uint8 windows (N, H, W, C) and targets on the host."""
        chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
        rows, columns = self.window
        batch = np.empty((len(chosen), rows, columns, self.images.geometry.channels), np.uint8)
        spot = np.full((len(chosen), 2), 0.5)
        if self.training:
            spot = torch.rand(len(chosen), 2, generator=generator_of(self.seed, number, step, 0)).numpy()
        spare = self.images.shapes[chosen] - self.window
        corners = np.minimum((spot * (spare + 1)).astype(np.int64), spare)
        for place, (index, (top, left)) in enumerate(zip(chosen.tolist(), corners.tolist(), strict=True)):
            batch[place] = self.images[index][top : top + rows, left : left + columns]
        windows, targets = torch.from_numpy(batch), torch.from_numpy(self.targets[chosen])
        if self.device.type == "cuda":
            return windows.pin_memory(), targets.pin_memory()
        return windows, targets

    def _finish(self, gathered: tuple[Tensor, Tensor], number: int, step: int) -> tuple[Tensor, Tensor]:
        windows, targets = (tensor.to(self.device, non_blocking=True) for tensor in gathered)
        images = windows.permute(0, 3, 1, 2)
        if self.augmentation is not None:
            generator = generator_of(self.seed, number, step, 1)
            return augment(images, self.augmentation, size=self.size[0], generator=generator), targets
        images = as_floats(images)
        if images.shape[-2:] != self.size:
            images = warp(images, torch.eye(3).expand(len(images), 3, 3), self.size)
        return images, targets


def count_steps(count: int, batch_size: int, *, training: bool, drop_last: bool = False) -> int:
    """Batches of an epoch of `count` examples."""
    full, rest = divmod(count, batch_size)
    # One image alone has no variance for batch norm, so such a rest is left out of training.
    dropped = training and full and (drop_last or rest == 1)
    return full + (1 if rest and not dropped else 0)


def shuffled(count: int, seed: int, number: int) -> Tensor:
    """(count,) int64: the order of the training examples in epoch `number`."""
    return torch.randperm(count, generator=generator_of(seed, number))


def open_images(
    items: Items,
    parts: Sequence[str],
    *,
    vocabulary: Sequence[str],
    size: int,
    batch_size: int,
    training: bool,
    cache: Path,
    channels: int = 3,
    resize: str = "crop",
    augmentation: Augmentation | None = None,
    seed: int = 0,
    margin: float = MARGIN,
    drop_last: bool = False,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    workers: int | None = None,
) -> ImageBatches:
    """Batches of the images of `parts`, from the cache below the folder `cache` (see `cache.open_pixels`).

    In training: shuffled, random windows of images `margin` times the size, `augmentation`. Otherwise: in
    order, exactly the pixels of `prepare`. Raises ValueError for an unknown label and where no image is in
    `parts`.
    """
    table = items.table(parts, ["item_id", "label"])
    images = open_pixels(
        items,
        parts,
        size=size,
        channels=channels,
        resize=resize,
        margin=margin if training else None,
        folder=cache,
        limit=limit,
        workers=workers,
    )
    return ImageBatches(
        images,
        label_targets(table["label"].to_pylist(), vocabulary),
        item_ids=table["item_id"].to_pylist(),
        batch_size=batch_size,
        training=training,
        seed=seed,
        augmentation=augmentation,
        drop_last=drop_last,
        device=device,
    )


def tta(
    images: Tensor, augmentation: Augmentation, *, views: int = TTA_VIEWS, seed: int = 0
) -> Iterator[Tensor]:
    """`images` (N, C, S, S) of a validation batch as they are, then `views` augmented versions of them:
    average the probabilities over all (fastai 0.7's test-time augmentation). The same call gives the same
    views."""
    yield images
    for view in range(views):
        yield augment(images, augmentation, size=images.shape[-1], generator=generator_of(seed, view))


def _window(images: Pixels, item_ids: Sequence[str]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of what is cut from each image, and of what the network sees."""
    geometry = images.geometry
    if geometry.resize == "none":
        odd = np.flatnonzero((images.shapes != images.shapes[0]).any(1))
        if len(odd):
            raise ValueError(
                f"resize: none needs images of one size; {item_ids[0]} has {images.shapes[0].tolist()} rows "
                f"and columns, {item_ids[odd[0]]} {images.shapes[odd[0]].tolist()}: use crop or squish"
            )
        shape = (int(images.shapes[0, 0]), int(images.shapes[0, 1]))
        return shape, shape
    seen = height_and_width(geometry.size)
    return (seen if geometry.margin is None else (geometry.side, geometry.side)), seen
