"""Judged rows of a table: predictions made once, and all that is derived from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, Field

from recipes.evaluation import classification
from recipes.recipe import Figure, Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data.examples import Items
    from data.tables.batches import TableBatches
    from models.tabular.settings import TabularLearning

QUANTITIES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("target", pa.float64()),  # null: unlabelled
        pa.field("predicted", pa.float64(), nullable=False),
        pa.field("loss", pa.float64()),  # squared error in deviations of the target; null: unlabelled
    ]
)
"""Predictions where the target is a quantity; for classes they are `classification.PREDICTIONS`."""

ROWS = 16_384
"""Rows that go through the network at once."""


class TableEvaluation(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a network on tables is judged."""

    shown: int = Field(default=12, ge=1, le=64)
    """Rows in the figures of a training batch and of the worst mistakes."""
    candidates: int = Field(default=50, ge=0)
    """Rows of `corrections.csv`, worst first."""
    shuffles: int = Field(default=3, ge=0)
    """Times that each column is shuffled to see how much the network leans on it; 0: not at all."""
    compared: int = Field(default=10_000, ge=0)
    """Training rows given to nearest neighbours, random forest and gradient boosting, with and without the
    learned embeddings (lesson 5 of 2019); 0: no comparison."""
    trees: int = Field(default=100, ge=1)
    """Trees of the forest, and rounds of boosting."""
    neighbours: int = Field(default=10, ge=1)
    """Nearest neighbours (the paper on entity embeddings: 10)."""


class ClassEvaluation(
    TableEvaluation, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
):
    """How a classifier of rows is judged."""

    audit: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Cleaned columns whose groups are compared (sex, race), whether or not the network sees them."""
    positive: str = ""
    """The class that counts as selected in the audit; empty: the last of the alphabet."""
    resamples: int = Field(default=100, ge=10)
    """Bootstrap samples behind the audit's intervals of 95 %."""


def open_parts(items: Items, settings: TabularLearning, facts: Mapping[str, Any]) -> Any:
    """Training and validation batches."""
    return open_part(items, "train", settings, facts), open_part(items, "valid", settings, facts)


def open_part(
    items: Items, part: str, settings: Any, facts: Mapping[str, Any], *, batch_size: int | None = None
) -> TableBatches:
    """Batches of one part on the device; the training part is shuffled."""
    from data.tables.batches import open_rows
    from models.hardware import device

    return open_rows(
        items, part, facts, batch_size=batch_size or settings.batch_size, seed=settings.seed, device=device()
    )


def predict_classes(subject: Subject) -> pa.Table:
    """A row of `classification.PREDICTIONS` per row of the validation and test parts, in their order."""
    found = []
    for part, outputs, _ in _answers(subject):
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        items = subject.items.table([part], ["item_id", "label"])
        found.append(classification.rows_of(part, items, probabilities, subject.facts["classes"]))
    return pa.concat_tables(found) if found else classification.PREDICTIONS.empty_table()


def predict_numbers(subject: Subject) -> pa.Table:
    """A row of QUANTITIES per row of the validation and test parts, in the order of the items."""
    found = []
    aim = subject.facts["target"]
    for part, outputs, targets in _answers(subject):
        table = subject.items.table([part], ["item_id", "target"])
        answers = outputs.astype(np.float64)
        columns = {
            "item_id": table["item_id"],
            "part": pa.array([part] * len(targets)),
            "target": table["target"],
            "predicted": pa.array(np.exp(answers) if aim["log"] else answers),
            "loss": pa.array(((answers - targets) / aim["std"]) ** 2, from_pandas=True),
        }
        found.append(pa.table(columns).cast(QUANTITIES))
    return pa.concat_tables(found) if found else QUANTITIES.empty_table()


