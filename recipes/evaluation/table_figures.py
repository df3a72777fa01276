"""Figures of a network on tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from sklearn.decomposition import PCA

from recipes.evaluation.audit import audit_figures
from recipes.recipe import Figure, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMED = 60
"""Names of a column up to which its map of embeddings says them all."""

MAPS = 6
"""Maps of embeddings that are drawn, of the columns with the most names first."""

WIDE = 8
"""Columns that a figure of rows shows."""


def training_batch(subject: Subject) -> Figure:
    """The first training rows of the first epoch as the network sees them: names by code, numbers
    normalised."""
    from data.tables.batches import open_rows
    from data.tables.coding import coded_columns

    batches = open_rows(
        subject.items, "train", subject.facts, batch_size=subject.evaluation.shown, seed=subject.settings.seed
    )
    codes, numbers, targets = next(iter(batches.epoch(0)))
    columns = coded_columns(subject.facts)
    quantities = [each["name"] for each in subject.facts["numbers"]]
    classes = subject.facts.get("classes")
    head = [name for name, _ in columns[:WIDE]] + quantities[:WIDE] + ["target"]
    rows = [
        [
            *(
                f"{int(code)} {([None, *words])[int(code)] or '–'}"[:18]
                for code, (_, words) in zip(row, columns, strict=True)
            )
        ][:WIDE]
        + [f"{float(value):+.2f}" for value in values[:WIDE]]
        + [classes[int(target)] if classes else f"{float(target):.3f}"]
        for row, values, target in zip(codes, numbers, targets, strict=True)
    ]
    return Figure(name="training_batch", draw=lambda figure: _table(figure, head, rows))


def class_figures(subject: Subject, rows: pa.Table) -> Iterator[Figure]:
    """Confusion matrix, calibration, and the audit."""
    from sklearn.metrics import confusion_matrix

    from models import figures

    classes = subject.facts["classes"]
    counts = confusion_matrix(rows["label"].to_pylist(), rows["predicted"].to_pylist(), labels=classes)
    yield Figure(
        name="confusion_matrix", draw=lambda figure: figures.confusion_matrix(figure, counts, classes=classes)
    )
    yield Figure(name="calibration", draw=lambda figure: _calibration(figure, rows))
    yield from audit_figures(subject, rows)


def number_figures(rows: pa.Table) -> Iterator[Figure]:
    """Predicted over actual quantities, and the errors as shares."""
    actual, predicted = rows["target"].to_numpy(), rows["predicted"].to_numpy()
    yield Figure(name="predicted_over_actual", draw=lambda figure: _scatter(figure, actual, predicted))
    there = actual != 0
    share = (predicted[there] - actual[there]) / np.abs(actual[there])
    yield Figure(name="errors", draw=lambda figure: _histogram(figure, share))


def worst_rows(subject: Subject, rows: pa.Table) -> Figure:
    """The rows with the greatest loss, as they were cleaned."""
    from data.tables.coding import CELLS, column_of, describe_columns

    described = describe_columns(subject.items)
    table = subject.items.table(["valid"], ["item_id", *CELLS])
    worst = rows.sort_by([("loss", "descending"), ("item_id", "ascending")]).slice(
        0, subject.evaluation.shown
    )
    places = {name: place for place, name in enumerate(table["item_id"].to_pylist())}
    taken = table.take(pa.array([places[name] for name in worst["item_id"].to_pylist()]))
    inputs = [each["name"] for each in (*subject.facts["categories"], *subject.facts["numbers"])][: 2 * WIDE]
    cells = [column_of(taken, described, name).to_pylist() for name in inputs]
    truth = worst["label"].to_pylist() if "label" in worst.column_names else _round(worst["target"])
    said = worst["predicted"].to_pylist() if "label" in worst.column_names else _round(worst["predicted"])
    lines = [[*map(_cell, row)] for row in zip(*cells, truth, said, strict=True)]
    return Figure(
        name="worst_rows", draw=lambda figure: _table(figure, [*inputs, "actual", "predicted"], lines)
    )


def importance_bars(subject: Subject) -> Iterator[Figure]:
    """What the loss gains when a column is shuffled."""
    from models import figures
    from recipes.evaluation.importance import permuted

    found = permuted(subject)
    if found is not None:
        _, _, names, means, _ = found
        order = np.argsort(-means, kind="stable")[:30]
        yield Figure(
            name="importance",
            draw=lambda figure: figures.bars(
                figure,
                [names[place] for place in order],
                means[order].tolist(),
                label="loss added by shuffling",
            ),
        )


def embedding_maps(subject: Subject) -> Iterator[Figure]:
    """Two principal components of the vectors of a column's names (lesson 5 of 2019)."""
    from data.tables.coding import coded_columns
    from models.tabular.network import body_of

    body = body_of(subject.network).cpu()
    columns = list(enumerate(coded_columns(subject.facts)))
    for place, (name, words) in sorted(columns, key=lambda each: -len(each[1][1]))[:MAPS]:
        vectors = body.vectors(place).numpy()[1:]
        if len(words) < 3 or vectors.shape[1] < 2:
            continue
        points = PCA(2, random_state=0).fit_transform(vectors)
        yield Figure(
            name=f"embedding_{name.replace('/', '_')}",
            draw=partial(_map, name=name, words=words, points=points),
        )


