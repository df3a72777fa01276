"""Settings of classifiers as written in params.yaml. Without torch, so that checking them is quick."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from models.settings import PhaseSettings

Name = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "squeezenet1_0",
    "squeezenet1_1",
    "vgg16_bn",
    "densenet121",
    "logistic",
    "mlp",
    "cnn",
    "cnn_bn",
    "resnet",
]


FLAT = ("logistic", "mlp")


CONVOLUTIONAL = ("cnn", "cnn_bn", "resnet")


class NetworkSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Which network. A setting that it does not use is an error."""

    name: Name = "resnet34"
    """A torchvision body with the course's head (resnet18 to densenet121), or one of the course's networks
    from scratch (logistic, mlp, cnn, cnn_bn, resnet)."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """torchvision bodies: dropout before the last layer; half of it before (default 0.5, course)."""
    hidden: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] | None = None
    """Widths of hidden layers: of the head (default 512, course), or of `mlp` (default 50, course)."""
    final_norm: bool | None = None
    """torchvision bodies: a batch norm after the last layer (default no; fastai's `bn_final`)."""
    widths: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] | None = None
    """cnn, cnn_bn, resnet: channels after each halving of the picture (default 8, 16, 32, 16, course)."""

    @model_validator(mode="after")
    def _only_used(self) -> NetworkSettings:
        used = {"mlp": ("hidden",), "logistic": ()} | dict.fromkeys(CONVOLUTIONAL, ("widths",))
        for name in ("dropout", "hidden", "final_norm", "widths"):
            if getattr(self, name) is not None and name not in used.get(
                self.name, ("dropout", "hidden", "final_norm")
            ):
                raise ValueError(f"{name} has no effect on the network {self.name}")
        return self


class ClassifierPhase(PhaseSettings, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One phase of a classifier, as written in params.yaml."""

    precompute: bool = False
    """Compute the features of the frozen body once and train the head on them (course of 2018).
    Pictures are those of evaluation, without augmentation, and the batch norms of the
    body learn nothing. Needs `freeze: body`."""

    @model_validator(mode="after")
    def _body_stays(self) -> ClassifierPhase:
        if self.precompute and self.freeze != "body":
            raise ValueError(
                f"precompute needs a body that stays as it is: write freeze: body, not {self.freeze}"
            )
        return self
