"""Batches of images with boxes: the whole image squished to a square, its boxes moved along with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.examples import Items
from data.images.augment import generator_of, homographies, warp_points
from data.images.batches import MARGIN, ImageBatches, label_targets
from data.images.boxes import largest
from data.images.cache import open_pixels
from data.images.settings import Augmentation

PADDING = -1
"""Class of a row that is no object: images have different numbers of them."""
IGNORED = -2
"""Class of an ignored object of class 0; of class k it is IGNORED - k."""
VISIBLE = 0.3
"""Share of a box that must stay inside of an augmented image for its object to be there at all."""

Targets = tuple[Tensor, Tensor]
"""Boxes (N, M, 4) in shares of the image, and classes (N, M)."""


class BoxBatches:
    """Batches (images, (boxes, labels)): float32 (N, C, size, size) in [0, 1]; float32 (N, M, 4), x_min,
    y_min, x_max, y_max in shares of the image; int64 (N, M) with PADDING.

    Boxes go through the same homography as their image: of the moved corners the upright hull is taken and
    cut at the image's edge; an object of which less than VISIBLE is left becomes PADDING.
    """

    def __init__(self, pictures: ImageBatches, boxes: Tensor, labels: Tensor) -> None:
        """`pictures`: with the rows' numbers as targets; boxes (all, M, 4), labels (all, M)."""
        self.pictures, self.boxes, self.labels = pictures, boxes, labels

    def __len__(self) -> int:
        return len(self.pictures)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Targets]]:
        """The batches of epoch `number` from step `start` on."""
        made = self.pictures
        for step, (images, rows) in enumerate(made.epoch(number, start=start), start):
            chosen = rows.cpu()
            boxes, labels = self.boxes[chosen], self.labels[chosen]
            if made.augmentation is not None:
                # the draw that `augment` makes: same settings, size and generator
                geometry = homographies(
                    made.augmentation,
                    len(boxes),
                    size=made.size[0],
                    generator=generator_of(made.seed, number, step, 1),
                )
                boxes, there = warp_boxes(boxes, geometry)
                labels = torch.where(there, labels, PADDING)
            yield images, (boxes.to(images.device), labels.to(images.device))


def warp_boxes(boxes: Tensor, geometry: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (N, M, 4) in shares, as they stand after `augment.warp`, and (N, M) whether enough is left."""
    images, objects = boxes.shape[:2]
    if not objects:
        return boxes, torch.ones(images, 0, dtype=torch.bool)
    corners = boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(images, objects * 4, 2) * 2 - 1
    moved = (warp_points(corners, geometry).view(images, objects, 4, 2) + 1) / 2
    hull = torch.cat([moved.amin(2), moved.amax(2)], -1)
    cut = hull.clamp(0, 1)
    whole, left = ((each[..., 2] - each[..., 0]) * (each[..., 3] - each[..., 1]) for each in (hull, cut))
    return cut, left >= VISIBLE * whole


def object_classes(items: Items, parts: Sequence[str]) -> dict[str, int]:
    """Objects of each class in `parts`, by name in alphabetical order; ignored ones do not count."""
    table = items.table(parts, ["names", "ignored"])
    found: dict[str, int] = {}
    for names, ignored in zip(table["names"].to_pylist(), table["ignored"].to_pylist(), strict=True):
        for name, left_out in zip(names, ignored, strict=True):
            if not left_out:
                found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def open_boxes(
    items: Items,
    part: str,
    *,
    vocabulary: Sequence[str],
    only_largest: bool,
    size: int,
    batch_size: int,
    cache: Path,
    channels: int = 3,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> BoxBatches:
    """Batches of one part; the training part is shuffled and augmented.

    `only_largest`: one object an image, of the class in `label`; ValueError for a label that is not in
    `vocabulary`. Otherwise all objects; a class that training never saw has the number len(vocabulary).
    """
    training = part == "train"
    table = items.table([part], ["item_id", "label", "width", "height", "boxes", "names", "ignored"])
    rows = table.to_pylist()
    pixels = open_pixels(
        items,
        [part],
        size=size,
        channels=channels,
        resize="squish",
        margin=MARGIN if training else None,
        folder=cache,
    )
    pictures = ImageBatches(
        pixels,
        np.arange(len(rows)),
        item_ids=[row["item_id"] for row in rows],
        batch_size=batch_size,
        training=training,
        seed=seed,
        augmentation=augmentation,
        device=device,
    )
    if only_largest:
        labels = label_targets([row["label"] for row in rows], vocabulary)
        pairs = zip(rows, labels.tolist(), strict=True)
        chosen = [[(row["boxes"][largest(row)], label)] for row, label in pairs]
    else:
        numbers = {name: number for number, name in enumerate(vocabulary)}
        chosen = [_objects(row, numbers) for row in rows]
    most = max(map(len, chosen))
    boxes, kinds = torch.zeros(len(rows), most, 4), torch.full((len(rows), most), PADDING)
    for number, (row, objects) in enumerate(zip(rows, chosen, strict=True)):
        scale = torch.tensor([row["width"], row["height"]] * 2, dtype=torch.float32)
        boxes[number, : len(objects)] = torch.tensor([box for box, _ in objects]) / scale
        kinds[number, : len(objects)] = torch.tensor([kind for _, kind in objects])
    return BoxBatches(pictures, boxes, kinds)


def _objects(row: dict[str, list[object]], numbers: dict[str, int]) -> list[tuple[object, int]]:
    """Box and class of each object of an image."""
    found = []
    for box, name, ignored in zip(row["boxes"], row["names"], row["ignored"], strict=True):
        kind = numbers.get(str(name), len(numbers))
        found.append((box, IGNORED - kind if ignored else kind))
    return found