def _map(figure: Any, name: str, words: Sequence[str], points: NDArray[Any]) -> None:
    figure.set_size_inches(7, 6)
    axis = figure.subplots()
    axis.scatter(points[:, 0], points[:, 1], s=8)
    for word, (x, y) in list(zip(words, points, strict=True))[:NAMED]:
        axis.annotate(word, (x, y), fontsize=7)
    axis.set_title(f"embedding of {name}, two principal components", fontsize=9)
    figure.tight_layout()


def _calibration(figure: Any, rows: pa.Table) -> None:
    """Share of right answers over the probability that was stated for them, in ten bins."""
    stated = rows["probability"].to_numpy()
    right = np.array(rows["label"].to_pylist()) == np.array(rows["predicted"].to_pylist())
    edges = np.linspace(stated.min(), 1, 11)
    bins = np.clip(np.digitize(stated, edges) - 1, 0, 9)
    filled = [each for each in range(10) if (bins == each).any()]
    figure.set_size_inches(5, 5)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axis.plot(
        [stated[bins == each].mean() for each in filled],
        [right[bins == each].mean() for each in filled],
        "o-",
    )
    for each in filled:
        axis.annotate(
            str((bins == each).sum()), (stated[bins == each].mean(), right[bins == each].mean()), fontsize=7
        )
    axis.set_xlabel("stated probability")
    axis.set_ylabel("share that is right (numbers: rows)")
    axis.set_xlim(float(stated.min()) - 0.02, 1.02)
    figure.tight_layout()


def _scatter(figure: Any, actual: NDArray[Any], predicted: NDArray[Any]) -> None:
    figure.set_size_inches(6, 6)
    axis = figure.subplots()
    axis.scatter(actual, predicted, s=3, alpha=0.3)
    ends = [float(min(actual.min(), predicted.min())), float(max(actual.max(), predicted.max()))]
    axis.plot(ends, ends, linestyle=":", color="grey")
    axis.set_xlabel("actual")
    axis.set_ylabel("predicted")
    figure.tight_layout()


def _histogram(figure: Any, share: NDArray[Any]) -> None:
    figure.set_size_inches(6, 4)
    axis = figure.subplots()
    axis.hist(np.clip(share, -1, 1), bins=60)
    axis.set_xlabel("error as a share of the target (ends: all beyond)")
    axis.set_ylabel("rows")
    figure.tight_layout()


def _table(figure: Any, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    figure.set_size_inches(max(6, 1.05 * len(head)), 0.8 + 0.28 * len(rows))
    axis = figure.subplots()
    axis.axis("off")
    drawn = axis.table([list(row) for row in rows], colLabels=[name[:16] for name in head], loc="center")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(6)
    figure.tight_layout()


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:18]


def _round(values: pa.ChunkedArray) -> list[str]:
    return [f"{value:.6g}" for value in values.to_pylist()]
