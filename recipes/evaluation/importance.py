"""How much does the network lean on each column? What is lost when the column's cells are shuffled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from recipes.recipe import Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 5_000
"""Validation rows that are looked at."""

TEXT = (
    "How much the loss of the validation rows grows when the cells of one column are shuffled among them"
    " (mean and deviation of {shuffles} shuffles, {rows} rows; the loss itself is {loss:.4f}). Columns"
    " that say the same share their weight, so that each of them may seem to matter little."
)


def importance(subject: Subject) -> Iterator[Listing]:
    """A listing for the card, the weightiest column first; none where `evaluate.shuffles` is 0."""
    found = permuted(subject)
    if found is None:
        return
    loss, rows, names, means, deviations = found
    order = np.argsort(-means, kind="stable")
    table = {
        "column": [names[place] for place in order],
        "loss_added": means[order],
        "deviation": deviations[order],
    }
    text = TEXT.format(shuffles=subject.evaluation.shuffles, rows=rows, loss=loss)
    yield Listing(name="importance", table=pa.table(table), title="Weight of the columns", text=text)


def permuted(
    subject: Subject,
) -> tuple[float, int, list[str], NDArray[np.float64], NDArray[np.float64]] | None:
    """Loss, rows, columns, and by column what the loss gains in the mean and its deviation."""
    import torch
    from sklearn.inspection import permutation_importance

    from data.tables.batches import open_rows
    from data.tables.coding import coded_columns

    if not subject.evaluation.shuffles or not subject.items.table(["valid"], ["item_id"]).num_rows:
        return None
    batches = open_rows(subject.items, "valid", subject.facts, batch_size=1)
    targets = batches.targets
    labelled = (targets >= 0) if "classes" in subject.facts else ~torch.isnan(targets)
    places = torch.nonzero(labelled)[:, 0]
    if not len(places):
        return None
    if len(places) > MOST:
        places = places[np.sort(np.random.default_rng(subject.settings.seed).permutation(len(places))[:MOST])]
    codes, numbers, targets = (each[places] for each in (batches.codes, batches.numbers, targets))
    names = [name for name, _ in coded_columns(subject.facts)]
    seen = np.concatenate([codes.numpy().astype(np.float64), numbers.numpy().astype(np.float64)], axis=1)

    def score(_: Any, cells: NDArray[np.float64], aims: Any) -> float:
        with torch.no_grad():
            outputs = subject.network.cpu()(
                torch.from_numpy(cells[:, : len(names)].astype(np.int64)),
                torch.from_numpy(cells[:, len(names) :].astype(np.float32)),
            )
        if "classes" in subject.facts:
            return -float(torch.nn.functional.cross_entropy(outputs, targets))
        return -float(((outputs - targets) / subject.facts["target"]["std"]).square().mean())

    found = permutation_importance(
        _Fitted(), seen, targets.numpy(), scoring=score, n_repeats=subject.evaluation.shuffles,
        random_state=subject.settings.seed,
    )  # fmt: skip
    loss = -score(None, seen, None)
    named = [*names, *(each["name"] for each in subject.facts["numbers"])]
    return loss, len(places), named, found["importances_mean"], found["importances_std"]


class _Fitted:
    """What sklearn asks of an estimator whose scoring is a function."""

    def fit(self, *_: Any) -> _Fitted:
        return self
