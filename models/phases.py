"""How long, how fast and what of it trains: phases, their schedules, layer groups and freezing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from models.objective import Objective
from models.optimisers import ADAMW
from models.settings import OptimiserSettings, PhaseSettings


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one step is taken."""

    factor: float
    """Share of the peak rates."""
    momentum: float | None = None
    """None leaves the optimiser's own."""


Schedule = Callable[[int, int, int], Pace]
"""(step, steps of the phase, steps per epoch) -> pace; a pure function, so any step can be continued from."""


def one_cycle(
    *,
    warm: float = 0.3,
    start_divisor: float = 25.0,
    end_divisor: float = 2.5e5,
    momentum: tuple[float, float] = (0.95, 0.85),
) -> Schedule:
    """The one-cycle policy of fastai v1 (Smith 2018), by cosines in both directions.

    For the share `warm` of the steps the rate rises from peak/`start_divisor` to the peak while the momentum
    falls from `momentum[0]` to `momentum[1]`; then the rate falls to peak/`end_divisor`, the momentum rises.
    """

    def pace(step: int, steps: int, epoch_steps: int) -> Pace:
        rising = int(steps * warm)
        if step < rising:
            share = step / rising
            return Pace(_cosine(1 / start_divisor, 1.0, share), _cosine(*momentum, share))
        share = (step - rising) / max(steps - rising, 1)
        return Pace(_cosine(1.0, 1 / end_divisor, share), _cosine(momentum[1], momentum[0], share))

    return pace


def constant() -> Schedule:
    """The peak rate throughout (fastai's `fit`)."""
    return lambda step, steps, epoch_steps: Pace(1.0)


def cosine_restarts(*, length: int, multiplier: int = 1) -> Schedule:
    """SGDR (Loshchilov and Hutter 2016): the rate falls from the peak to 0 along a cosine and starts again.

    The first cycle lasts `length` epochs, each later one `multiplier` times the one before (fastai 0.7:
    `cycle_len`, `cycle_mult`).
    """

    def pace(step: int, steps: int, epoch_steps: int) -> Pace:
        cycle = length * epoch_steps
        while step >= cycle:
            step -= cycle
            cycle *= multiplier
        return Pace(_cosine(1.0, 0.0, step / cycle))

    return pace


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


