"""Classified pictures: predictions made once, and all that is derived from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.evaluation.classification import (
    PARTS,
    PREDICTIONS,
    confusion_matrix_figure,
    most_confused,
    rows_of,
)
from recipes.recipe import Figure, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from data.examples import Items
    from data.images.batches import ImageBatches
    from data.images.settings import Augmentation
    from models.fit import Batches
    from models.phases import Phase


def predict(subject: Subject) -> pa.Table:
    """One row of PREDICTIONS per picture of the validation and test parts, in the order of the items."""
    classes = subject.facts["classes"]
    tables = []
    for part in PARTS:
        if not subject.items.table([part], ["item_id"]).num_rows:
            continue
        batches = open_part(subject.items, part, classes, subject.settings, subject.cache)
        labels = subject.items.table([part], ["item_id", "label"])
        probabilities = _probabilities(
            subject.network, batches, subject.settings, views=subject.evaluation.views
        )
        tables.append(rows_of(part, labels, probabilities, classes))
    return pa.concat_tables(tables) if tables else PREDICTIONS.empty_table()


def _probabilities(
    network: nn.Module, batches: ImageBatches, settings: Any, *, views: int
) -> NDArray[np.float32]:
    """(N, classes): the mean over a picture and its augmented views, in float32 as exported programs do."""
    import torch

    from data.images.batches import tta
    from models.hardware import device

    here = device()
    network.to(here).eval()
    found = []
    with torch.no_grad():
        for images, _ in batches.epoch(0):
            images = images.to(here)
            seen = tta(images, settings.augmentation, views=views, seed=settings.seed) if views else [images]
            found.append(torch.stack([network(view).softmax(dim=1) for view in seen]).mean(dim=0).cpu())
    network.cpu()
    probabilities: NDArray[np.float32] = torch.cat(found).numpy()
    return probabilities


def open_part(
    items: Items,
    part: str,
    classes: Sequence[str],
    settings: Any,
    cache: Path,
    *,
    size: int | None = None,
    batch_size: int | None = None,
    augmentation: Augmentation | None = None,
    training: bool | None = None,
) -> ImageBatches:
    """Batches of one part as the settings say. In `training`, by default of the training part, they are
    shuffled and cut at random; otherwise they are as in evaluation."""
    from data.images.batches import open_images
    from models.hardware import device

    return open_images(
        items,
        [part],
        vocabulary=classes,
        size=size or settings.size,
        batch_size=batch_size or settings.batch_size,
        training=part == "train" if training is None else training,
        channels=settings.channels,
        resize=settings.resize,
        cache=cache,
        augmentation=augmentation,
        seed=settings.seed,
        device=device(),
    )


def open_phase(
    phase: Phase, *, items: Items, classes: Sequence[str], settings: Any, cache: Path
) -> tuple[Batches, Batches]:
    """Training and validation batches of a phase at its size: pictures, or features for a head alone."""
    from data.images.features import FeatureBatches
    from models.vision.precompute import HeadAlone

    opened = partial(
        open_part, items, classes=classes, settings=settings, cache=cache, size=phase.size or settings.size
    )
    valid, head = opened(part="valid"), phase.objective
    if isinstance(head, HeadAlone):
        still = FeatureBatches(opened(part="train", training=False), head.features, training=True)
        return still, FeatureBatches(valid, head.features, training=False)
    return opened(part="train", augmentation=settings.augmentation), valid


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A training batch as the network sees it, confusion matrix, confused pairs, top losses, Grad-CAM."""
    from models import figures

    classes, evaluation = subject.facts["classes"], subject.evaluation
    yield _training_batch(subject)
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    if not rows.num_rows:
        return
    yield confusion_matrix_figure(rows, classes)
    pairs = most_confused(rows)[:20]
    yield Figure(
        name="most_confused",
        draw=lambda figure: figures.bars(
            figure,
            [f"{actual} taken for {predicted}" for (actual, predicted), _ in pairs],
            [count for _, count in pairs],
            label="pictures",
        ),
    )
    batches = open_part(subject.items, "valid", classes, subject.settings, subject.cache)
    losses = np.array(rows["loss"].to_pylist(), dtype=np.float64)
    worst = np.argsort(-losses, kind="stable")[: evaluation.shown]
    yield _shown("top_losses", batches, rows, worst)
    spaced = np.unique(np.linspace(0, len(losses) - 1, evaluation.shown).round().astype(int))
    heat = _heat(subject.network, batches, rows, spaced, classes)
    if heat is not None:
        yield _shown("grad_cam", batches, rows, spaced, maps=heat)


def _shown(
    name: str, batches: ImageBatches, rows: pa.Table, chosen: Any, *, maps: Sequence[Any] | None = None
) -> Figure:
    """Pictures of the validation part with prediction, label, loss and probability of the label."""
    from models import figures

    listed = rows.take(pa.array(chosen)).to_pylist()
    titles = [
        f"{row['predicted']} {row['probability']:.2f}\n{row['label']} (loss {row['loss']:.2f})"
        for row in listed
    ]
    pictures = [batches.images[int(index)] for index in chosen]
    return Figure(
        name=name, draw=lambda figure: figures.image_grid(figure, pictures, titles=titles, maps=maps)
    )


def _heat(
    network: nn.Module, batches: ImageBatches, rows: pa.Table, chosen: Any, classes: Sequence[str]
) -> list[Any] | None:
    """Grad-CAM of the predicted class, (H, W) in [0, 1] each; None for a network without a feature map."""
    import torch

    from models.interpret import grad_cam
    from models.vision.classifier import ImageClassifier

    assert isinstance(network, ImageClassifier)

    pixels = np.stack([batches.images[int(index)] for index in chosen])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    predicted = rows.take(pa.array(chosen))["predicted"].to_pylist()
    targets = torch.tensor([classes.index(name) for name in predicted])
    with torch.no_grad():
        if network.features(images[:1]).dim() != 4:
            return None
    return list(grad_cam(network, images, classes=targets).numpy())


def _training_batch(subject: Subject) -> Figure:
    """The first training pictures of the first epoch, augmented."""
    from models import figures

    classes, settings = subject.facts["classes"], subject.settings
    count = subject.items.table(["train"], ["item_id"]).num_rows
    batches = open_part(
        subject.items,
        "train",
        classes,
        settings,
        subject.cache,
        batch_size=min(subject.evaluation.shown, count),
        augmentation=settings.varied,
        training=settings.varied is not None,
    )
    images, targets = next(iter(batches.epoch(0)))
    pictures = list(images.permute(0, 2, 3, 1).cpu().numpy())
    titles = [classes[int(target)] for target in targets]
    return Figure(
        name="training_batch", draw=lambda figure: figures.image_grid(figure, pictures, titles=titles)
    )
