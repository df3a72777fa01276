"""What is compared where a table's target is a quantity, perhaps learned as its logarithm."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from models.metrics import Average, Whole


def scaled_squares(std: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean squared error in deviations of the target: 1 for whoever always answers the mean."""
    return lambda outputs, targets: ((outputs - targets) / std).square().mean()


def rmspe(*, log: bool) -> Whole:
    """Root of the mean squared error as a share of the target, targets of 0 left out (Kaggle's, for Rossmann;
    of logarithms it is the course's exp_rmspe)."""
    return Whole(lambda outputs, targets: _rmspe(_real(outputs, log), _real(targets, log)))


def absolute_error(*, log: bool) -> Average:
    """Mean absolute error in the target's own units."""
    return Average(lambda outputs, targets: (_real(outputs, log) - _real(targets, log)).abs())


def _real(values: Tensor, log: bool) -> Tensor:
    return values.double().exp() if log else values.double()


def _rmspe(predicted: Tensor, actual: Tensor) -> float:
    counted = actual != 0
    share = (predicted[counted] - actual[counted]) / actual[counted]
    return float(share.square().mean().sqrt())
