"""The encoder: tokens to vectors that know what came before; for language models and classifiers alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.language.recurrent import Held, Kind, Recurrent
from models.language.settings import Dropouts, EncoderSettings

State = list[Held]
"""The state of every layer, first to last."""


def build_encoder(settings: EncoderSettings, vocabulary: int) -> Encoder:
    """An encoder with random weights for so many different tokens."""
    kind: Kind = "lstm" if settings.name == "awd_lstm" else settings.name
    return Encoder(
        kind, vocabulary=vocabulary, embedding=settings.embedding, widths=settings.widths(),
        drops=settings.drops(),
    )  # fmt: skip


def shared_dropout(x: Tensor, share: float, *, training: bool) -> Tensor:
    """Dropout of (N, T, width) with one mask for all steps of a stream (Gal and Ghahramani, 2016)."""
    if not training or share == 0:
        return x
    return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), share)


class Encoder(nn.Module):
    """An embedding and recurrent layers, with four of AWD-LSTM's dropouts: the fifth is the next module's.

    Codes (N, T) of N texts side by side go in; out come the last layer's vectors (N, T, `width`) without any
    dropout, all layers' vectors, and the state to go on with.
    """

    def __init__(
        self, kind: Kind, *, vocabulary: int, embedding: int, widths: Sequence[int], drops: Dropouts
    ) -> None:
        super().__init__()
        self.drops = drops
        self.width = widths[-1]
        """Numbers per token that come out."""
        self.embedding = nn.Embedding(vocabulary, embedding)
        inputs = [embedding, *widths[:-1]]
        self.layers = nn.ModuleList(
            Recurrent(kind, one, other, weight_dropout=drops.weight)
            for one, other in zip(inputs, widths, strict=True)
        )

    def recurrent(self) -> list[Recurrent]:
        """The recurrent layers, first to last."""
        return [cast(Recurrent, layer) for layer in self.layers]

    def initial(self, streams: int) -> State:
        """The state before the first token."""
        return [layer.initial(streams) for layer in self.recurrent()]

    def forward(self, codes: Tensor, state: State | None = None) -> tuple[Tensor, list[Tensor], State]:
        """Codes (N, T), and the state that stands before them (None: a beginning) -> vectors of the last
        layer (N, T, width), vectors of every layer, and the state after the last token, in the graph."""
        x = shared_dropout(self.embed(codes), self.drops.input, training=self.training)
        held = state if state is not None else self.initial(codes.shape[0])
        every: list[Tensor] = []
        after: State = []
        for layer, before in zip(self.recurrent(), held, strict=True):
            if every:
                x = shared_dropout(x, self.drops.hidden, training=self.training)
            x, kept = layer(x, before)
            every.append(x)
            after.append(kept)
        return x, every, after

    def embed(self, codes: Tensor) -> Tensor:
        """(N, T) -> (N, T, embedding); while training some tokens are zeros wherever they stand."""
        vectors: Tensor = self.embedding(codes)
        if not self.training or self.drops.embedding == 0:
            return vectors
        kept = F.dropout(vectors.new_ones(self.embedding.num_embeddings, 1), self.drops.embedding)
        return vectors * F.embedding(codes, kept)

    def parameter_groups(self) -> list[list[nn.Module]]:
        """The embedding, then every recurrent layer."""
        return [[self.embedding], *([layer] for layer in self.layers)]


def detached(state: State) -> State:
    """The same state without its history: where truncated back-propagation through time stops."""
    return [tuple(each.detach() for each in held) for held in state]


def packed(state: State) -> Tensor:
    """All layers' states side by side, (N, numbers)."""
    return torch.cat([each for held in state for each in held], dim=1)


def unpacked(encoder: Encoder, numbers: Tensor) -> State:
    """What `packed` made one of."""
    layers = encoder.recurrent()
    parts = iter(
        torch.split(numbers, [layer.width for layer in layers for _ in range(layer.states())], dim=1)
    )
    return [tuple(next(parts) for _ in range(layer.states())) for layer in layers]


def state_size(encoder: Encoder) -> int:
    """Numbers of the state of one text."""
    return sum(layer.width * layer.states() for layer in encoder.recurrent())
