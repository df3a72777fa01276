"""evaluate: one table of predictions, and everything else derived from it."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.scratch import make_project


@pytest.fixture(scope="module")
def folder(trained: Workspace) -> Path:
    return trained.folder("shapes", "evaluate")


def test_metrics_are_those_of_the_predictions(folder: Path) -> None:
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["data"] == "own"
    assert metrics["valid"]["examples"] == len(rows) == 9
    wrong = sum(row["label"] != row["predicted"] for row in rows)
    assert metrics["valid"]["error_rate"] == pytest.approx(wrong / 9)
    assert metrics["valid"]["accuracy"] == pytest.approx(1 - wrong / 9)
    losses = [-np.log(row["probabilities"][pictures.CLASSES.index(row["label"])]) for row in rows]
    assert metrics["valid"]["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_probabilities_are_whole_and_name_the_prediction(folder: Path) -> None:
    for row in pq.read_table(folder / "predictions.parquet").to_pylist():
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == pictures.CLASSES[int(np.argmax(row["probabilities"]))]
        assert row["probability"] == pytest.approx(max(row["probabilities"]))


def test_candidates_for_corrections_come_worst_first(folder: Path, trained: Workspace) -> None:
    with (folder / "corrections.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    known = set(
        pq.read_table(trained.folder("shapes", "clean") / "items-00000.parquet")["item_id"].to_pylist()
    )
    assert {row["item_id"] for row in rows} <= known
    assert {row["action"] for row in rows} == {""}, "a person decides"


def test_figures_are_pictures(folder: Path) -> None:
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names == {"confusion_matrix", "most_confused", "top_losses", "grad_cam", "training_batch"}
    for path in (folder / "figures").iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 100
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 2, f"{path.name} is blank"


def test_the_confusion_table_holds_every_prediction(folder: Path) -> None:
    (path,) = (folder / "plots").rglob("confusion.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    predictions = pq.read_table(folder / "predictions.parquet").to_pylist()
    assert [(row["actual"], row["predicted"]) for row in rows] == [
        (row["label"], row["predicted"]) for row in predictions
    ]


def test_the_same_weights_give_the_same_bytes(trained: Workspace, tmp_path: Path) -> None:
    side = trained.side(tmp_path.name, own=("evaluate",), stages=("clean", "split", "fine_tune"))
    run_stage("evaluate", "shapes", workspace=side)
    ours, theirs = side.folder("shapes", "evaluate"), trained.folder("shapes", "evaluate")
    files = sorted(path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(ours) for path in ours.rglob("*") if path.is_file())
    for file in files:
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), file


def test_test_time_augmentation_averages_other_views(trained: Workspace, tmp_path: Path) -> None:
    pictures.write_folder(tmp_path / "shapes")
    entry = pictures.entry(evaluate={"views": 4, "shown": 4})
    root = make_project(tmp_path / "project", pictures.parameters(shapes=entry))
    workspace = checkout(root)
    (workspace.artifacts).mkdir()
    (workspace.artifacts / "shapes").symlink_to(trained.artifacts / "shapes")
    side = workspace.side("views", own=("evaluate",), stages=("clean", "split", "fine_tune"))
    run_stage("evaluate", "shapes", workspace=side)
    plain = pq.read_table(trained.folder("shapes", "evaluate") / "predictions.parquet")
    averaged = pq.read_table(side.folder("shapes", "evaluate") / "predictions.parquet")
    assert plain["item_id"] == averaged["item_id"]
    assert plain["probability"] != averaged["probability"]
    assert np.allclose(plain["probability"], averaged["probability"], atol=0.6)
