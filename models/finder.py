"""The learning-rate finder (Smith 2015): a short training with a rising rate, then all is as before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from models import checkpoint
from models.fit import Loaders
from models.optimisers import set_pace
from models.phases import Phase
from models.steps import Precision, autocast, build_optimisers, take_steps, to_device

BETA = 0.98
"""Share of the smoothed loss that each step keeps (fastai)."""


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """Losses by rate, and the rates that they suggest."""

    rates: tuple[float, ...]
    """Rate of the last layer group, rising by equal factors."""
    losses: tuple[float, ...]
    """Mean training loss of the batch; the sum where several modules train."""
    smoothed: tuple[float, ...]
    """Exponentially weighted mean of `losses`, corrected for its start."""
    steepest: float
    """Where the loss falls fastest (fastai's red dot)."""
    minimum: float
    """A tenth of the rate with the least smoothed loss (course, 2018)."""
    valley: float
    """Two thirds into the longest fall of the smoothed loss (fastai 2)."""


def find_rate(
    phase: Phase,
    loaders: Loaders,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    channels_last: bool = False,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    stop: float = 4.0,
) -> RateCurve:
    """Train `steps` batches while the rate rises from `low` to `high`, and put everything back.

    Layer groups keep the ratios of `phase.rates`; momentum stays at the optimiser's own. Ends early where the
    smoothed loss is above `stop` times its best, or not finite. Modules, objective and torch's generator are
    as before afterwards (the modules stay on `device`). ValueError where fewer than two steps were finite.
    """
    target = torch.device(device)
    for module in phase.objective.trainable().values():
        module.to(target)
        if channels_last:
            module.to(memory_format=torch.channels_last)
    random = checkpoint.take_random()
    before = checkpoint.clone(phase.objective.state())
    weights = checkpoint.copy_weights([phase])
    try:
        torch.manual_seed(seed)
        rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
        cast = autocast(precision, target)
        return _sweep(
            phase, loaders, rates=rates, device=target, cast=cast, channels_last=channels_last, stop=stop
        )
    finally:
        checkpoint.load_weights([phase], weights)
        for module in phase.objective.trainable().values():
            module.to(memory_format=torch.contiguous_format)
        phase.objective.load_state(before)
        checkpoint.restore_random(random)


def _sweep(
    phase: Phase,
    loaders: Loaders,
    *,
    rates: Sequence[float],
    device: torch.device,
    cast: Callable[[], AbstractContextManager[Any]],
    channels_last: bool,
    stop: float,
) -> RateCurve:
    optimisers = build_optimisers(phase)
    train, _ = loaders(phase)
    if len(train) == 0:
        raise ValueError("the training part makes no batch; lower the batch size")
    for module in phase.objective.trainable().values():
        module.train()
    phase.objective.start_epoch()
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    batches = (batch for epoch in count() for batch in train.epoch(epoch))
    for (step, rate), batch in zip(enumerate(rates), batches, strict=False):
        for name, optimiser in optimisers.items():
            peaks = phase.rates_of(name)
            set_pace(optimiser, [rate * peak / peaks[-1] for peak in peaks], None)
        batch = to_device(batch, device, channels_last=channels_last)
        taken = list(take_steps(phase.objective, batch, optimisers, cast=cast, clip=None))
        loss = sum(float(update.loss.detach()) for update in taken)
        mean = BETA * mean + (1 - BETA) * loss
        corrected = mean / (1 - BETA ** (step + 1))
        if not math.isfinite(loss) or (smoothed and corrected > stop * min(smoothed)):
            break
        losses.append(loss)
        smoothed.append(corrected)
    return read_curve(rates[: len(losses)], losses, smoothed)


def read_curve(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float]) -> RateCurve:
    """The suggestions of a curve.

    The slope is that of a line through the raw losses of a fifth of the curve: batches differ, and the
    smoothed loss, which at first is the mean of a few, would fall fastest where there is nothing but noise.
    """
    if len(rates) < 2:
        raise ValueError("the loss was not finite from the start: look at the data and the network")
    reach = max(len(rates) // 10, 1)
    slopes = [_slope(losses[max(place - reach, 0) : place + reach + 1]) for place in range(len(losses))]
    inner = range(reach, len(losses) - reach) or range(len(losses))
    steepest = min(inner, key=slopes.__getitem__)
    least = min(range(len(smoothed)), key=smoothed.__getitem__)
    start, end = _longest_fall(smoothed)
    return RateCurve(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        steepest=rates[steepest],
        minimum=rates[least] / 10,
        valley=rates[start + 2 * (end - start) // 3],
    )


def _slope(values: Sequence[float]) -> float:
    """Slope of the least-squares line through values at equal distances."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    rise = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return rise / sum((place - middle) ** 2 for place in range(len(values)))


def _longest_fall(values: Sequence[float]) -> tuple[int, int]:
    """First and last place of the longest decreasing subsequence, as fastai 2 finds its valley."""
    lengths = [1] * len(values)
    starts = list(range(len(values)))
    for place, value in enumerate(values):
        for earlier in range(place):
            if values[earlier] > value and lengths[earlier] + 1 > lengths[place]:
                lengths[place], starts[place] = lengths[earlier] + 1, starts[earlier]
    end = max(range(len(values)), key=lengths.__getitem__)
    return starts[end], end
