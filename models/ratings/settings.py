"""Settings of networks for ratings as written in params.yaml, read without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

USED = {
    "dot": (),
    "dot_bias": ("y_range",),
    "net": ("y_range", "hidden", "dropouts"),
}
"""What each network uses beside its factors."""


class NetworkSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Which network. A setting that it does not use is an error."""

    name: Literal["dot", "dot_bias", "net"] = "dot_bias"
    """`dot`: the product of two embeddings (2018); `dot_bias`: with biases, in a sigmoid range (fastai's
    EmbeddingDotBias); `net`: embeddings into a small network (2018, EmbeddingNet)."""
    factors: int = Field(default=50, ge=1, le=1024)
    """Numbers that describe a user, and an item (course: 50; ML-100k 40)."""
    y_range: Annotated[tuple[float, float], Field(strict=False)] | None = None
    """dot_bias, net: ends of the sigmoid, a little beyond the ratings so that it can reach them (course:
    0 and 5.5). Default: the training ratings' ends, each moved out by a ninth of their distance."""
    hidden: int | None = Field(default=None, ge=1)
    """net: width of the hidden layer (default 10, course)."""
    dropouts: Annotated[tuple[float, float], Field(strict=False)] | None = None
    """net: dropout of the embeddings and of the hidden layer (default 0.05 and 0.5, course)."""

    @model_validator(mode="after")
    def _only_used(self) -> NetworkSettings:
        for name in ("y_range", "hidden", "dropouts"):
            if getattr(self, name) is not None and name not in USED[self.name]:
                raise ValueError(f"{name} has no effect on the network {self.name}")
        if self.y_range is not None and not self.y_range[0] < self.y_range[1]:
            raise ValueError(f"y_range must be [lowest, highest], not {list(self.y_range)}")
        if self.dropouts is not None and not all(0 <= share < 1 for share in self.dropouts):
            raise ValueError(f"dropouts must lie in [0, 1), not {list(self.dropouts)}")
        return self
