"""Rows of a table: epochs of entity embeddings beside numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import BARE, OURS, PEER, SMALL_STEPS, Case, Round
from benchmarks.worker import SEED

RATE, LAYERS = 1e-3, (200, 100)
CARDINALITIES = (9, 16, 7, 15, 6, 5, 42, 1115)
"""Names per column: Adult's but for two columns, and the shops of Rossmann."""
NUMBERS = 6


def _case(batch_size: int, goals: Mapping[str, float], *, rows: int, name: str = "tables") -> Case:
    title = f"table of 8 categories and 6 numbers, batches of {batch_size}, {rows // batch_size:,} steps"
    return Case(
        name=f"{name}-{batch_size}", title=title, unit="rows", work=rows, rounds=3, rest=1, goals=goals,
        sizes={"rows": rows, "batch_size": batch_size}, note=SMALL_STEPS,
    )  # fmt: skip


# Multiples of the batch size: fastai leaves the last batch out where it is smaller.
CASES = [
    _case(64, {PEER: 5, BARE: 0.9}, rows=64_000),
    _case(64, {PEER: 5, BARE: 0.9}, rows=640_000, name="tables-long"),
    _case(1024, {PEER: 1.7, BARE: 0.9}, rows=160_768),
]


def make(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Codes from 1, numbers of mean 0 and deviation 1, and two classes that depend on all of them."""
    draw = np.random.default_rng(SEED)
    rows = sizes["rows"]
    codes = np.stack([draw.integers(1, count + 1, rows) for count in CARDINALITIES], axis=1)
    for column, count in enumerate(CARDINALITIES):
        codes[:count, column] = np.arange(1, count + 1)  # every name is there, whatever the number of rows
    numbers = draw.normal(0, 1, (rows, NUMBERS)).astype(np.float32)
    effects = [draw.normal(0, 1, count + 1) for count in CARDINALITIES]
    score = numbers @ draw.normal(0, 1, NUMBERS) + draw.normal(0, 1, rows)
    for column, effect in enumerate(effects):
        score += effect[codes[:, column]]
    np.save(folder / "codes.npy", codes)
    np.save(folder / "numbers.npy", numbers)
    np.save(folder / "classes.npy", (score > 0).astype(np.int64))


def _load(folder: Path) -> list[np.ndarray[Any, Any]]:
    return [np.load(folder / f"{name}.npy") for name in ("codes", "numbers", "classes")]


def _network() -> Any:
    from models.tabular.network import TabularNet
    from models.tabular.settings import TabularSettings

    columns = [(f"column {place}", [""] * count) for place, count in enumerate(CARDINALITIES)]
    return TabularNet(TabularSettings(layers=LAYERS), columns=columns, numbers=NUMBERS, outputs=2)


def ours(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The batches and the network of the recipe."""
    import torch

    from benchmarks.training import fit_once
    from data.tables.batches import TableBatches
    from models.objective import Supervised

    batches = TableBatches(
        *map(torch.from_numpy, _load(folder)), batch_size=sizes["batch_size"], training=True, seed=SEED
    )

    def ready() -> Round:
        network = _network()
        return lambda: fit_once(Supervised(network, torch.nn.CrossEntropyLoss()), batches, rate=RATE)

    return ready


def bare(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Slices of shuffled tensors through the same network."""
    import torch

    from benchmarks.training import bare_loop

    columns = [torch.from_numpy(column) for column in _load(folder)]

    def batches() -> Any:
        for rows in torch.split(torch.randperm(len(columns[0])), sizes["batch_size"]):
            yield tuple(column[rows] for column in columns)

    def ready() -> Round:
        network = _network()
        return lambda: bare_loop(batches(), network, torch.nn.CrossEntropyLoss(), rate=RATE)

    return ready


def fastai(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Its own loaders and network."""
    import pandas as pd
    from fastai.data.block import CategoryBlock
    from fastai.losses import CrossEntropyLossFlat
    from fastai.tabular.core import Categorify, Normalize, TabularPandas
    from fastai.tabular.data import TabularDataLoaders  # noqa: F401  # registers the loader of TabularPandas
    from fastai.tabular.model import TabularModel, get_emb_sz

    from benchmarks.training import fastai_loop

    codes, numbers, classes = _load(folder)
    names = [f"category {place}" for place in range(codes.shape[1])]
    values = [f"number {place}" for place in range(numbers.shape[1])]
    table = pd.DataFrame(dict(zip(names, codes.T, strict=True)) | dict(zip(values, numbers.T, strict=True)))
    table["class"] = classes
    everything = list(range(len(table)))
    rows = TabularPandas(
        table, [Categorify, Normalize], names, values, "class", CategoryBlock(), splits=(everything, [0])
    )
    loaders, sizes_of = rows.dataloaders(bs=sizes["batch_size"]), get_emb_sz(rows)

    def ready() -> Round:
        network = TabularModel(sizes_of, len(values), 2, list(LAYERS))
        return lambda: fastai_loop(loaders, network, CrossEntropyLossFlat(), rate=RATE)

    return ready


VARIANTS = {OURS: ours, BARE: bare, PEER: fastai}
