"""Settings of networks that read text, as written in params.yaml; without torch, so checks are quick."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator


class Dropouts(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The five dropouts of AWD-LSTM (Merity and others, 2018): shares that are zeroed while training."""

    input: float = Field(default=0.0, ge=0, lt=1)
    """Of the numbers of an embedded token; one mask for all steps of a batch (course: 0.25)."""
    embedding: float = Field(default=0.0, ge=0, lt=1)
    """Of whole tokens: everywhere in a batch where they occur (course: 0.02)."""
    weight: float = Field(default=0.0, ge=0, lt=1)
    """Of the weights from one step's state to the next (DropConnect; course: 0.2)."""
    hidden: float = Field(default=0.0, ge=0, lt=1)
    """Of what goes from one recurrent layer to the next; one mask for all steps (course: 0.15)."""
    output: float = Field(default=0.0, ge=0, lt=1)
    """Of what the last layer hands on; one mask for all steps (course: 0.1)."""


AWD = Dropouts(input=0.25, embedding=0.02, weight=0.2, hidden=0.15, output=0.1)
"""fastai v1's `awd_lstm_lm_config`."""


class EncoderSettings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Embedding and recurrent layers. The defaults are those of the published WikiText-103 network."""

    name: Literal["rnn", "gru", "lstm", "awd_lstm"] = "awd_lstm"
    """Elman's network, GRU, LSTM; or the LSTM as AWD-LSTM: its dropouts by default, and a last layer as wide
    as the embedding."""
    embedding: int = Field(default=400, ge=1, le=8192)
    """Numbers per token (course: 400; 42 for Nietzsche's characters)."""
    hidden: int = Field(default=1152, ge=1, le=8192)
    """Numbers of a layer's state (course: 1152; 256 for Nietzsche's characters)."""
    layers: int = Field(default=3, ge=1, le=16)
    """Recurrent layers (course: 3)."""
    dropouts: Dropouts | None = None
    """What is zeroed while training. Default: AWD-LSTM's own for `awd_lstm`, none for the others."""
    dropout_scale: float | None = Field(default=None, gt=0, le=10)
    """Factor of all five dropouts (default 1; fastai's `drop_mult`; course: 0.3 to adapt a language model,
    0.5 to classify)."""

    @model_validator(mode="after")
    def _only_used(self) -> EncoderSettings:
        drops = self.drops()
        if self.dropout_scale is not None and not any(drops.model_dump().values()):
            raise ValueError("dropout_scale has no effect where every dropout is 0")
        if over := [name for name, share in drops.model_dump().items() if share >= 1]:
            raise ValueError(f"dropouts.{over[0]} times dropout_scale must be below 1")
        if self.layers == 1 and self.dropouts is not None and self.dropouts.hidden:
            raise ValueError("dropouts.hidden has no effect with one layer: it acts between layers")
        return self

    def drops(self) -> Dropouts:
        """The dropouts in effect."""
        drops = self.dropouts or (AWD if self.name == "awd_lstm" else Dropouts())
        scale = 1.0 if self.dropout_scale is None else self.dropout_scale
        return Dropouts.model_construct(**{name: share * scale for name, share in drops.model_dump().items()})

    def widths(self) -> list[int]:
        """Numbers of each layer's state."""
        last = self.embedding if self.name == "awd_lstm" else self.hidden
        return [self.hidden] * (self.layers - 1) + [last]


class LanguageNetworkSettings(
    EncoderSettings, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
):
    """An encoder and the layer that gives every token its chance to be the next."""

    tied: bool | None = None
    """Whether a token's row of the embedding is its output weight too (Press and Wolf, 2017). Default: yes
    for `awd_lstm`, no for the others, which need `hidden` equal to `embedding` for it."""

    @model_validator(mode="after")
    def _fits(self) -> LanguageNetworkSettings:
        if self.is_tied() and self.widths()[-1] != self.embedding:
            raise ValueError(
                f"tied needs hidden ({self.hidden}) equal to embedding ({self.embedding}); or name: awd_lstm,"
                " whose last layer is as wide as the embedding"
            )
        return self

    def is_tied(self) -> bool:
        """Whether embedding and output share their weights."""
        return self.name == "awd_lstm" if self.tied is None else self.tied
