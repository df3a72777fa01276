"""Predicted classes, whatever is classified: the rows of predictions, and all that is derived from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.recipe import Figure, Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("valid", "test")

PREDICTIONS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # null: unlabelled
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("probability", pa.float32(), nullable=False),  # of `predicted`
        pa.field("loss", pa.float32()),  # cross-entropy; null: unlabelled
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),  # in the order of facts["classes"]
    ]
)


def rows_of(part: str, items: pa.Table, probabilities: NDArray[Any], classes: Sequence[str]) -> pa.Table:
    """A row of PREDICTIONS per row of `items` (`item_id`, `label`) from probabilities (N, classes) of the
    same order. A label that training never saw has the probability 0."""
    places = pc.index_in(items["label"], pa.array(classes, pa.string()))
    of_label = probabilities[np.arange(len(places)), places.fill_null(0).to_numpy()]
    of_label = np.where(pc.is_valid(places).to_numpy(), of_label, 0.0)
    losses = -np.log(np.maximum(of_label, np.finfo(np.float32).tiny))
    unlabelled = pc.is_null(items["label"]).to_numpy()
    flat = pa.array(probabilities.astype(np.float32).reshape(-1))
    columns = {
        "item_id": items["item_id"],
        "part": pa.array([part] * len(places), pa.string()),
        "label": items["label"],
        "predicted": pa.array(classes, pa.string()).take(pa.array(probabilities.argmax(axis=1))),
        "probability": pa.array(probabilities.max(axis=1)),
        "loss": pa.array(losses, mask=unlabelled),
        "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(classes)),
    }
    return pa.table(columns).cast(PREDICTIONS)


def score(predictions: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """error_rate, accuracy, macro_f1 (of classes that occur) and loss of the labelled rows; {} for none."""
    from sklearn.metrics import accuracy_score, f1_score

    rows = predictions.filter(pc.is_valid(predictions["label"]))
    if not rows.num_rows:
        return {}
    actual, predicted = rows["label"].to_pylist(), rows["predicted"].to_pylist()
    accuracy = float(accuracy_score(actual, predicted))
    return {
        "error_rate": 1.0 - accuracy,
        "accuracy": accuracy,
        "macro_f1": float(f1_score(actual, predicted, average="macro", zero_division=0.0)),
        "loss": float(pc.mean(rows["loss"]).as_py()),
    }


def tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """`confusion` (actual, predicted: a row per labelled item) and `most_confused` (pairs by count)."""
    rows = predictions.filter(pc.is_valid(predictions["label"]))
    pairs = {"actual": rows["label"], "predicted": rows["predicted"]}
    yield Listing(name="confusion", table=pa.table(pairs))
    confused = most_confused(rows)
    counted = {
        "actual": pa.array([pair[0] for pair, _ in confused], pa.string()),
        "predicted": pa.array([pair[1] for pair, _ in confused], pa.string()),
        "count": pa.array([count for _, count in confused], pa.int64()),
    }
    yield Listing(name="most_confused", table=pa.table(counted))


def most_confused(rows: pa.Table) -> list[tuple[tuple[str, str], int]]:
    """Pairs (actual, predicted) that differ, most frequent first, then by name."""
    pairs = zip(rows["label"].to_pylist(), rows["predicted"].to_pylist(), strict=True)
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def review(predictions: pa.Table, evaluation: Any) -> pa.Table:
    """The labelled items with the greatest loss; a person fills in `action` (course, lesson 2 of 2019)."""
    rows = predictions.filter(pc.is_valid(predictions["label"]))
    worst = rows.sort_by([("loss", "descending"), ("item_id", "ascending")]).slice(0, evaluation.candidates)
    return pa.table(
        {
            "item_id": worst["item_id"],
            "action": pa.array([""] * worst.num_rows, pa.string()),
            "label": worst["label"],
            "predicted": worst["predicted"],
            "probability": worst["probability"],
            "loss": worst["loss"],
        }
    )


def confusion_matrix_figure(rows: pa.Table, classes: Sequence[str]) -> Figure:
    """Counts of the labelled `rows` by label and predicted class."""
    from sklearn.metrics import confusion_matrix

    from models import figures

    counts = confusion_matrix(rows["label"].to_pylist(), rows["predicted"].to_pylist(), labels=list(classes))
    return Figure(
        name="confusion_matrix", draw=lambda figure: figures.confusion_matrix(figure, counts, classes=classes)
    )
