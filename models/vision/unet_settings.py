"""Settings of U-Nets as written in params.yaml. Without torch, so that checking them is quick."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from models.vision.settings import CONVOLUTIONAL, FLAT, Name


class UNetSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Which body, and how wide the way back up."""

    name: Name = "resnet34"
    """A torchvision body (resnet18 to densenet121), or one of the course's from scratch (cnn, cnn_bn,
    resnet). Course: resnet34."""
    widths: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] | None = None
    """cnn, cnn_bn, resnet: channels after each halving of the picture (default 8, 16, 32, 16)."""
    width: int = Field(default=64, ge=4, le=512)
    """Channels of the decoder at full size; they double with each halving, up to eightfold. Its cost grows
    with the square."""

    @model_validator(mode="after")
    def _has_maps(self) -> UNetSettings:
        if self.name in FLAT:
            raise ValueError(f"{self.name} has no feature maps; take a convolutional body")
        if self.widths is not None and self.name not in CONVOLUTIONAL:
            raise ValueError(f"widths has no effect on the body {self.name}")
        return self
