"""Language model: an epoch of AWD-LSTM through truncated back-propagation in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import BARE, OURS, PEER, Case, Round
from benchmarks.worker import SEED

RATE, ACTIVATION, CHANGE = 1e-3, 2.0, 1.0
STEPS = 12
SIZES = {
    "streams": 32, "length": 72, "steps": STEPS,
    "vocabulary": 8000, "embedding": 128, "hidden": 256, "layers": 2,
}  # fmt: skip

CASES = [
    Case(
        name="language", title="AWD-LSTM, stretches of 72 tokens", unit="tokens", work=32 * 72 * STEPS,
        sizes=SIZES, goals={PEER: 1.3}, rounds=5, rest=1,
        note="Float32 throughout, which is the recipe's default. The bare loop has all scores at once.",
    )
]  # fmt: skip


def make(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Documents of 50 to 350 tokens, frequencies by Zipf's law."""
    draw = np.random.default_rng(SEED)
    count = sizes["streams"] * sizes["length"] * sizes["steps"] + 1
    codes = draw.zipf(1.3, count) % (sizes["vocabulary"] - 9) + 9
    ends = np.cumsum(draw.integers(50, 351, count // 50))
    np.save(folder / "codes.npy", codes.astype(np.int64))
    np.save(folder / "offsets.npy", np.concatenate([[0], ends[ends < count], [count]]).astype(np.int64))


def _load(folder: Path) -> list[np.ndarray[Any, Any]]:
    return [np.load(folder / f"{name}.npy") for name in ("codes", "offsets")]


def _streams(folder: Path, sizes: Mapping[str, Any]) -> Any:
    from data.text.streams import Streams

    return Streams(*_load(folder), streams=sizes["streams"], length=sizes["length"], shuffle=True, seed=SEED)


def _network(sizes: Mapping[str, Any]) -> Any:
    from models.language.model import build_language_model
    from models.language.settings import LanguageNetworkSettings

    shape = {name: sizes[name] for name in ("embedding", "hidden", "layers")}
    return build_language_model(LanguageNetworkSettings(**shape), sizes["vocabulary"])


def ours(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The streams, the network and the objective of the recipe."""
    from benchmarks.training import fit_once
    from models.language.objective import LanguageModelling
    from recipes.language_model import LanguageTraining

    precision = LanguageTraining.model_fields["precision"].default
    batches = _streams(folder, sizes)

    def ready() -> Round:
        objective = LanguageModelling(_network(sizes), activation=ACTIVATION, change=CHANGE)
        return lambda: fit_once(objective, batches, rate=RATE, settings={"precision": precision})

    return ready


def bare(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The same network in a plain loop, in float32."""
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.training import adamw

    batches = _streams(folder, sizes)

    def epoch(network: Any) -> float:
        optimiser, state, loss = adamw(network, RATE), None, torch.zeros(())
        network.train()
        for codes, targets in batches.epoch(0):
            scores, dropped, vectors, after = network.run(codes, state)
            state = [tuple(each.detach() for each in held) for held in after]
            loss = cross_entropy(scores.flatten(0, 1), targets.flatten())
            loss = loss + ACTIVATION * dropped.square().mean()
            loss = loss + CHANGE * (vectors[:, 1:] - vectors[:, :-1]).square().mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return float(loss)

    def ready() -> Round:
        network = _network(sizes)
        return lambda: epoch(network)

    return ready


def fastai(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Its own loader and network, with its regularisers."""
    import torch
    from fastai.data.core import DataLoaders
    from fastai.losses import CrossEntropyLossFlat
    from fastai.text.data import LMDataLoader
    from fastai.text.learner import LMLearner
    from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_lm_config
    from fastai.text.models.core import get_language_model

    from benchmarks.training import fastai_loop

    codes, offsets = _load(folder)
    documents = [torch.from_numpy(each) for each in np.split(codes, offsets[1:-1])]
    batches = LMDataLoader(documents, bs=sizes["streams"], seq_len=sizes["length"], shuffle=True)
    loaders = DataLoaders(batches, batches)
    shape = {"emb_sz": sizes["embedding"], "n_hid": sizes["hidden"], "n_layers": sizes["layers"]}

    def ready() -> Round:
        network = get_language_model(AWD_LSTM, sizes["vocabulary"], {**awd_lstm_lm_config, **shape})
        return lambda: fastai_loop(loaders, network, CrossEntropyLossFlat(), rate=RATE, kind=LMLearner)

    return ready


VARIANTS = {OURS: ours, BARE: bare, PEER: fastai}
