"""Pictures: whole trainings from JPEG to weights, validation included."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.case import OURS, PEER, Case, Round
from benchmarks.jpegs import fastai_loaders, recipe, write_jpegs
from benchmarks.worker import SEED

DRAWN = {"train": 256, "valid": 64, "classes": 8, "size": 128, "batch_size": 32}
FROZEN, WHOLE, SLOW = 3e-3, 1e-4, 1e-6
"""Rates of lesson 1 of 2019: of the frozen phase; of the last and the first layers of the unfrozen one."""
EPOCHS = 5


def _case(name: str, title: str, epochs: int, goals: Mapping[str, float], note: str, **sizes: Any) -> Case:
    return Case(
        name=name, title=title, unit="images", work=epochs * DRAWN["train"], sizes={**DRAWN, **sizes},
        goals=goals, rounds=3, note=note,
    )  # fmt: skip


CASES = [
    _case(
        "images-pets", "ResNet-18, 128 pixels, 4 epochs frozen and 2 unfrozen, from JPEG", 6, {PEER: 2},
        "decoding, validation and checkpoints included; ours computes in bf16 where the hardware has it,"
        " fastai in float32 and without worker processes; ours decodes in a thread for each processor.",
        precompute=False,
    ),
    _case(
        "images-precompute", "frozen ResNet-18, 128 pixels, 5 epochs, from JPEG", EPOCHS, {PEER: 3},
        "no augmentation; ours with `precompute`, fastai with the body in evaluation mode.", precompute=True,
    ),
    _case(
        "images-precompute-by-hand", "the same, features computed once in fastai's variant too", EPOCHS, {},
        "its body is run once over the pictures, and a Learner trains the head.", precompute=True,
        by_hand=True,
    ),
]  # fmt: skip

make = write_jpegs


def ours(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The recipe from an empty cache, with the checkpoints of the stage."""
    from models.fit import fit
    from models.hardware import device, keep_freed_memory
    from models.watchers import Progress
    from tasks.checkpoint import Checkpoint

    keep_freed_memory()
    phases: list[dict[str, Any]] = [
        {"epochs": 4, "rates": [FROZEN], "freeze": "body"},
        {"epochs": 2, "rates": [SLOW, WHOLE]},
    ]
    if sizes["precompute"]:
        phases = [{"epochs": EPOCHS, "rates": [FROZEN], "freeze": "body", "precompute": True}]

    def training() -> float:
        with tempfile.TemporaryDirectory() as place:
            learning, _, planned = recipe(
                folder, Path(place) / "cache", size=sizes["size"], batch_size=sizes["batch_size"],
                phases=phases,
            )  # fmt: skip
            checkpoint = Checkpoint(Path(place) / "checkpoint", "race")
            history = fit(
                planned, learning.loaders, [Progress()], seed=SEED, device=device(), precision="auto",
                channels_last=True, headline="error_rate", save=checkpoint.save,
            )  # fmt: skip
        return float(history.rows[-1]["error_rate"])

    return lambda: training


def fastai(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Its learner, as the course's notebook writes it; the weights are random."""
    from fastai.vision.all import BnFreeze, error_rate, resnet18, vision_learner

    def learner(*, augmented: bool, **settings: Any) -> Any:
        loaders = fastai_loaders(folder, sizes, augmented=augmented)
        made = vision_learner(loaders, resnet18, pretrained=False, metrics=error_rate, **settings)
        made.freeze()
        return made

    def course() -> float:
        made = learner(augmented=True)
        with made.no_bar(), made.no_logging():
            made.fit_one_cycle(4, FROZEN)
            made.unfreeze()
            made.fit_one_cycle(2, slice(SLOW, WHOLE))
        return float(made.recorder.values[-1][-1])

    def frozen() -> float:
        made = learner(augmented=False, train_bn=False, cbs=BnFreeze)
        with made.no_bar(), made.no_logging():
            made.fit_one_cycle(EPOCHS, FROZEN)
        return float(made.recorder.values[-1][-1])

    def by_hand() -> float:
        return _on_features(learner(augmented=False), sizes)

    return lambda: by_hand if sizes.get("by_hand") else frozen if sizes["precompute"] else course


def _on_features(whole: Any, sizes: Mapping[str, Any]) -> float:
    """A Learner for the head on what the body makes of every picture, pooled."""
    import torch
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.metrics import error_rate

    body, head = whole.model[0].eval(), whole.model[1]
    loaders = []
    for shuffle, part in ((True, whole.dls.train), (False, whole.dls.valid)):
        with torch.no_grad():
            made = [(head[:2](body(images)), targets) for images, targets in part]
        rows = list(zip(torch.cat([x for x, _ in made]), torch.cat([y for _, y in made]), strict=True))
        loaders.append(DataLoader(rows, bs=sizes["batch_size"], shuffle=shuffle, num_workers=0))
    data = DataLoaders(*loaders, device=next(body.parameters()).device)
    learner = Learner(data, head[2:], loss_func=whole.loss_func, metrics=error_rate)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(EPOCHS, FROZEN)
    return float(learner.recorder.values[-1][-1])


VARIANTS = {OURS: ours, PEER: fastai}
