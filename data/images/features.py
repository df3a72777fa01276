"""Batches of features that were computed once: what a head alone trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from data.images.batches import ImageBatches, count_steps, shuffled


class FeatureBatches:
    """Batches (features, targets) of pictures, as `features` makes them of batches of images: (N, ...) on the
    pictures' device, and int64 (N,).

    They are computed at the first epoch that is asked for, in the order and the batches of the pictures, and
    kept in memory. In training the order depends on (seed, epoch) alone, otherwise it is that of the items.
    """

    def __init__(
        self, pictures: ImageBatches, features: Callable[[Tensor], Tensor], *, training: bool
    ) -> None:
        """`pictures`: all of a part, in order."""
        assert not pictures.training
        self.pictures, self.features, self.training = pictures, features, training
        self.steps = count_steps(len(pictures.targets), pictures.batch_size, training=training)
        self._kept: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return self.steps

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` from step `start` on."""
        if self._kept is None:
            made = [(self.features(images), targets) for images, targets in self.pictures.epoch(0)]
            self._kept = torch.cat([rows for rows, _ in made]), torch.cat([rows for _, rows in made])
        features, targets = self._kept
        size = self.pictures.batch_size
        order = torch.arange(len(targets))
        if self.training:
            order = shuffled(len(targets), self.pictures.seed, number)
        order = order.to(targets.device)
        for step in range(start, self.steps):
            rows = order[step * size : (step + 1) * size]
            yield features[rows], targets[rows]
