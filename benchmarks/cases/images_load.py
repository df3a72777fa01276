"""Pictures: from JPEG to the normalised and augmented batches of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.case import OURS, PEER, Case, Round
from benchmarks.jpegs import fastai_loaders, recipe, write_jpegs

CASES = [
    Case(
        name="images-load", title="JPEG to augmented, normalised batches of 128 pixels", unit="images",
        work=512, sizes={"train": 512, "valid": 128, "classes": 8, "size": 128, "batch_size": 32},
        goals={PEER: 8}, rest=1, rounds=15,
        note="after the first epoch, in which ours decodes the pictures into its cache. fastai:"
        " RandomResizedCrop and aug_transforms, without worker processes; ours cuts windows in a second"
        " thread.",
    )
]  # fmt: skip

make = write_jpegs


def ours(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The training batches of the recipe, and the normalisation of its network."""
    import torch

    from models.hardware import device

    learning, network, phases = recipe(
        folder, folder / "cache", size=sizes["size"], batch_size=sizes["batch_size"],
        phases=[{"epochs": 1, "rates": [1e-3]}],
    )  # fmt: skip
    train, epochs = learning.loaders(phases[0])[0], count()
    network.to(device())

    def epoch() -> list[int]:
        with torch.no_grad():
            for images, _ in train.epoch(next(epochs)):
                made = network.normalised(images)
        return [*made.shape, int(made.sum().isfinite())]

    return lambda: epoch


def fastai(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Its own loaders."""
    loaders = fastai_loaders(folder, sizes, augmented=True)

    def epoch() -> list[int]:
        for images, _ in loaders.train:
            made = images
        return [*made.shape, int(made.sum().isfinite())]

    return lambda: epoch


VARIANTS = {OURS: ours, PEER: fastai}
