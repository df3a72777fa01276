"""The largest object of a picture: predictions made once, and all that is derived from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.images.boxes import largest
from recipes.evaluation import boxes, classification
from recipes.recipe import Figure, Listing, Subject

BOX = pa.list_(pa.float32())

PREDICTIONS = pa.schema(
    [
        *classification.PREDICTIONS,
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("box", BOX, nullable=False),  # x_min, y_min, x_max, y_max in pixels
        pa.field("true_box", BOX, nullable=False),
        pa.field("l1_pixels", pa.float32(), nullable=False),  # mean of the four distances, at 224 a side
        pa.field("iou", pa.float32(), nullable=False),  # intersection over union
    ]
)


def predict(subject: Subject) -> pa.Table:
    """One row of PREDICTIONS per picture of the validation and test parts, in the order of the items."""
    import torch
    from torchvision.ops import box_iou

    from models.vision.largest import PIXELS, box_of

    classes = subject.facts["classes"]
    columns = ["item_id", "label", "width", "height", "boxes", "ignored"]
    rows: list[dict[str, Any]] = []
    for part in boxes.PARTS:
        truths = subject.items.table([part], columns).to_pylist()
        if not truths:
            continue
        batches = boxes.of_subject(subject, part, only_largest=True)
        answers = torch.cat(list(boxes.outputs(subject, batches)))
        found, real = box_of(answers), batches.boxes[:, 0]
        overlaps = torch.diagonal(box_iou(found, real)).tolist()
        distances = ((found - real).abs().mean(1) * PIXELS).tolist()
        logs = answers[:, 4:].log_softmax(dim=1)
        for place, truth in enumerate(truths):
            sides = np.array([truth["width"], truth["height"]] * 2)
            probabilities = logs[place].exp()
            rows.append(
                {
                    "item_id": truth["item_id"],
                    "part": part,
                    "label": truth["label"],
                    "predicted": classes[int(logs[place].argmax())],
                    "probability": float(probabilities.max()),
                    "loss": float(-logs[place][classes.index(truth["label"])]),
                    "probabilities": probabilities.tolist(),
                    "width": truth["width"],
                    "height": truth["height"],
                    "box": (found[place].numpy() * sides).tolist(),
                    "true_box": truth["boxes"][largest(truth)],
                    "l1_pixels": distances[place],
                    "iou": overlaps[place],
                }
            )
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def score(predictions: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """accuracy, l1_pixels, iou (means), and located: share with the right class and an overlap of 0.5."""
    right = pc.equal(predictions["label"], predictions["predicted"])
    near = pc.greater_equal(predictions["iou"], boxes.HIT)
    return {
        "accuracy": float(pc.mean(right.cast(pa.float64())).as_py()),
        "l1_pixels": float(pc.mean(predictions["l1_pixels"]).as_py()),
        "iou": float(pc.mean(predictions["iou"]).as_py()),
        "located": float(pc.mean(pc.and_(right, near).cast(pa.float64())).as_py()),
    }


def tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """Confusions of the classes, and `by_class`: how well each is recognised and located."""
    yield from classification.tables(subject, predictions)
    right = pc.equal(predictions["label"], predictions["predicted"]).cast(pa.float64())
    grouped = predictions.append_column("right", right).group_by(["part", "label"])
    found = grouped.aggregate([("right", "mean"), ("iou", "mean"), ("l1_pixels", "mean"), ("label", "count")])
    found = found.sort_by([("part", "ascending"), ("label", "ascending")])
    names = {
        "part": "part", "label": "class", "label_count": "pictures", "right_mean": "accuracy",
        "iou_mean": "iou", "l1_pixels_mean": "l1_pixels",
    }  # fmt: skip
    table = pa.table(
        {
            new: pc.round(found[old], 4) if pa.types.is_floating(found[old].type) else found[old]
            for old, new in names.items()
        }
    )
    yield Listing(
        name="by_class", table=table, title="Class by class",
        text="`iou`: mean intersection over union of the answered box and the annotated one; `l1_pixels`:"
        " mean distance of a side, as if every picture were squished to 224 pixels.",
    )  # fmt: skip


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A training batch with its boxes, answers beside the truth, worst classes, worst boxes, confusions."""
    from sklearn.metrics import confusion_matrix

    from models import figures

    yield boxes.training_batch(subject, only_largest=True)
    part = next((part for part in boxes.PARTS if part in predictions["part"].to_pylist()), None)
    if part is None:
        return
    rows = predictions.filter(pc.equal(predictions["part"], part)).to_pylist()
    batches = boxes.of_subject(subject, part, only_largest=True)
    shown = subject.evaluation.shown
    spaced = np.unique(np.linspace(0, len(rows) - 1, shown).round().astype(int)).tolist()
    yield _shown("predictions", batches, rows, spaced)
    yield _shown(
        "top_losses", batches, rows, sorted(range(len(rows)), key=lambda at: -rows[at]["loss"])[:shown]
    )
    yield _shown(
        "worst_boxes", batches, rows, sorted(range(len(rows)), key=lambda at: rows[at]["iou"])[:shown]
    )
    classes = subject.facts["classes"]
    counts = confusion_matrix(
        [row["label"] for row in rows], [row["predicted"] for row in rows], labels=classes
    )
    yield Figure(
        name="confusion_matrix", draw=lambda figure: figures.confusion_matrix(figure, counts, classes=classes)
    )


def _shown(name: str, batches: Any, rows: list[dict[str, Any]], chosen: list[int]) -> Figure:
    """Truth in white and dashed, the answer in green where the class is right, else in red."""
    from models.vision.boxes_figures import COLOURS, Frame, box_grid

    frames, titles = [], []
    for row in (rows[place] for place in chosen):
        sides = np.array([row["width"], row["height"]] * 2)
        right = row["label"] == row["predicted"]
        answer, truth = ((np.array(row[key]) / sides).tolist() for key in ("box", "true_box"))
        text = f"{row['predicted']} {row['probability']:.2f}"
        frames.append(
            [Frame(box=truth, dashed=True), Frame(box=answer, text=text, colour=COLOURS[2 if right else 1])]
        )
        titles.append(f"{row['label']} (loss {row['loss']:.2f}, overlap {row['iou']:.2f})")
    images = [batches.pictures.images[place] for place in chosen]
    return Figure(name=name, draw=lambda figure: box_grid(figure, images, frames, titles=titles))
