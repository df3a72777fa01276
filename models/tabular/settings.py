"""Settings of networks on tables as written in params.yaml. Without torch, so that checking them is quick."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from models.settings import OptimiserSettings, PhaseSettings

WIDEST = 600


class TabularSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Embeddings of names beside numbers, through linear layers (fastai v1's `TabularModel`)."""

    layers: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)] = (200, 100)
    """Widths of the hidden layers (course: 200 and 100; Rossmann 1000 and 500). None: a linear model."""
    dropout: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(strict=False)] = ()
    """Dropout after each hidden layer (Rossmann: 0.001 and 0.01); one for all, or none."""
    embedding_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the embeddings (Rossmann: 0.04)."""
    embeddings: dict[str, Annotated[int, Field(ge=1, le=WIDEST)]] = {}
    """Width of a column's embedding where it is not min(600, round(1.6 n^0.56)) for n codes (fastai)."""
    norm: bool = True
    """Batch norm of the numbers, and before each linear layer but the first."""

    @model_validator(mode="after")
    def _a_dropout_each(self) -> TabularSettings:
        if len(self.dropout) not in (0, 1, len(self.layers)):
            raise ValueError(
                f"{len(self.dropout)} dropouts for {len(self.layers)} layers; give one, or one each"
            )
        return self


class TabularLearning(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """What learning from tables has in common. The defaults are the course's for Adult (lesson 4 of 2019)."""

    inputs: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Cleaned columns that the network sees; empty: all."""
    leave_out: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Cleaned columns that it does not see; an audit may still ask for them."""
    network: TabularSettings = TabularSettings()
    """Which network."""
    batch_size: int = Field(default=64, ge=2)
    """Rows per step (course: 64)."""
    phases: Annotated[tuple[PhaseSettings, ...], Field(strict=False, min_length=1)] = (
        PhaseSettings(epochs=1, rates=(1e-2,), schedule="constant"),
    )
    """Stretches of training, one after the other."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """Which optimiser."""


def embedding_width(codes: int) -> int:
    """min(600, round(1.6 n^0.56)) of n codes, the unknown one included (fastai's `emb_sz_rule`)."""
    width: float = 1.6 * codes**0.56
    return min(WIDEST, round(width))
