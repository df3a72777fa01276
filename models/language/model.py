"""The language model: what comes next?"""

from __future__ import annotations

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
        vectors, _, after = self.encoder(codes, state)
        dropped = shared_dropout(vectors, self.dropout, training=self.training)
        scores = self.decoder(dropped, self.encoder.embedding.weight)
        return scores, dropped, vectors, after

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
        return F.linear(vectors, embedding if self.weight is None else self.weight, self.bias)


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
