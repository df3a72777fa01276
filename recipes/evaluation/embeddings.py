"""What the learned vectors are worth to other models: neighbours, forest and boosting with and without
them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.recipe import Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEXT = (
    "{metric} on the validation part of models that learned from {rows} training rows: names as whole"
    " numbers (without), or as the vectors that the network learned (with), beside the same normalised"
    " numbers. The course shows such a table for Rossmann (lesson 5 of 2019; Guo and Berkhahn 2016)."
)


def comparison(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """A listing for the card; none where `evaluate.compared` is 0, there is no name, or nothing to compare
    with."""
    evaluation, classes = subject.evaluation, subject.facts.get("classes")
    sides = {part: _arrays(subject, part) for part in ("train", "valid")}
    if not evaluation.compared or not sides["train"]["codes"].shape[1] or not len(sides["valid"]["targets"]):
        return
    train = sides["train"]
    drawn = np.random.default_rng(subject.settings.seed).permutation(len(train["targets"]))[
        : evaluation.compared
    ]
    train = {name: values[np.sort(drawn)] for name, values in train.items()}
    rows = []
    for name, model in _models(subject).items():
        found = {}
        for how, names in (("without", "codes"), ("with", "vectors")):
            seen = [
                np.concatenate([side[names], side["numbers"]], axis=1) for side in (train, sides["valid"])
            ]
            model.fit(seen[0], train["targets"])
            found[how] = _judge(model.predict(seen[1]), sides["valid"]["targets"], subject.facts)
        rows.append({"model": name, "without": found["without"], "with": found["with"]})
    rows.append({"model": "this network", "without": None, "with": _own(predictions, subject.facts)})
    metric = "Accuracy" if classes else "Mean absolute error as a share of the target"
    text = TEXT.format(metric=metric, rows=len(train["targets"]))
    yield Listing(
        name="entity_embeddings",
        table=pa.Table.from_pylist(rows),
        title="Embeddings in other models",
        text=text,
    )


def _models(subject: Subject) -> dict[str, Any]:
    from sklearn import ensemble, neighbors

    settings, seed = subject.evaluation, subject.settings.seed
    kind = "Classifier" if "classes" in subject.facts else "Regressor"
    neighbour = getattr(neighbors, f"KNeighbors{kind}")
    forest, boosting = (getattr(ensemble, name + kind) for name in ("RandomForest", "HistGradientBoosting"))
    jobs = subject.settings.threads
    return {
        f"{settings.neighbours} nearest neighbours": neighbour(
            n_neighbors=settings.neighbours, weights="distance", p=1, n_jobs=jobs
        ),
        "random forest": forest(settings.trees, min_samples_leaf=2, random_state=seed, n_jobs=jobs),
        "gradient boosting": boosting(max_iter=settings.trees, random_state=seed),
    }


def _arrays(subject: Subject, part: str) -> dict[str, NDArray[Any]]:
    """Codes, their vectors, numbers and targets of the labelled rows of a part."""
    import torch

    from data.tables.batches import open_rows
    from models.tabular.network import body_of

    if not subject.items.table([part], ["item_id"]).num_rows:
        empty = np.zeros((0, 1))
        return {"codes": empty, "vectors": empty, "numbers": empty, "targets": np.zeros(0)}
    batches = open_rows(subject.items, part, subject.facts, batch_size=1)
    targets = batches.targets.numpy()
    labelled = targets >= 0 if "classes" in subject.facts else ~np.isnan(targets)
    with torch.no_grad():
        vectors = body_of(subject.network).cpu().embed(batches.codes)
    found = {"codes": batches.codes, "vectors": vectors, "numbers": batches.numbers}
    return {name: values.numpy()[labelled] for name, values in found.items()} | {"targets": targets[labelled]}


def _judge(answers: NDArray[Any], targets: NDArray[Any], facts: Mapping[str, Any]) -> float:
    if "classes" in facts:
        return float((answers == targets).mean())
    if facts["target"]["log"]:
        answers, targets = np.exp(answers), np.exp(targets)
    there = targets != 0
    return float(np.abs((answers[there] - targets[there]) / targets[there]).mean())


def _own(predictions: pa.Table, facts: Mapping[str, Any]) -> float:
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    if "classes" in facts:
        rows = rows.filter(pc.is_valid(rows["label"]))
        return float(pc.mean(pc.equal(rows["label"], rows["predicted"]).cast(pa.float64())).as_py())
    rows = rows.filter(pc.is_valid(rows["target"]))
    answers, targets = rows["predicted"].to_numpy(), rows["target"].to_numpy()
    there = targets != 0
    return float(np.abs((answers[there] - targets[there]) / targets[there]).mean())
