"""Collaborative filtering: epochs of the product of factors with biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import BARE, OURS, PEER, SMALL_STEPS, Case, Round
from benchmarks.worker import SEED

RATE, FACTORS, RANGE = 5e-3, 50, (0.0, 5.5)


def _case(
    batch_size: int,
    goals: Mapping[str, float],
    *,
    users: int,
    items: int,
    ratings: int,
    name: str = "ratings",
) -> Case:
    title = f"ratings, batches of {batch_size}, {-(-ratings // batch_size):,} steps"
    return Case(
        name=f"{name}-{batch_size}", title=title, unit="ratings", work=ratings, rounds=3, rest=1, goals=goals,
        sizes={"users": users, "items": items, "ratings": ratings, "batch_size": batch_size},
        note=SMALL_STEPS,
    )  # fmt: skip


CASES = [
    _case(64, {PEER: 10, BARE: 0.9}, users=943, items=1682, ratings=100_000),
    _case(64, {PEER: 10, BARE: 0.9}, users=943, items=1682, ratings=640_000, name="ratings-long"),
    _case(4096, {PEER: 3.5, BARE: 0.9}, users=6040, items=3706, ratings=1_000_000),
]


def make(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Ratings 1 to 5 from a product of four factors; every user and item is there."""
    draw = np.random.default_rng(SEED)
    users, items, count = sizes["users"], sizes["items"], sizes["ratings"]
    user = np.concatenate([np.arange(users), draw.integers(0, users, count - users)])
    item = np.concatenate([np.arange(items), (items * draw.random(count - items) ** 2).astype(np.int64)])
    score = 3.5 + (draw.normal(0, 0.6, (users, 4))[user] * draw.normal(0, 0.6, (items, 4))[item]).sum(1)
    rating = np.rint((score + draw.normal(0, 0.5, count)).clip(1, 5)).astype(np.float32)
    order = draw.permutation(count)
    for name, column in (("user", user), ("item", item), ("rating", rating)):
        np.save(folder / f"{name}.npy", column[order])


def _load(folder: Path) -> list[np.ndarray[Any, Any]]:
    return [np.load(folder / f"{name}.npy") for name in ("user", "item", "rating")]


def ours(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The batches and the network of the recipe."""
    import torch

    from benchmarks.training import fit_once
    from data.ratings.batches import RatingBatches
    from models.objective import Supervised
    from models.ratings.embeddings import DotBias

    users, items, ratings = _load(folder)
    batches = RatingBatches(users + 1, items + 1, ratings, batch_size=sizes["batch_size"], seed=SEED)

    def ready() -> Round:
        network = DotBias(sizes["users"], sizes["items"], FACTORS, y_range=RANGE)
        return lambda: fit_once(Supervised(network, torch.nn.MSELoss()), batches, rate=RATE)

    return ready


def bare(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Slices of shuffled tensors through the same network."""
    import torch

    from benchmarks.training import bare_loop
    from models.ratings.embeddings import DotBias

    users, items, ratings = map(torch.from_numpy, _load(folder))

    def batches() -> Any:
        for rows in torch.split(torch.randperm(len(users)), sizes["batch_size"]):
            yield users[rows] + 1, items[rows] + 1, ratings[rows]

    def ready() -> Round:
        network = DotBias(sizes["users"], sizes["items"], FACTORS, y_range=RANGE)
        return lambda: bare_loop(batches(), network, torch.nn.MSELoss(), rate=RATE)

    return ready


def fastai(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Its own loaders and network."""
    import pandas as pd
    from fastai.collab import CollabDataLoaders, EmbeddingDotBias
    from fastai.losses import MSELossFlat

    from benchmarks.training import fastai_loop

    table = pd.DataFrame(dict(zip(("user", "item", "rating"), _load(folder), strict=True)))
    loaders = CollabDataLoaders.from_df(table, valid_pct=0, seed=SEED, bs=sizes["batch_size"])

    def ready() -> Round:
        network = EmbeddingDotBias(FACTORS, sizes["users"] + 1, sizes["items"] + 1, y_range=RANGE)
        return lambda: fastai_loop(loaders, network, MSELossFlat(), rate=RATE)

    return ready


VARIANTS = {OURS: ours, BARE: bare, PEER: fastai}
