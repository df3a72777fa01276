"""The generated census is no walk-over, its faults are all found, and the audit is right."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recipes.evaluation.audit import People, measure
from tasks.workspace import Workspace
from tests.sample_tables import items_of, learn, prepare

CENSUS = "adult_all"
LINEAR = {"network": {"layers": []}, "phases": [{"epochs": 6, "rates": [0.01]}]}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return prepare(tmp_path_factory.mktemp("census"), CENSUS, "adult")


def majority(workspace: Workspace) -> tuple[float, int]:
    labels = Counter(items_of(workspace, CENSUS).table(["valid"], ["label"])["label"].to_pylist())
    return max(labels.values()) / labels.total(), labels.total()


def test_learning_beats_the_majority_and_a_linear_model(sample: Workspace) -> None:
    frequent, count = majority(sample)
    error = (0.25 / count) ** 0.5
    linear = learn(sample, CENSUS, **LINEAR)["accuracy"]
    learned = learn(sample, CENSUS)["accuracy"]
    assert learned > frequent + 5 * error
    assert learned > linear + error
    assert learned < 0.95


def test_with_shuffled_labels_it_falls_to_the_majority(sample: Workspace) -> None:
    frequent, count = majority(sample)
    assert learn(sample, CENSUS, shuffled=True)["accuracy"] < frequent + 3 * (0.25 / count) ** 0.5


def test_every_planted_fault_is_found(sample: Workspace) -> None:
    rejects = pq.read_table(sample.folder("adult", "clean") / "rejects.parquet")
    assert Counter(rejects["reason"].to_pylist()) == {
        "ragged row": 2, "not a number": 2, "no target": 1, "unknown target": 1,
    }  # fmt: skip


def test_the_course_s_rows_are_held_out_and_hold_a_name_that_training_never_saw(sample: Workspace) -> None:
    held_out = items_of(sample, "adult").table(["valid"], ["item_id", "categories"])
    assert held_out["item_id"][0].as_py() == "adult.csv:00000800"
    assert held_out.num_rows == 200
    trained = items_of(sample, "adult").table(["train"], ["categories"])
    countries = [{row[-1] for row in each["categories"].to_pylist()} for each in (held_out, trained)]
    assert countries[0] - countries[1] == {"Holand-Netherlands"}


def test_the_same_settings_draw_the_same_bytes(tmp_path: Path) -> None:
    from data.editions import generate

    settings = {"file": "a.tgz", "path": "a.csv", "rows": 1100, "targets": ["no", "yes"]}
    first, second = (generate("people", settings, tmp_path / name)[0].read_bytes() for name in ("one", "two"))
    assert first == second


def test_rates_by_group_agree_with_figures_by_hand() -> None:
    actual = (1, 1, 0, 0, 0, 1, 0, 0) * 25
    chosen = (1, 0, 1, 0, 0, 1, 0, 0) * 25
    groups = ("a", "a", "a", "a", "b", "b", "b", "b") * 25
    probability = (0.5,) * 200
    found = measure(People(actual, chosen, probability, groups), resamples=50, seed=1)
    assert found["count"].tolist() == [100, 100]
    assert found["selection_rate"].tolist() == [0.5, 0.25]
    assert found["true_positive_rate"].tolist() == [0.5, 1.0]
    assert found["false_positive_rate"].tolist() == [0.5, 0.0]
    assert found["calibration"].tolist() == [0.0, 0.25]
    assert found["selection_ratio"].tolist() == [1.0, 0.5]
    assert (found["selection_rate_low"] <= found["selection_rate"]).all()
    assert (found["selection_rate_high"] >= found["selection_rate"]).all()
    assert 0.3 < found["selection_ratio_low"]["b"] < 0.5 < found["selection_ratio_high"]["b"] < 0.8


def test_a_group_too_small_is_no_yardstick() -> None:
    groups = ("tiny",) + ("large",) * 199
    people = People((1, 0) * 100, (1,) + (0, 1) * 99 + (0,), (0.5,) * 200, groups)
    found = measure(people, resamples=50, seed=1)
    assert found["selection_ratio"]["large"] == 1.0
    assert np.isfinite(found["selection_ratio"]["tiny"])