class Metric(Protocol):
    """What the loop asks of a metric; torchmetrics objects answer, and those of models/metrics."""

    def update(self, outputs: Any, targets: Any) -> Any:
        """Take in one validation batch."""
        ...

    def compute(self) -> Any:
        """The figure over all batches since the last reset."""
        ...

    def reset(self) -> Any:
        """Forget all batches."""
        ...


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training with a new optimiser."""

    name: str
    objective: Objective
    epochs: int
    rates: tuple[float, ...] | Mapping[str, tuple[float, ...]]
    """Peak rate of each layer group, from body to head; by name of the module where there are several."""
    frozen: int | Mapping[str, int] = 0
    """Number of layer groups, from the body, that keep their weights (their batch norms go on learning); by
    name of the module where there are several."""
    schedule: Schedule = field(default_factory=one_cycle)
    optimiser: OptimiserSettings | Mapping[str, OptimiserSettings] = ADAMW
    """By name of the module where they differ."""
    size: int | None = None
    """Side of the images in pixels, for whoever makes the batches; None: their own."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """What is computed over the validation batches, by the name it has in the history."""

    def rates_of(self, name: str) -> tuple[float, ...]:
        """Peak rates of the module called `name`."""
        return self.rates[name] if isinstance(self.rates, Mapping) else self.rates

    def frozen_of(self, name: str) -> int:
        """Frozen layer groups of the module called `name`."""
        return self.frozen[name] if isinstance(self.frozen, Mapping) else self.frozen

    def optimiser_of(self, name: str) -> OptimiserSettings:
        """Optimiser settings of the module called `name`."""
        return self.optimiser[name] if isinstance(self.optimiser, Mapping) else self.optimiser


def build_phase(
    settings: PhaseSettings,
    objective: Objective,
    *,
    name: str,
    optimiser: OptimiserSettings | Mapping[str, OptimiserSettings] = ADAMW,
    metrics: Mapping[str, Metric] | None = None,
) -> Phase:
    """The phase that `settings` describe, with rates and freezing resolved for the objective's layer groups.

    ValueError where a rate or freezing would have no effect (a network without a body to freeze).
    """
    rates: dict[str, tuple[float, ...]] = {}
    frozen: dict[str, int] = {}
    for module_name, module in objective.trainable().items():
        groups = len(layer_groups(module))
        rates[module_name] = spread(settings.rates, groups, earlier=settings.earlier)
        frozen[module_name] = _frozen(settings.freeze, groups)
    return Phase(
        name=name,
        objective=objective,
        epochs=settings.epochs,
        rates=rates,
        frozen=frozen,
        schedule=_schedule(settings),
        optimiser=optimiser,
        size=settings.size,
        metrics=metrics or {},
    )


def _schedule(settings: PhaseSettings) -> Schedule:
    if settings.schedule == "one_cycle":
        chosen: dict[str, Any] = {"warm": settings.warm, "momentum": settings.momenta}
        return one_cycle(**{name: value for name, value in chosen.items() if value is not None})
    if settings.schedule == "constant":
        return constant()
    return cosine_restarts(length=settings.cycle_length or 1, multiplier=settings.cycle_multiplier or 1)


def spread(rates: Sequence[float], groups: int, *, earlier: float | None = None) -> tuple[float, ...]:
    """Peak rates of `groups` layer groups: one rate for all (or divided by `earlier` for all but the last),
    two spread geometrically, or one each. ValueError where the numbers do not fit."""
    if groups == 1 and (len(rates) > 1 or earlier is not None):
        raise ValueError(
            f"the network has one layer group: give one rate, not {list(rates)}, and no 'earlier'"
        )
    if len(rates) == 1:
        return (*(rates[0] / (earlier or 1.0) for _ in range(groups - 1)), rates[0])
    if len(rates) == 2:
        step = (rates[1] / rates[0]) ** (1 / (groups - 1))
        return (*(rates[0] * step**place for place in range(groups - 1)), rates[1])
    if len(rates) != groups:
        raise ValueError(f"{len(rates)} rates for a network of {groups} layer groups; give 1, 2 or {groups}")
    return tuple(rates)


def _frozen(freeze: str | int, groups: int) -> int:
    if freeze == "none":
        return 0
    if groups == 1:
        raise ValueError(f"freeze is {freeze!r}, but the network has no body to freeze")
    count = groups - 1 if freeze == "body" else int(freeze)
    count = count + groups if count < 0 else count
    if not 0 <= count < groups:
        raise ValueError(f"freeze is {freeze}, but the network has {groups} layer groups: 0 to {groups - 1}")
    return count


def layer_groups(module: nn.Module) -> list[list[nn.Module]]:
    """The layer groups of a module from body to head: its own `parameter_groups()`, or all as one."""
    named = getattr(module, "parameter_groups", None)
    groups: list[list[nn.Module]] = named() if named is not None else [[module]]
    held = {id(parameter) for group in groups for each in group for parameter in each.parameters()}
    assert held == {id(parameter) for parameter in module.parameters()}, "groups must hold every parameter"
    return groups


def freeze(module: nn.Module, count: int) -> None:
    """Stop the gradients of the first `count` layer groups, except of batch norms (fastai's `train_bn`);
    all other parameters train. Modes are left alone, so that running statistics of batch norms go on."""
    for place, group in enumerate(layer_groups(module)):
        for inner in (inner for outer in group for inner in outer.modules()):
            learns = place >= count or isinstance(inner, nn.modules.batchnorm._BatchNorm)
            for parameter in inner.parameters(recurse=False):
                parameter.requires_grad_(learns)
