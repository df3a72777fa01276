"""Own pictures with boxes by an entry alone, from both layouts to a model that answers in pixels."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException

from tasks.export import load_model
from tasks.pipeline import STAGE_NAMES, run_stage
from tasks.workspace import Workspace, checkout
from tests import boxed, pictures
from tests.scratch import make_project

COUNT = 24
LOW = {"onnx": False, "choice": {"floor": 0.005}}
"""After two epochs scores are low."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Both recipes, one on VOC's layout and one on COCO's, all stages run once."""
    folder = tmp_path_factory.mktemp("boxed")
    boxed.write_voc(folder / "voc", count=COUNT)
    boxed.write_coco(folder / "coco", count=COUNT)
    entries = {
        "tools": boxed.entry("object_detection", "../voc", export=LOW),
        "biggest": boxed.entry(
            "largest_object",
            "../coco",
            clean={"annotations": {"from": "coco", "file": "boxes.json"}},
            split={},
        ),
    }
    workspace = checkout(make_project(folder / "project", pictures.parameters(**entries)))
    for application in entries:
        for stage in STAGE_NAMES:
            run_stage(stage, application, workspace=workspace)
    return workspace


def sent(workspace: Workspace, *numbers: int) -> pd.DataFrame:
    photos = workspace.root.parent / "voc" / "photos"
    return pd.DataFrame({"image": [(photos / f"{number:03d}.png").read_bytes() for number in numbers]})


def predictions(workspace: Workspace, application: str) -> dict[str, dict[str, Any]]:
    table = pq.read_table(workspace.folder(application, "evaluate") / "predictions.parquet")
    return {Path(row["item_id"]).stem: row for row in table.to_pylist()}


def test_the_model_answers_as_evaluate_did(finished: Workspace) -> None:
    known = predictions(finished, "tools")
    numbers = [int(stem) for stem in known][:3]
    answer = load_model(finished.folder("tools", "export")).predict(sent(finished, *numbers))
    assert list(answer.columns) == ["boxes", "labels", "scores"]
    for number, row in zip(numbers, answer.to_dict("records"), strict=True):
        expected = known[f"{number:03d}"]
        kept = [place for place, score in enumerate(expected["scores"]) if score >= 0.02]
        count = len(kept)
        np.testing.assert_allclose(row["scores"][:count], [expected["scores"][at] for at in kept], atol=1e-4)
        np.testing.assert_allclose(row["boxes"][:count], [expected["boxes"][at] for at in kept], atol=0.05)
        assert row["labels"][:count] == [expected["names"][at] for at in kept]
        boxes = np.array(row["boxes"])
        assert boxes.shape[1] == 4
        assert (boxes[:, [0, 2]] <= 60).all()
        assert (boxes[:, [1, 3]] <= 48).all()
        assert sorted(row["scores"], reverse=True) == row["scores"]


def test_the_largest_object_is_answered_in_pixels(finished: Workspace) -> None:
    known = predictions(finished, "biggest")
    numbers = [int(stem) for stem in known]
    answer = load_model(finished.folder("biggest", "export")).predict(sent(finished, *numbers))
    for number, row in zip(numbers, answer.to_dict("records"), strict=True):
        expected = known[f"{number:03d}"]
        assert row["label"] == expected["predicted"]
        assert row["probability"] == pytest.approx(expected["probability"], abs=1e-4)
        np.testing.assert_allclose(row["box"], expected["box"], atol=0.05)


@pytest.mark.parametrize("application", ["tools", "biggest"])
def test_every_row_that_is_no_image_is_named(finished: Workspace, application: str) -> None:
    model = load_model(finished.folder(application, "export"))
    rows = pd.concat([sent(finished, 0), pd.DataFrame({"image": [b"no image", b""]})], ignore_index=True)
    with pytest.raises(MlflowException, match=r"row 1 of column `image`.*row 2 of column `image`"):
        model.predict(rows)


@pytest.mark.parametrize("application", ["tools", "biggest"])
def test_the_request_that_is_stored_gives_the_stored_answer(finished: Workspace, application: str) -> None:
    folder = finished.folder(application, "export")
    asked = json.loads((folder / "example" / "request.json").read_text())["dataframe_split"]
    rows = pd.DataFrame(asked["data"], columns=asked["columns"])
    rows["image"] = [base64.b64decode(value) for value in rows["image"]]
    answer = load_model(folder).predict(rows)
    stored = json.loads((folder / "example" / "response.json").read_text())["predictions"]
    assert json.loads(json.dumps(answer.to_dict("records"))) == stored


@pytest.mark.parametrize("application", ["tools", "biggest"])
def test_metrics_figures_and_tables_are_there(finished: Workspace, application: str) -> None:
    folder = finished.folder(application, "evaluate")
    metrics = json.loads((folder / "metrics.json").read_text())["valid"]
    names = {"tools": {"map_50", "map", "recall"}, "biggest": {"accuracy", "l1_pixels", "iou", "located"}}
    assert metrics.keys() == {"examples", *names[application]}
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    wanted = {
        "tools": {"training_batch", "anchors", "predictions", "worst", "precision_recall"},
        "biggest": {"training_batch", "predictions", "top_losses", "worst_boxes", "confusion_matrix"},
    }
    assert figures == wanted[application]
    card = (finished.folder(application, "export") / "card.md").read_text()
    assert {"tools": "Average precision by class", "biggest": "Class by class"}[application] in card
    candidates = (folder / "corrections.csv").read_text().splitlines()[0].replace('"', "")
    assert candidates.startswith("item_id,action,label")
