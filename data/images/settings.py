"""What training images undergo, as typed settings; reading parameters needs no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator


class Augmentation(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """What training images undergo. The defaults are the course's: fastai v1, `get_transforms()`."""

    flip: Literal["none", "horizontal", "dihedral"] = "horizontal"
    """`horizontal`: mirrored with probability 0.5. `dihedral`: one of the 8 symmetries of the square (fastai:
    `flip_vert`, for satellite tiles). `none`: where left and right differ in meaning, as in digits."""
    rotate: float = Field(default=10.0, ge=0, le=180)
    """Degrees to either side at most (fastai: 10; course, lesson 6 of 2019: 20)."""
    zoom: float = Field(default=1.1, ge=1, le=10)
    """Largest magnification, about a random point (fastai: 1.1; lesson 6: 1.3)."""
    warp: float = Field(default=0.2, ge=0, le=0.5)
    """Largest move of a corner in a symmetric change of perspective, in half image widths (fastai: 0.2)."""
    lighting: float = Field(default=0.2, ge=0, lt=1)
    """Largest change of brightness and contrast (fastai: 0.2; lesson 6: 0.4). Brightness is added to the
    logit of a pixel in [0, 1], contrast multiplies it, from 1 - lighting to 1 / (1 - lighting)."""
    p_affine: float = Field(default=0.75, ge=0, le=1)
    """Probability of each of rotate, zoom and warp (fastai: 0.75)."""
    p_lighting: float = Field(default=0.75, ge=0, le=1)
    """Probability of each of brightness and contrast (fastai: 0.75)."""
    pad: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the size added at every side before a random crop of that size (course: CIFAR-10 1/8, MNIST 3
    of 28 pixels); rounded to whole pixels."""
    padding: Literal["reflection", "border", "zeros"] = "reflection"
    """What stands outside of the image (fastai: reflection)."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        changed = {
            name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default
        }
        if "p_affine" in changed and not (self.rotate or self.warp or self.zoom > 1):
            raise ValueError("p_affine has no effect where rotate, zoom and warp are off: leave it out")
        if "p_lighting" in changed and not self.lighting:
            raise ValueError("p_lighting has no effect where lighting is 0: leave it out")
        return self
