"""Losses as functions of raw outputs and targets, each a mean over the examples."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(*, smoothing: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Softmax cross-entropy of logits (N, classes) with targets (N,), int64.

    smoothing: share of the target probability spread over all classes (Szegedy 2015), in [0, 1).
    """
    return lambda outputs, targets: F.cross_entropy(outputs, targets, label_smoothing=smoothing)
