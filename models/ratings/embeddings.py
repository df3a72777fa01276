"""Collaborative filtering: users and items as learned vectors, and three ways to make a rating of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.ratings.settings import NetworkSettings

MARGIN = 1 / 9
"""Share of the distance between the lowest and the highest rating that a range goes beyond either: the
course's 0 to 5.5 for ratings of 0.5 to 5."""


class Table(nn.Module):
    """One learned vector per known row: codes (B,) int64 from 1 -> (B, width).

    Code 0 is a row that training never saw. It has no vector of its own, which would stay random (as
    fastai's does), but the mean of the known ones: the average user, or the average item.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, codes: Tensor) -> Tensor:
        """Training takes known rows only, so that it need not copy the table for the unknown one."""
        if self.training:
            return functional.embedding(codes - 1, self.weight)
        return functional.embedding(codes, self.whole())

    def whole(self) -> Tensor:
        """(1 + rows, width): the unknown row first."""
        return torch.cat([self.weight.mean(dim=0, keepdim=True), self.weight])


class Dot(nn.Module):
    """users (B,), items (B,) -> ratings (B,): the product of their factors (2018, lesson 5: EmbeddingDot)."""

    replayable = True

    def __init__(self, users: int, items: int, factors: int) -> None:
        super().__init__()
        self.user_factors, self.item_factors = Table(users, factors), Table(items, factors)
        for table in (self.user_factors, self.item_factors):
            nn.init.uniform_(table.weight, 0, 0.05)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """No bias and no range."""
        score: Tensor = (self.user_factors(users) * self.item_factors(items)).sum(dim=1)
        return score


class DotBias(nn.Module):
    """users (B,), items (B,) -> ratings (B,) within the range: product of factors plus both biases, through a
    sigmoid (fastai v1: EmbeddingDotBias, 2019 lesson 4)."""

    replayable = True

    def __init__(self, users: int, items: int, factors: int, *, y_range: tuple[float, float]) -> None:
        super().__init__()
        self.user_factors, self.item_factors = Table(users, factors), Table(items, factors)
        self.user_bias, self.item_bias = Table(users, 1), Table(items, 1)
        self.low, self.high = y_range
        for table in (self.user_factors, self.item_factors, self.user_bias, self.item_bias):
            # fastai's: normal with deviation 0.01, cut at two deviations
            nn.init.trunc_normal_(table.weight, std=0.01, a=-0.02, b=0.02)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Ratings in (low, high)."""
        score = (self.user_factors(users) * self.item_factors(items)).sum(dim=1)
        score = score + self.user_bias(users).squeeze(1) + self.item_bias(items).squeeze(1)
        rating: Tensor = score.sigmoid() * (self.high - self.low) + self.low
        return rating


class Net(nn.Module):
    """users (B,), items (B,) -> ratings (B,) within the range: both vectors side by side through one hidden
    layer (2018, lesson 5: EmbeddingNet)."""

    replayable = True

    def __init__(
        self,
        users: int,
        items: int,
        factors: int,
        *,
        y_range: tuple[float, float],
        hidden: int,
        dropouts: tuple[float, float],
    ) -> None:
        super().__init__()
        self.user_factors, self.item_factors = Table(users, factors), Table(items, factors)
        self.hidden, self.last = nn.Linear(2 * factors, hidden), nn.Linear(hidden, 1)
        self.first_dropout, self.second_dropout = (nn.Dropout(share) for share in dropouts)
        self.low, self.high = y_range
        for table in (self.user_factors, self.item_factors):
            nn.init.uniform_(table.weight, -0.01, 0.01)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Ratings in (low, high)."""
        both = self.first_dropout(torch.cat([self.user_factors(users), self.item_factors(items)], dim=1))
        score = self.last(self.second_dropout(self.hidden(both).relu())).squeeze(1)
        rating: Tensor = score.sigmoid() * (self.high - self.low) + self.low
        return rating


Network = Dot | DotBias | Net


def build_network(
    settings: NetworkSettings, *, users: int, items: int, lowest: float, highest: float
) -> Network:
    """The network that `settings` name, with random weights; `lowest` and `highest` training rating."""
    margin = (highest - lowest) * MARGIN or MARGIN
    y_range = settings.y_range or (lowest - margin, highest + margin)
    if settings.name == "dot":
        return Dot(users, items, settings.factors)
    if settings.name == "dot_bias":
        return DotBias(users, items, settings.factors, y_range=y_range)
    return Net(
        users, items, settings.factors, y_range=y_range,
        hidden=settings.hidden or 10, dropouts=settings.dropouts or (0.05, 0.5),
    )  # fmt: skip


def start_from(
    network: Network,
    state: Mapping[str, Tensor],
    *,
    rows: Mapping[str, Sequence[str]],
    theirs: Mapping[str, Sequence[str]],
) -> list[str]:
    """Take over the vectors of users and items that another network knows by name, and equal layers.

    rows, theirs: names of the users and items in the order of their codes, under `user` and `item`.
    Returns the names of the tensors taken from. ValueError where the networks are of other kinds.
    """
    own = network.state_dict()
    if own.keys() != state.keys() or any(own[name].shape[1:] != state[name].shape[1:] for name in own):
        raise ValueError(
            "starts_from: that network is of another kind or has another number of factors;"
            " give both the same fine_tune.network"
        )
    loaded = []
    for name, tensor in own.items():
        kind = name.split("_")[0]
        if kind not in rows:
            tensor.copy_(state[name])
            loaded.append(name)
            continue
        places = {known: place for place, known in enumerate(theirs[kind])}
        pairs = [(here, places[known]) for here, known in enumerate(rows[kind]) if known in places]
        if pairs:
            here, there = torch.tensor(pairs).T
            tensor[here] = state[name][there]
            loaded.append(name)
    return loaded
