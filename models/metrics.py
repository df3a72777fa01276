"""Metrics that need no import of a second library; torchmetrics objects go wherever these go."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Average:
    """The mean over the examples of `values(outputs, targets)`, one number per example."""

    def __init__(self, values: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.values = values
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.total: Tensor | float = 0.0
        self.count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in one batch."""
        values = self.values(outputs, targets)
        self.total = self.total + values.sum(dtype=torch.float64)
        self.count += len(values)

    def merge(self, add: Callable[..., tuple[float, ...]]) -> None:
        """Take in what other processes counted: `add` sums numbers over them."""
        self.total, count = add(float(self.total), self.count)
        self.count = int(count)

    def compute(self) -> float:
        """The mean; nan before the first batch."""
        return float(self.total) / self.count if self.count else float("nan")


class Whole:
    """A figure that needs all outputs at once: keeps them (on their device) until it is computed."""

    def __init__(self, figure: Callable[[Tensor, Tensor], float]) -> None:
        self.figure = figure
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.kept: list[tuple[Tensor, Tensor]] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Keep one batch."""
        self.kept.append((outputs, targets))

    def compute(self) -> float:
        """`figure(outputs, targets)` of all batches; nan before the first."""
        if not self.kept:
            return float("nan")
        outputs, targets = zip(*self.kept, strict=True)
        return float(self.figure(torch.cat(outputs), torch.cat(targets)))


def accuracy() -> Average:
    """Share of the examples whose highest output (N, classes) is the target (N,)."""
    return Average(lambda outputs, targets: (outputs.argmax(1) == targets).float())


def error_rate() -> Average:
    """1 - accuracy: the course's headline."""
    return Average(lambda outputs, targets: (outputs.argmax(1) != targets).float())
