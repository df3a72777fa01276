"""The course's optimisers as settings, and parameter groups that spare norms and biases from weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field, model_validator
from torch import nn, optim

NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
)
_USED = {
    "adamw": ("momentum_decay", "square_decay", "epsilon"),
    "sgd": ("momentum", "nesterov"),
    "rmsprop": ("momentum", "square_decay", "epsilon"),
}


class OptimiserSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Which optimiser, and its constants. A constant that the chosen optimiser does not use is an error."""

    name: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    """AdamW (the course's default), SGD with momentum, or RMSProp."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Share of a weight taken off per step and unit of rate (course: 1e-2). AdamW decouples it from the
    gradient; SGD and RMSProp add it to the gradient, as L2."""
    decay_norms_and_biases: bool = False
    """Whether weight decay also acts on norm layers and biases (fastai's `bn_wd`)."""
    momentum: float | None = Field(default=None, ge=0, lt=1)
    """SGD (default 0.9, course) and RMSProp (default 0): share of the last step that is repeated.
    A one-cycle schedule takes its place, unless it is 0."""
    nesterov: bool | None = None
    """SGD: look ahead along the momentum (default no)."""
    momentum_decay: float | None = Field(default=None, ge=0, lt=1)
    """AdamW: decay of the mean gradient (default 0.9, fastai). A one-cycle schedule takes its place."""
    square_decay: float | None = Field(default=None, ge=0, lt=1)
    """AdamW and RMSProp: decay of the mean squared gradient (default 0.99, fastai)."""
    epsilon: float | None = Field(default=None, gt=0)
    """AdamW (default 1e-5, fastai) and RMSProp (default 1e-8, torch): added to the denominator."""

    @model_validator(mode="after")
    def _only_used(self) -> OptimiserSettings:
        names = ("momentum", "nesterov", "momentum_decay", "square_decay", "epsilon")
        for name in names:
            if getattr(self, name) is not None and name not in _USED[self.name]:
                raise ValueError(
                    f"{name} has no effect on {self.name}; it uses {', '.join(_USED[self.name])}"
                )
        return self

    def has_momentum(self) -> bool:
        """Whether a schedule may move the momentum."""
        default = {"adamw": 0.9, "sgd": 0.9, "rmsprop": 0.0}[self.name]
        value = self.momentum_decay if self.name == "adamw" else self.momentum
        return (default if value is None else value) > 0


ADAMW = OptimiserSettings()
"""The course's default."""


def build_optimiser(settings: OptimiserSettings, groups: Sequence[Sequence[nn.Module]]) -> optim.Optimizer:
    """An optimiser over the parameters of `groups` (body to head) that require gradients.

    Each entry of its `param_groups` holds `layer`, the number of the group that it belongs to; the loop
    sets the rates. ValueError where no parameter is left to train.
    """
    entries = []
    seen: set[int] = set()
    for layer, modules in enumerate(groups):
        decayed: list[nn.Parameter] = []
        spared: list[nn.Parameter] = []
        for module in (inner for outer in modules for inner in outer.modules()):
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                light = isinstance(module, NORMS) or "bias" in name
                (spared if light and not settings.decay_norms_and_biases else decayed).append(parameter)
        if decayed:
            entries.append({"params": decayed, "layer": layer, "weight_decay": settings.weight_decay})
        if spared:
            entries.append({"params": spared, "layer": layer, "weight_decay": 0.0})
    if not entries:
        raise ValueError("every parameter is frozen: nothing is left to train")
    if settings.name == "adamw":
        betas = (_or(settings.momentum_decay, 0.9), _or(settings.square_decay, 0.99))
        return optim.AdamW(entries, lr=0.0, betas=betas, eps=_or(settings.epsilon, 1e-5))
    if settings.name == "sgd":
        return optim.SGD(
            entries, lr=0.0, momentum=_or(settings.momentum, 0.9), nesterov=settings.nesterov or False
        )
    return optim.RMSprop(
        entries,
        lr=0.0,
        alpha=_or(settings.square_decay, 0.99),
        eps=_or(settings.epsilon, 1e-8),
        momentum=_or(settings.momentum, 0.0),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def set_pace(optimiser: optim.Optimizer, rates: Sequence[float], momentum: float | None) -> None:
    """Set the rate of each layer group, and the momentum where one is given."""
    for group in optimiser.param_groups:
        group["lr"] = rates[group["layer"]]
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum
