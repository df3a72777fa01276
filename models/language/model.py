"""The language model: what comes next?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.language.encoder import (
    Encoder,
    State,
    build_encoder,
    packed,
    shared_dropout,
    unpacked,
)
from models.language.settings import LanguageNetworkSettings

AT_ONCE = 256
"""Vectors whose scores exist at once while training: more need not pass through the processor's caches, fewer
read the output's weights too often. Measured with 8,000 and 30,000 tokens."""
MANY = 2048
"""Tokens of a vocabulary from which that pays: with 1,000 it costs as much as it saves."""


def build_language_model(settings: LanguageNetworkSettings, vocabulary: int) -> LanguageModel:
    """A language model with random weights for so many different tokens."""
    encoder = build_encoder(settings, vocabulary)
    return LanguageModel(encoder, tied=settings.is_tied(), dropout=settings.drops().output)


class LanguageModel(nn.Module):
    """Codes (N, T) -> a score (N, T, vocabulary) of every token to come next, after each of the T.

    Tied, the rows of the embedding are the output's weights: one parameter, once in the state dict.
    """

    def __init__(self, encoder: Encoder, *, tied: bool, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.tied, self.dropout = tied, dropout
        vocabulary = encoder.embedding.num_embeddings
        self.decoder = Decoder(vocabulary, None if tied else encoder.width)
        if tied:  # as fastai and AWD-LSTM: as output weights, an embedding's usual N(0, 1) are far too large
            nn.init.uniform_(encoder.embedding.weight, -0.1, 0.1)

    def forward(self, codes: Tensor) -> Tensor:
        """Scores after each token of texts that begin here."""
        return self.run(codes)[0]

    def run(self, codes: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, Tensor, State]:
        """Scores; the last layer's vectors (N, T, width) after the output's dropout, and before it; the state
        to go on with."""
        dropped, vectors, after = self.read(codes, state)
        return self.decoder(dropped, self.encoder.embedding.weight), dropped, vectors, after

    def read(self, codes: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """What `run` returns after the scores."""
        vectors, _, after = self.encoder(codes, state)
        return shared_dropout(vectors, self.dropout, training=self.training), vectors, after

    def loss(self, dropped: Tensor, targets: Tensor, *, nothing: int) -> Tensor:
        """Mean cross-entropy, in nats, of the scores after vectors (N, T, width) with targets (N, T) that are
        not `nothing`. Its gradient is worked out at once, for one call of `backward`."""
        return self.decoder.loss(dropped, self.encoder.embedding.weight, targets, nothing=nothing)

    def parameter_groups(self) -> list[list[nn.Module]]:
        """Every recurrent layer, then the embedding with the output (fastai's groups): frozen up to the last,
        the vocabulary learns alone."""
        return [*([layer] for layer in self.encoder.layers), [self.encoder.embedding, self.decoder]]


class Decoder(nn.Module):
    """Vectors to scores: a bias per token, and weights of its own where it is given a `width`."""

    def __init__(self, vocabulary: int, width: int | None) -> None:
        super().__init__()
        self.bias = nn.Parameter(nn.init.zeros_(Tensor(vocabulary)))
        self.weight = None if width is None else nn.Parameter(Tensor(vocabulary, width))
        if self.weight is not None:
            assert width is not None
            nn.init.uniform_(self.weight, -(width**-0.5), width**-0.5)

    def forward(self, vectors: Tensor, embedding: Tensor) -> Tensor:
        """(N, T, width) -> (N, T, vocabulary), by its own weights or by the rows of the embedding."""
        return F.linear(vectors, self.weight_of(embedding), self.bias)

    def loss(self, vectors: Tensor, embedding: Tensor, targets: Tensor, *, nothing: int) -> Tensor:
        """`LanguageModel.loss`, in the precision of the weights. The scores are most of a language model's
        memory and time: those of a large vocabulary are made and forgotten `AT_ONCE` vectors at a time."""
        weight = self.weight_of(embedding)
        parts = nn.LinearCrossEntropyOptions(batch_chunk_size=AT_ONCE) if len(weight) >= MANY else None
        with torch.autocast(vectors.device.type, enabled=False):
            return F.linear_cross_entropy(
                vectors.flatten(0, 1).to(weight.dtype), weight, targets.flatten(),
                linear_bias=self.bias, ignore_index=nothing, options=parts,
            )  # fmt: skip

    def weight_of(self, embedding: Tensor) -> Tensor:
        """(vocabulary, width): its own weights, or the rows of the embedding."""
        return embedding if self.weight is None else self.weight


class Stepwise(nn.Module):
    """The language model as a program without memory of its own: codes (N, T) and the state before them,
    (N, numbers), zeros at a beginning -> scores (N, T, vocabulary) and the state after them."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One stretch of text; the next one goes on from the state that comes out."""
        scores, _, _, after = self.model.run(codes, unpacked(self.model.encoder, state))
        return scores, packed(after)
