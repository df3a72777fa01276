"""Names as learned vectors beside normalised numbers, through linear layers (lessons 4 and 6 of 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.tabular.settings import TabularSettings, embedding_width

Columns = Sequence[tuple[str, Sequence[str]]]
"""Name and vocabulary of each column of codes; code 0, the unknown, is not in the vocabulary."""

DEVIATION = 0.01
"""Of a new embedding (fastai: a normal distribution, truncated at two deviations)."""


class TabularNet(nn.Module):
    """Codes (N, columns) int64 and numbers (N, columns) float32 to (N, outputs)."""

    replayable = True

    def __init__(self, settings: TabularSettings, *, columns: Columns, numbers: int, outputs: int) -> None:
        super().__init__()
        sizes = {name: 1 + len(vocabulary) for name, vocabulary in columns}
        unknown = [name for name in settings.embeddings if name not in sizes]
        if unknown:
            raise ValueError(
                f"fine_tune.network.embeddings: no column of names is called {unknown[0]!r};"
                f" there are {', '.join(sizes) or 'none'}"
            )
        widths = [settings.embeddings.get(name, embedding_width(size)) for name, size in sizes.items()]
        self.embeddings = nn.ModuleList(
            _embedding(size, width) for size, width in zip(sizes.values(), widths, strict=True)
        )
        self.dropout = nn.Dropout(settings.embedding_dropout)
        self.norm = nn.BatchNorm1d(numbers) if settings.norm and numbers else nn.Identity()
        self.layers = _layers([sum(widths) + numbers, *settings.layers, outputs], settings)

    def embed(self, codes: Tensor) -> Tensor:
        """(N, columns) to (N, sum of the widths): what the network knows about the names alone."""
        columns = (
            codes.T.contiguous()
        )  # each as a run in memory, or its look-up and its gradient would copy it
        found = [embedding(column) for column, embedding in zip(columns, self.embeddings, strict=True)]
        return torch.cat(found, 1) if found else codes.new_zeros((len(codes), 0), dtype=torch.float32)

    def vectors(self, column: int) -> Tensor:
        """What is learned of a column's names (codes, width), by code: its own storage, without gradient."""
        embedding = self.embeddings[column]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight.detach()

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        """Embeddings and numbers side by side, then the layers."""
        seen = []
        if len(self.embeddings):
            seen.append(self.dropout(self.embed(codes)))
        if numbers.shape[1]:
            seen.append(self.norm(numbers))
        outputs: Tensor = self.layers(torch.cat(seen, 1))
        return outputs


class Quantity(nn.Module):
    """A network whose only output becomes a quantity (N,): by a sigmoid between `low` and `high` (fastai's
    `y_range`), or as deviations from a mean."""

    replayable = True

    def __init__(
        self, network: TabularNet, *, limits: tuple[float, float] | None, mean: float, std: float
    ) -> None:
        super().__init__()
        self.network = network
        self.limits, self.mean, self.std = limits, mean, std
        if limits is not None:  # the first answers are near the mean, wherever it lies between the limits
            share = (mean - limits[0]) / (limits[1] - limits[0])
            last = network.layers[-1]
            assert isinstance(last, nn.Linear)
            nn.init.constant_(last.bias, math.log(share / (1 - share)))

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        """In the units of the (perhaps logarithmic) target."""
        raw = self.network(codes, numbers).squeeze(1)
        if self.limits is None:
            scaled: Tensor = self.mean + self.std * raw
            return scaled
        low, high = self.limits
        bounded: Tensor = low + (high - low) * torch.sigmoid(raw)
        return bounded


def body_of(network: nn.Module) -> TabularNet:
    """The part with the embeddings, also of a network that answers a quantity."""
    body = network.network if isinstance(network, Quantity) else network
    assert isinstance(body, TabularNet)
    return body


def start_from(
    network: TabularNet, state: Mapping[str, Tensor], *, columns: Columns, trained: Columns
) -> list[str]:
    """Take the vectors of names that both networks know, column by column; returns the names of the tensors.

    `columns`, `trained`: name and vocabulary of each column of codes. Then, where all columns agree, the
    layers as well. ValueError where nothing fits.
    """
    loaded = []
    state = {name.removeprefix("network."): tensor for name, tensor in state.items()}
    known = {name: (place, list(vocabulary)) for place, (name, vocabulary) in enumerate(trained)}
    with torch.no_grad():
        for place, (name, vocabulary) in enumerate(columns):
            if name not in known:
                continue
            other, words = known[name]
            key = f"embeddings.{other}.weight"
            own = network.vectors(place)
            if key not in state or state[key].shape[1] != own.shape[1]:
                continue
            rows = {word: row for row, word in enumerate(words, start=1)}
            pairs = [(row, rows[word]) for row, word in enumerate(vocabulary, start=1) if word in rows]
            if pairs:
                to, taken = zip(*pairs, strict=True)
                own[list(to)] = state[key][list(taken)]
                loaded.append(f"embeddings.{place}.weight")
    rest = {
        name: tensor for name, tensor in network.state_dict().items() if not name.startswith("embeddings.")
    }
    if all(name in state and state[name].shape == tensor.shape for name, tensor in rest.items()):
        network.load_state_dict({name: state[name] for name in rest}, strict=False)
        loaded += list(rest)
    if not loaded:
        raise ValueError("starts_from: no column and no layer of that network fits this one")
    return loaded


def _embedding(codes: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(codes, width)
    nn.init.trunc_normal_(embedding.weight, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)
    with torch.no_grad():  # where training meets no missing name, an unseen one is none in particular
        embedding.weight[0].zero_()
    return embedding


def _layers(widths: Sequence[int], settings: TabularSettings) -> nn.Sequential:
    hidden = len(widths) - 2
    dropout = settings.dropout if len(settings.dropout) == hidden else settings.dropout * hidden
    layers: list[nn.Module] = []
    for place, (wide, narrow) in enumerate(pairwise(widths)):
        if place and settings.norm:
            layers.append(nn.BatchNorm1d(wide))
        if place and dropout and dropout[place - 1]:
            layers.append(nn.Dropout(dropout[place - 1]))
        layers.append(nn.Linear(wide, narrow))
        if place < hidden:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
