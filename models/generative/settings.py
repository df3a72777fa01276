"""Settings of generative networks as written in params.yaml; without torch, so checking them is quick."""

from __future__ import annotations

from pydantic import BaseModel, Field, model_validator

SMALLEST = 4
"""Pixels a side of the first feature map at least (course: 4)."""


def doublings(size: int) -> tuple[int, int]:
    """(side, times): `size` is a side of 4 to 7 pixels, doubled so many times. ValueError for other sizes."""
    side, times = size, 0
    while side % 2 == 0 and side >= 2 * SMALLEST:
        side, times = side // 2, times + 1
    if not SMALLEST <= side < 2 * SMALLEST or not times:
        raise ValueError(
            f"a picture of {size} pixels cannot be halved down to 4 to 7;"
            " take a size such as 28, 32, 40, 48, 56, 64, 96 or 128"
        )
    return side, times


class AdversarialNetworkSettings(
    BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
):
    """The pair of DCGAN networks (Radford 2015), as lesson 7 of 2019 builds them."""

    noise: int = Field(default=100, ge=1, le=4096)
    """Numbers of noise that a picture is made from (course: 100)."""
    features: int = Field(default=64, ge=2, le=1024)
    """Channels at half of the picture's size, in both networks, doubled by every halving (course: 64)."""
    extra_layers: int = Field(default=1, ge=0, le=8)
    """Further convolutions at half of the picture's size, in both networks (course: 1)."""


class WassersteinSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How the two networks take turns, and what keeps the critic's slope bounded (Arjovsky 2017)."""

    critic_steps: int = Field(default=5, ge=1, le=1000)
    """Steps of the critic, one per batch, before each step of the generator (course: 5)."""
    opening: int = Field(default=0, ge=0)
    """Steps of the generator at the start that wait for 100 of the critic (course: 25 in 2018, 0 in 2019)."""
    clamp: float | None = Field(default=0.01, gt=0)
    """Largest absolute value of a weight of the critic (course: 0.01); empty where there is a penalty."""
    penalty: float = Field(default=0.0, ge=0)
    """Weight of the squared distance of the critic's slope from 1, between real and made pictures (Gulrajani
    2017: 10), in the place of the clamp; the critic then has no batch norm, as each picture needs its own
    slope."""

    @model_validator(mode="after")
    def _one_bound(self) -> WassersteinSettings:
        if (self.clamp is None) == (self.penalty == 0):
            raise ValueError(
                "give either clamp or penalty: `{clamp: 0.01}` or `{clamp: null, penalty: 10.0}`"
            )
        return self
