"""The outcome of single items: one rule for every recipe's predictions, and what changes between two."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes import evaluation
from recipes.evaluation import boxes, classification, masks, ratings, samples, tables
from tasks.outcomes import MEASURE, MEASURES, TO_RIGHT, TO_WRONG, changes, outcomes, write_outcomes


def schemas() -> dict[str, pa.Schema]:
    """Every schema of predictions that a module of `recipes/evaluation` declares."""
    modules = [
        importlib.import_module(f"recipes.evaluation.{found.name}")
        for found in pkgutil.iter_modules(evaluation.__path__)
    ]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, pa.Schema) and {"item_id", "part"} <= set(value.names)
    }


@pytest.mark.parametrize("schema", schemas().values(), ids=schemas())
def test_every_kind_of_predictions_can_be_judged_item_by_item(schema: pa.Schema) -> None:
    assert any(set(needed) <= set(schema.names) for _, needed, _ in MEASURES)


def classified(**answers: str) -> pa.Table:
    """Pictures of cats by name, with what was predicted for each and a loss that fits."""
    rows = [
        {
            "item_id": name, "part": "valid", "label": "cat", "predicted": predicted, "probability": 0.8,
            "loss": 0.2 if predicted == "cat" else 1.6, "probabilities": [0.8, 0.2],
        }
        for name, predicted in answers.items()
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, classification.PREDICTIONS)


def table(schema: pa.Schema, *rows: dict[str, Any]) -> pa.Table:
    """Predictions with these columns; the others of the schema are left out."""
    names = [name for name in schema.names if name in rows[0]]
    return pa.Table.from_pylist(list(rows), pa.schema([schema.field(name) for name in names]))


def scores(predictions: pa.Table) -> dict[str, float]:
    found = outcomes(predictions)
    return dict(zip(found["item_id"].to_pylist(), found["score"].to_pylist(), strict=True))


def test_classes_are_right_or_wrong() -> None:
    unlabelled = {"item_id": "x", "part": "test", "predicted": "dog", "probability": 0.5, "probabilities": []}
    predictions = pa.concat_tables(
        [classified(a="cat", b="dog"), pa.Table.from_pylist([unlabelled], classification.PREDICTIONS)]
    )
    found = outcomes(predictions)
    assert found.select(["item_id", "truth", "predicted", "right", "score"]).to_pylist() == [
        {"item_id": "a", "truth": "cat", "predicted": "cat", "right": True, "score": pytest.approx(0.2)},
        {"item_id": "b", "truth": "cat", "predicted": "dog", "right": False, "score": pytest.approx(1.6)},
    ]
    assert found.schema.metadata[MEASURE] == b"loss"


def test_other_answers_are_further_off_or_less() -> None:
    rated = {"part": "valid", "user": "u", "item": "i", "title": "t", "predicted": 3.0}
    assert scores(table(ratings.PREDICTIONS, {"item_id": "a", **rated, "rating": 4.5})) == {"a": 1.5}
    detected = {"item_id": "a", "part": "valid", "missed": 2, "wrong": 1}
    assert scores(table(boxes.PREDICTIONS, detected)) == {"a": 3.0}
    assert scores(table(masks.PREDICTIONS, {"item_id": "a", "part": "valid", "loss": 0.5})) == {"a": 0.5}
    sold = {"item_id": "a", "part": "valid", "target": 10.0, "predicted": 8.0, "loss": 0.25}
    assert scores(table(tables.QUANTITIES, sold)) == {"a": 0.25}


def test_a_made_picture_is_held_against_the_real_ones_of_its_part() -> None:
    kinds = {
        "r1": (samples.REAL, [0.0, 0.0]),
        "r2": (samples.REAL, [2.0, 0.0]),
        "m": (samples.MADE, [1.0, 3.0]),
    }
    rows = [
        {"item_id": name, "part": "valid", "kind": kind, "features": features}
        for name, (kind, features) in kinds.items()
    ]
    assert scores(table(samples.PREDICTIONS, *rows)) == {"m": 3.0}


def test_predictions_of_another_form_have_no_outcomes(tmp_path: Path) -> None:
    strange = pa.table({"item_id": ["a"], "part": ["valid"], "answer": ["?"]})
    assert pq.read_table(write_outcomes(strange, tmp_path)).num_rows == 0
    with pytest.raises(ValueError, match="tell nothing of single items"):
        changes(outcomes(strange), outcomes(strange))


def test_flips_come_first_and_are_counted(tmp_path: Path) -> None:
    first = outcomes(classified(a="cat", b="dog", c="dog", d="cat", e="dog", gone="cat"))
    second = outcomes(classified(a="dog", b="cat", c="cat", d="cat", e="dog", new="cat"))
    found = changes(first, second)
    assert found.counts() == {TO_RIGHT: 2, TO_WRONG: 1, "right in both": 1, "wrong in both": 1}
    assert (found.gone, found.new, found.relabelled, found.classified) == (1, 1, 0, True)
    assert found.chance() == 1.0  # two against one says nothing
    assert found.shown(10)["item_id"].tolist() == ["b", "c", "a"]
    assert found.shown(1)["item_id"].tolist() == ["b"]
    many = {f"{number:02d}": "dog" for number in range(10)}
    better = changes(outcomes(classified(**many)), outcomes(classified(**dict.fromkeys(many, "cat"))))
    assert better.chance() == pytest.approx(2 / 2**10)  # McNemar's exact test: ten of ten heads


def test_a_corrected_label_is_no_flip_in_silence() -> None:
    first = classified(a="cat", b="cat")
    labels = pa.array(["dog", "cat"])
    found = changes(outcomes(first), outcomes(first.set_column(2, first.schema.field(2), labels)))
    assert found.relabelled == 1
    assert found.counts()[TO_WRONG] == 1


def test_scores_that_moved_most_come_first() -> None:
    def judged(**losses: float) -> pa.Table:
        rows = [{"item_id": name, "part": "valid", "loss": loss} for name, loss in losses.items()]
        return outcomes(table(masks.PREDICTIONS, *rows))

    found = changes(judged(a=1.0, b=0.5, c=0.25), judged(a=0.75, b=2.0, c=0.25))
    assert found.counts() == {"better": 1, "worse": 1, "equal": 1}
    assert found.shown(10)[["item_id", "moved"]].values.tolist() == [["b", 1.5], ["a", -0.25]]


def test_what_cannot_be_compared_is_said() -> None:
    cats = outcomes(classified(a="cat"))
    with pytest.raises(ValueError, match="no validation or test item in common"):
        changes(cats, outcomes(classified(b="cat")))
    rated = {"item_id": "a", "part": "valid", "rating": 1.0, "predicted": 2.0}
    with pytest.raises(ValueError, match="by loss and by absolute error"):
        changes(cats, outcomes(table(ratings.PREDICTIONS, rated)))