def _answers(subject: Subject) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Part, outputs and targets of what is held out."""
    import torch

    from models.hardware import device

    subject.network.to(device()).eval()
    for part in classification.PARTS:
        if not subject.items.count([part]):
            continue
        batches = open_part(subject.items, part, subject.settings, subject.facts, batch_size=ROWS)
        with torch.no_grad():
            outputs = [
                subject.network(codes, numbers).float().cpu() for codes, numbers, _ in batches.epoch(0)
            ]
        yield part, torch.cat(outputs).numpy(), batches.targets.cpu().numpy()
    subject.network.cpu()


def score_classes(predictions: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy and its like, and the area under the curve (of two classes; the mean over classes
    otherwise)."""
    from sklearn.metrics import roc_auc_score

    rows = predictions.filter(pc.is_valid(predictions["label"]))
    found = classification.score(rows, facts)
    labels = rows["label"].to_pylist()
    if found and len(set(labels)) == len(facts["classes"]):
        table = np.array(rows["probabilities"].to_pylist())
        two = len(facts["classes"]) == 2
        area = roc_auc_score(
            labels, table[:, 1] if two else table, multi_class="ovr", labels=facts["classes"]
        )
        found["roc_auc"] = float(area)
    elif found:  # a class that does not occur has no curve
        found["roc_auc"] = float("nan")
    return found


def score_numbers(predictions: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """Errors in the target's own units, and as shares of it (targets of 0 left out); {} where none is
    labelled."""
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    rows = predictions.filter(pc.is_valid(predictions["target"]))
    if not rows.num_rows:
        return {}
    actual, predicted = rows["target"].to_numpy(), rows["predicted"].to_numpy()
    there = actual != 0
    share = (predicted[there] - actual[there]) / actual[there]
    return {
        "rmspe": float(np.sqrt(np.mean(share**2))) if there.any() else float("nan"),
        "mape": float(np.mean(np.abs(share))) if there.any() else float("nan"),
        "rmse": float(root_mean_squared_error(actual, predicted)),
        "mae": float(mean_absolute_error(actual, predicted)),
        "r2": float(r2_score(actual, predicted)) if len(actual) > 1 else float("nan"),
    }


def class_tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """What every classifier has, the audit, the columns by weight and the comparison with other models."""
    from recipes.evaluation.audit import audit

    yield from classification.tables(subject, predictions)
    yield from audit(subject, predictions)
    yield from _both(subject, predictions)


def number_tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """The columns by weight, and the comparison with other models."""
    yield from _both(subject, predictions)


def _both(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    from recipes.evaluation.embeddings import comparison
    from recipes.evaluation.importance import importance

    yield from importance(subject)
    yield from comparison(subject, predictions)


def review(predictions: pa.Table, evaluation: Any) -> pa.Table:
    """The rows with the greatest loss; a person fills in `action`."""
    if "label" in predictions.column_names:
        return classification.review(predictions, evaluation)
    rows = predictions.filter(pc.is_valid(predictions["target"]))
    worst = rows.sort_by([("loss", "descending"), ("item_id", "ascending")]).slice(0, evaluation.candidates)
    blank = pa.array([""] * worst.num_rows, pa.string())
    return pa.table(
        {
            "item_id": worst["item_id"], "action": blank, "label": blank, "target": worst["target"],
            "predicted": worst["predicted"], "loss": worst["loss"],
        }
    )  # fmt: skip


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A training batch, where it errs and how surely, the worst rows, the weight of columns, maps of
    embeddings."""
    from recipes.evaluation import table_figures as drawn

    yield drawn.training_batch(subject)
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    known = pc.is_valid(rows["label" if "classes" in subject.facts else "target"])
    rows = rows.filter(known)
    yield from drawn.embedding_maps(subject)
    if not rows.num_rows:
        return
    yield from (
        drawn.class_figures(subject, rows) if "classes" in subject.facts else drawn.number_figures(rows)
    )
    yield drawn.worst_rows(subject, rows)
    yield from drawn.importance_bars(subject)
