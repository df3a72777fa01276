"""Settings of networks that answer with boxes, as in params.yaml; without torch, so checking is quick."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from models.vision.settings import CONVOLUTIONAL, FLAT, Name

Side = Annotated[int, Field(ge=1, le=256)]
Factor = Annotated[float, Field(gt=0, le=16)]


class BodySettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Which body looks for the boxes."""

    name: Name = "resnet34"
    """A torchvision body (resnet18 to densenet121), or one of the course's from scratch (cnn, cnn_bn,
    resnet)."""
    widths: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] | None = None
    """cnn, cnn_bn, resnet: channels after each halving of the picture (default 8, 16, 32, 16, course)."""

    @model_validator(mode="after")
    def _has_places(self) -> BodySettings:
        if self.name in FLAT:
            raise ValueError(f"the network {self.name} knows no places; a box needs a convolutional one")
        if self.widths is not None and self.name not in CONVOLUTIONAL:
            raise ValueError(f"widths has no effect on the network {self.name}")
        return self


class AnchorSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Boxes that an image is covered with before anything is seen. Every cell of every grid has one for each
    pair of a zoom and a ratio. The defaults are the course's: 9 in each of 21 cells, 189."""

    grids: Annotated[tuple[Side, ...], Field(strict=False, min_length=1)] = (4, 2, 1)
    """Cells a side, finest first. Each must be the side of a map that the body makes of `size`, or follow
    from the smallest one by halving (224 pixels, ResNet: 56, 28, 14, 7, 4, 2, 1)."""
    zooms: Annotated[tuple[Factor, ...], Field(strict=False, min_length=1)] = (0.75, 1.0, 1.3)
    """Sides of an anchor over the side of its cell."""
    ratios: Annotated[
        tuple[Annotated[tuple[Factor, Factor], Field(strict=False)], ...], Field(strict=False, min_length=1)
    ] = ((1.0, 1.0), (1.0, 0.5), (0.5, 1.0))
    """Factors of width and height: square, lying and standing."""

    @model_validator(mode="after")
    def _finest_first(self) -> AnchorSettings:
        if any(finer <= coarser for finer, coarser in pairwise(self.grids)):
            raise ValueError(f"grids must go from fine to coarse, not {list(self.grids)}")
        return self

    @property
    def per_cell(self) -> int:
        """Anchors of one cell."""
        return len(self.zooms) * len(self.ratios)
