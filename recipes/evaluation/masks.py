"""Segmented pictures: predictions made once, and all that is derived from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.images.masks import VOID
from data.images.masks_reading import decode_mask, encode_mask
from recipes.recipe import Figure, Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data.examples import Items
    from data.images.masks_batches import MaskBatches
    from data.images.settings import Augmentation

PARTS = ("valid", "test")
MOST_CONFUSED = 20
"""Rows of the table of confused classes."""

PREDICTIONS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("loss", pa.float32(), nullable=False),  # mean cross-entropy of the pixels that count
        # pixels by (actual, predicted) class, row by row: what all metrics are made of
        pa.field("confusion", pa.list_(pa.int32()), nullable=False),
        pa.field("mask", pa.binary(), nullable=False),  # predicted classes at the network's size, grey PNG
    ]
)


def open_part(
    items: Items,
    part: str,
    settings: Any,
    cache: Path,
    *,
    size: int | tuple[int, int] | None = None,
    batch_size: int | None = None,
    augmentation: Augmentation | None = None,
) -> MaskBatches:
    """Batches of one part as the settings say; the training part is shuffled."""
    from data.images.masks_batches import open_pairs
    from models.hardware import device

    return open_pairs(
        items,
        [part],
        size=size or settings.size,
        batch_size=batch_size or settings.batch_size,
        training=part == "train",
        cache=cache,
        augmentation=augmentation,
        seed=settings.seed,
        device=device(),
    )


def predict(subject: Subject) -> pa.Table:
    """One row of PREDICTIONS per picture of the validation and test parts, in the order of the items."""
    rows = [
        row
        for part in PARTS
        if subject.items.table([part], ["item_id"]).num_rows
        for row in _rows(subject, part)
    ]
    return pa.Table.from_pylist(rows, PREDICTIONS)


def _rows(subject: Subject, part: str) -> Iterator[dict[str, Any]]:
    import torch
    from torch.nn import functional

    from models.hardware import device

    here, classes = device(), len(subject.facts["classes"])
    network = subject.network.to(here).eval()
    batches = open_part(subject.items, part, subject.settings, subject.cache)
    names = iter(batches.item_ids)
    with torch.no_grad():
        for images, truths in batches.epoch(0):
            logits = network(images.to(here)).float().cpu()
            truths = truths.cpu()
            losses = functional.cross_entropy(logits, truths, ignore_index=VOID, reduction="none")
            for loss, mask, truth in zip(losses, logits.argmax(1), truths, strict=True):
                counted = truth != VOID
                pairs = truth[counted] * classes + mask[counted]
                yield {
                    "item_id": next(names),
                    "part": part,
                    "loss": float(loss.sum() / counted.sum().clamp(min=1)),
                    "confusion": torch.bincount(pairs, minlength=classes**2).tolist(),
                    "mask": encode_mask(mask.to(torch.uint8).numpy()),
                }
    network.cpu()


def counts(predictions: pa.Table, classes: int) -> NDArray[np.int64]:
    """(classes, classes): pixels by (actual, predicted) class over all rows."""
    values = predictions["confusion"].combine_chunks().flatten().to_numpy().astype(np.int64)
    summed: NDArray[np.int64] = values.reshape(-1, classes, classes).sum(axis=0)
    return summed


def score(predictions: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """Metrics over all pixels that count.

    `pixel_accuracy`; `mean_iou`: mean intersection over union of the classes that occur, in truth or
    prediction; `dice`: of the second class where there are two, else the mean of those classes; `loss`: mean
    over the pictures.
    """
    if not predictions.num_rows:
        return {}
    figures = of_classes(counts(predictions, len(facts["classes"])))
    occurs = figures["occurs"].astype(bool)
    dice = figures["dice"][1] if len(occurs) == 2 else figures["dice"][occurs].mean()
    return {
        "pixel_accuracy": float(figures["right"].sum() / max(figures["actual"].sum(), 1)),
        "mean_iou": float(figures["iou"][occurs].mean()),
        "dice": float(dice),
        "loss": float(pc.mean(predictions["loss"]).as_py()),
    }


def of_classes(confusion: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Figures of each class from pixels by (actual, predicted); 0 where a class does not occur."""
    right = np.diag(confusion).astype(np.float64)
    actual, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    either = actual + predicted - right

    def share(over: NDArray[Any], under: NDArray[Any]) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = np.divide(over, under, out=np.zeros(len(over)), where=under > 0)
        return shares

    return {
        "right": right,
        "actual": actual.astype(np.float64),
        "occurs": (either > 0).astype(np.float64),
        "iou": share(right, either),
        "recall": share(right, actual),
        "precision": share(right, predicted),
        "dice": share(2 * right, actual + predicted),
    }


def tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """`classes` (figures of each class that occurs) and `most_confused` (pairs by pixels)."""
    classes = subject.facts["classes"]
    rows = _shown_part(predictions)
    confusion = counts(rows, len(classes)) if rows.num_rows else np.zeros((len(classes),) * 2, np.int64)
    figures, total = of_classes(confusion), max(confusion.sum(), 1)
    order = [place for place in np.argsort(-figures["actual"], kind="stable") if figures["occurs"][place]]
    columns: dict[str, Any] = {
        "class": [classes[place] for place in order],
        "share_of_pixels": (figures["actual"] / total)[order].round(4),
    }
    columns |= {name: figures[name][order].round(4) for name in ("iou", "recall", "precision", "dice")}
    absent = [name for place, name in enumerate(classes) if not figures["occurs"][place]]
    text = "Pixels that are not void. The first class alone would reach a pixel accuracy of"
    text += f" {figures['actual'].max() / total:.3f}." if total > 1 else " nothing."
    if absent:
        text += f" Not in these pictures: {', '.join(absent)}."
    yield Listing(name="classes", table=pa.table(columns), title="Classes", text=text)
    off = confusion - np.diag(np.diag(confusion))
    worst = np.argsort(-off, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(place), len(classes)) for place in worst if off.flat[place] > 0]
    confused = {
        "actual": pa.array([classes[actual] for actual, _ in pairs], pa.string()),
        "predicted": pa.array([classes[predicted] for _, predicted in pairs], pa.string()),
        "pixels": pa.array([int(off[pair]) for pair in pairs], pa.int64()),
    }
    yield Listing(name="most_confused", table=pa.table(confused))


def review(predictions: pa.Table, evaluation: Any) -> pa.Table:
    """The pictures with the greatest loss: their masks are the first to look at (`delete` in `action`)."""
    order = [("loss", "descending"), ("item_id", "ascending")]
    worst = predictions.sort_by(order).slice(0, evaluation.candidates)
    return pa.table(
        {
            "item_id": worst["item_id"],
            "action": pa.array([""] * worst.num_rows, pa.string()),
            "label": pa.nulls(worst.num_rows, pa.string()),
            "pixel_accuracy": pa.array(_accuracies(worst)),
            "loss": worst["loss"],
        }
    )


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A training batch as the network sees it, IoU of the classes, their confusion, overlays, worst cases."""
    from models import figures
    from models.vision.overlays import overlays

    classes, shown = subject.facts["classes"], subject.evaluation.shown
    yield _training_batch(subject)
    rows = _shown_part(predictions)
    if not rows.num_rows:
        return
    confusion = counts(rows, len(classes))
    of_class = of_classes(confusion)
    kept = np.flatnonzero(of_class["occurs"])
    order = kept[np.argsort(-of_class["iou"][kept], kind="stable")]
    yield Figure(
        name="class_iou",
        draw=lambda figure: figures.bars(
            figure,
            [f"{classes[place]} ({of_class['actual'][place] / confusion.sum():.1%})" for place in order],
            [float(of_class["iou"][place]) for place in order],
            label="intersection over union (in parentheses: share of the pixels)",
        ),
    )
    actual = confusion[np.ix_(kept, kept)]
    percent = np.rint(100 * actual / np.maximum(actual.sum(axis=1, keepdims=True), 1)).astype(np.int64)
    yield Figure(
        name="confusion_percent",
        draw=lambda figure: figures.confusion_matrix(
            figure, percent, classes=[classes[place] for place in kept]
        ),
    )
    batches = open_part(subject.items, rows["part"][0].as_py(), subject.settings, subject.cache)
    accuracies = _accuracies(rows)
    spaced = np.unique(np.linspace(0, len(accuracies) - 1, shown).round().astype(int))
    worst = np.argsort(accuracies, kind="stable")[:shown]
    for name, chosen in (("overlays", spaced), ("worst_pictures", worst)):
        pictures = [
            (
                batches.images[int(index)],
                _truth(batches, int(index)),
                decode_mask(rows["mask"][index].as_py()),
            )
            for index in chosen
        ]
        titles = [f"{rows['item_id'][index]}\n{accuracies[index]:.3f} of the pixels" for index in chosen]

        def draw(figure: Any, pictures: Any = pictures, titles: Any = titles) -> None:
            overlays(figure, pictures, titles=titles, classes=classes, void=VOID)

        yield Figure(name=name, draw=draw)


def _training_batch(subject: Subject) -> Figure:
    """The first training pictures of the first epoch, augmented, with their masks."""
    from models.vision.overlays import overlays

    count = subject.items.table(["train"], ["item_id"]).num_rows
    batches = open_part(
        subject.items,
        "train",
        subject.settings,
        subject.cache,
        batch_size=min(subject.evaluation.shown, count),
        augmentation=subject.settings.augmentation,
    )
    images, truths = next(iter(batches.epoch(0)))
    pictures = [
        (image, truth)
        for image, truth in zip(
            images.permute(0, 2, 3, 1).cpu().numpy(), truths.cpu().numpy().astype(np.uint8), strict=True
        )
    ]
    titles = [batches.item_ids[index] for index in batches.order(0)[: len(pictures)]]
    return Figure(
        name="training_batch",
        draw=lambda figure: overlays(
            figure, pictures, titles=titles, classes=subject.facts["classes"], void=VOID
        ),
    )


def _shown_part(predictions: pa.Table) -> pa.Table:
    """The validation part, or the test part where there is no other."""
    valid = predictions.filter(pc.equal(predictions["part"], "valid"))
    return valid if valid.num_rows else predictions


def _truth(batches: MaskBatches, index: int) -> NDArray[np.uint8]:
    return batches.masks[index][..., 0]


def _accuracies(rows: pa.Table) -> NDArray[np.float64]:
    """Share of the right pixels of each picture."""
    each: Sequence[Sequence[int]] = rows["confusion"].to_pylist()
    confusion = np.array(each, dtype=np.float64).reshape(len(each), -1)
    side = round(confusion.shape[1] ** 0.5)
    right = confusion[:, :: side + 1].sum(axis=1)
    accuracies: NDArray[np.float64] = right / np.maximum(confusion.sum(axis=1), 1)
    return accuracies
