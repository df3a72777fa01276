"""Batches of rows: the whole part lives as tensors on the device, a batch is a slice of a drawn order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.examples import Items
from data.tables.coding import class_targets, encode_part, number_targets

GATHERED = 64
"""Batches whose rows are gathered at once."""


class TableBatches:
    """Batches (codes, numbers, targets): int64 (N, columns), float32 (N, columns), and (N,) of any type.

    In training every row comes once an epoch, in an order that depends on (seed, epoch) alone; otherwise the
    order is that of the rows.
    """

    def __init__(
        self, codes: Tensor, numbers: Tensor, targets: Tensor, *, batch_size: int, training: bool,
        seed: int = 0, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        assert len(codes) == len(numbers) == len(targets)
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is not above 0")
        self.codes, self.numbers, self.targets = (each.to(device) for each in (codes, numbers, targets))
        self.batch_size, self.training, self.seed = batch_size, training, seed
        full, rest = divmod(len(targets), batch_size)
        # One row alone has no variance for batch norm, so such a rest is left out of training.
        self.steps = full + bool(rest and not (training and full and rest == 1))

    def __len__(self) -> int:
        return self.steps

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of epoch `number` from step `start` on.

        Rows are gathered for many batches at once; a batch is then a view, no dearer than its slice.
        """
        order = self.order(number)
        rows, stop = GATHERED * self.batch_size, min(self.steps * self.batch_size, len(self.targets))
        for first in range(start * self.batch_size, stop, rows):
            here: slice | Tensor = slice(first, min(first + rows, stop))
            if order is not None:
                here = order[here]
            columns = (self.codes[here], self.numbers[here], self.targets[here])
            yield from zip(*(torch.split(column, self.batch_size) for column in columns), strict=True)

    def order(self, number: int) -> Tensor | None:
        """The rows in the order of epoch `number`; None for their own."""
        if not self.training:
            return None
        drawn = np.random.default_rng([self.seed, number]).permutation(len(self.targets))
        return torch.from_numpy(drawn).to(self.targets.device)


def open_rows(
    items: Items, part: str, facts: Mapping[str, Any], *, batch_size: int, seed: int = 0,
    device: torch.device | str = "cpu",
) -> TableBatches:  # fmt: skip
    """Batches of one part; the training part is shuffled.

    Targets: int64, the place in `facts["classes"]` (-1: unlabelled), or float32 in the units of
    `facts["target"]` (nan: unlabelled).
    """
    codes, numbers = encode_part(items, part, facts)
    if "classes" in facts:
        targets = torch.from_numpy(class_targets(items, part, facts["classes"]))
    else:
        values = number_targets(items, part)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(values) if facts["target"]["log"] else values
        targets = torch.from_numpy(values.astype(np.float32))
    return TableBatches(
        torch.from_numpy(codes), torch.from_numpy(numbers), targets,
        batch_size=batch_size, training=part == "train", seed=seed, device=device,
    )  # fmt: skip
