"""Settings of training and export as written in params.yaml; without torch, so checking them is quick."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

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
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0")
        return self

    def has_momentum(self) -> bool:
        """Whether a schedule may move the momentum."""
        default = {"adamw": 0.9, "sgd": 0.9, "rmsprop": 0.0}[self.name]
        value = self.momentum_decay if self.name == "adamw" else self.momentum
        return (default if value is None else value) > 0


class PhaseSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One phase as written in params.yaml. A setting that the chosen schedule does not use is an error."""

    epochs: int = Field(ge=1)
    """Passes over the training part."""
    rates: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
    """Peak rates. One: the rate of the head. Two: first and last layer group, the groups between in geometric
    steps (fastai's `slice(a, b)`). Otherwise one for each layer group."""
    earlier: float | None = Field(default=None, gt=0)
    """With one rate: the earlier groups train at that rate divided by this (default 1; fastai's
    `slice(rate)` is 10)."""
    freeze: Literal["none", "body"] | int = "none"
    """`body` trains the head only (fastai's `freeze`); a number freezes so many layer groups from the body, a
    negative one all but so many (fastai's `freeze_to`). Batch norms learn in any case."""
    schedule: Literal["one_cycle", "constant", "cosine_restarts"] = "one_cycle"
    """One cycle (2019), a constant rate (`fit`), or cosine with restarts (SGDR, 2018)."""
    warm: float | None = Field(default=None, gt=0, lt=1)
    """one_cycle: share of the steps in which the rate rises (default 0.3; fastai's `pct_start`)."""
    momenta: Annotated[tuple[float, float] | None, Field(strict=False)] = None
    """one_cycle: momentum at the lowest rate and at the peak (default 0.95, 0.85; ULMFiT 0.8, 0.7)."""
    cycle_length: int | None = Field(default=None, ge=1)
    """cosine_restarts: epochs of the first cycle (default 1)."""
    cycle_multiplier: int | None = Field(default=None, ge=1)
    """cosine_restarts: how many times longer each cycle is than the one before (default 1)."""
    size: int | None = Field(default=None, ge=8)
    """Side of the images in pixels in this phase (progressive resizing); default: the block's."""

    @model_validator(mode="after")
    def _only_used(self) -> PhaseSettings:
        used = {"one_cycle": ("warm", "momenta"), "cosine_restarts": ("cycle_length", "cycle_multiplier")}
        for name in ("warm", "momenta", "cycle_length", "cycle_multiplier"):
            if getattr(self, name) is not None and name not in used.get(self.schedule, ()):
                raise ValueError(f"{name} has no effect on the schedule {self.schedule}")
        if self.momenta is not None and not all(0 <= momentum < 1 for momentum in self.momenta):
            raise ValueError(f"momenta must be at least 0 and below 1, not {list(self.momenta)}")
        if any(rate <= 0 for rate in self.rates):
            raise ValueError(f"rates must be above 0, not {list(self.rates)}")
        if self.earlier is not None and len(self.rates) > 1:
            raise ValueError("earlier has no effect where rates has more than one value")
        if self.schedule == "cosine_restarts":
            length, multiplier, complete = self.cycle_length or 1, self.cycle_multiplier or 1, 0
            while complete < self.epochs:
                complete, length = complete + length, length * multiplier
            if complete != self.epochs:
                raise ValueError(f"{self.epochs} epochs end inside a cycle; {complete} would complete it")
        return self


class CourseFigure(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """What the course reached, for the card."""

    metric: str
    """One of the recipe's metrics."""
    value: float
    """The course's figure, in the metric's own unit."""
    source: str
    """Where the course states it: lesson, notebook, cell."""


class Submission(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """A table `id,label` for a competition, from the unlabelled examples of the test part."""

    label: str
    """The class whose probability is written."""
    clip: float = Field(default=0.005, gt=0, lt=0.5)
    """Probabilities are moved to at least this and at most 1 minus this: a competition that scores by log
    loss charges -log(clip) for a mistake that was sure of itself, and has no bound without it."""


class ExportSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """What is exported beside the `torch.export` program."""

    onnx: bool = True
    """Write `program.onnx` as well. False for a network with an operation that ONNX lacks."""
    tolerance: float | None = Field(default=None, gt=0)
    """Largest absolute difference between two forms' outputs; empty for `TOLERANCES` by precision."""
    course: CourseFigure | None = None
    """The course's figure beside ours in the card."""
    submission: Submission | None = None
    """Write `submission.csv`."""
