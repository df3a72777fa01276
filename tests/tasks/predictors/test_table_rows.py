"""The exported model asked as users ask: rows of any type, gaps, unseen names, and wrong cells."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from tasks.export import load_model
from tasks.pipeline import STAGE_NAMES, run_stage
from tasks.predict import predict
from tasks.workspace import Workspace, checkout
from tests import pictures, tables
from tests.scratch import make_project

CLEAN: dict[str, Any] = {"id": "flat", "dates": ["listed on"], "date_format": "%d.%m.%Y"}


def entry(recipe: str, **blocks: Any) -> dict[str, Any]:
    return {
        "recipe": recipe, "family": "tabular", "source": "../flats", "corrections": "sources/none",
        "starts_from": "sources/none", "judge": "sources/none", "download": {}, "split": {"method": "random"},
        "export": {"onnx": False}, **blocks,
    }  # fmt: skip


@pytest.fixture(scope="module")
def flats(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One table of one's own, as a question for a class and for a quantity, by entries alone."""
    folder = tmp_path_factory.mktemp("flats")
    (folder / "flats").mkdir()
    (folder / "flats" / "flats.csv").write_text(tables.flats(400))
    learning = {"threads": 1, "precision": "float32", "batch_size": 32, "network": {"layers": [32]}}
    quick = {"compared": 0, "shuffles": 1}
    let = entry(
        "tabular_classification", clean={**CLEAN, "target": "let"},
        fine_tune={**learning, "leave_out": ["rent"], "phases": [{"epochs": 8, "rates": [0.02]}]},
        evaluate={**quick, "audit": ["district", "rent"], "positive": "yes", "resamples": 20},
    )  # fmt: skip
    rent = entry(
        "tabular_regression", clean={**CLEAN, "target": "rent", "drop": ["let"]},
        fine_tune={**learning, "phases": [{"epochs": 15, "rates": [0.02]}]},
        evaluate={**quick, "compared": 200},
    )  # fmt: skip
    parameters = pictures.parameters(let=let, rent=rent)
    workspace = checkout(make_project(folder / "project", parameters))
    for application in ("let", "rent"):
        for stage in STAGE_NAMES:
            run_stage(stage, application, workspace=workspace)
    return workspace


def metrics(workspace: Workspace, application: str) -> dict[str, float]:
    found = json.loads((workspace.folder(application, "evaluate") / "metrics.json").read_text())
    return dict(found["valid"])


def test_a_table_of_one_s_own_is_learned_by_an_entry_alone(flats: Workspace) -> None:
    assert metrics(flats, "let")["accuracy"] > 0.75
    assert metrics(flats, "rent")["r2"] > 0.8


def test_the_audit_of_a_column_that_is_no_input_stands_in_the_card(flats: Workspace) -> None:
    card = (flats.folder("let", "export") / "card.md").read_text()
    assert "## Audit by groups" in card
    with (flats.folder("let", "evaluate") / "tables" / "audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["group"] for row in rows if row["column"] == "district"} == set(tables.DISTRICTS)
    assert len([row for row in rows if row["column"] == "rent"]) == 4  # a quantity by its quarters
    assert (flats.folder("let", "evaluate") / "figures" / "audit_district.png").exists()


def test_other_models_are_compared_with_and_without_embeddings(flats: Workspace) -> None:
    with (flats.folder("rent", "evaluate") / "tables" / "entity_embeddings.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"10 nearest neighbours", "random forest", "gradient boosting", "this network"}
    assert all(0 < float(row["with"]) < 1 for row in rows.values())


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "district": ["Hafen", "Neustadt", None], "square metres": [55, np.nan, "80.5"],
            "listed on": ["01.02.2024", "01.02.2024", None], "whatever": [1, 2, 3],
        }
    )  # fmt: skip


def test_gaps_unseen_names_and_other_columns_are_answered(flats: Workspace) -> None:
    answer = load_model(flats.folder("let", "export")).predict(rows())
    assert list(answer.columns) == ["label", "probability", "probabilities"]
    assert set(answer["label"]) <= {"yes", "no"}
    answer = load_model(flats.folder("rent", "export")).predict(rows())
    assert np.isfinite(answer["prediction"]).all()


def test_it_answers_what_evaluate_predicted(flats: Workspace) -> None:
    import pyarrow.parquet as pq

    known = pd.read_csv(flats.root.parent / "flats" / "flats.csv", sep=";", dtype=str, keep_default_na=False)
    for application, column in (("let", "probability"), ("rent", "prediction")):
        folder = flats.folder(application, "evaluate")
        said = pq.read_table(folder / "predictions.parquet").to_pandas().set_index("item_id")
        asked = known.set_index("flat").loc[said.index]
        answer = load_model(flats.folder(application, "export")).predict(asked.reset_index(drop=True))
        expected = said["probability" if column == "probability" else "predicted"].to_numpy()
        assert np.allclose(answer[column], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns="district"), "no column 'district'"),
        (lambda table: table.assign(**{"square metres": "large"}), "row 0, column 'square metres': 'large'"),
        (lambda table: table.assign(**{"listed on": "soon"}), "row 2, column 'listed on': 'soon' is no date"),
    ],
)
def test_what_is_wrong_is_named(flats: Workspace, change: Any, said: str) -> None:
    with pytest.raises(MlflowException, match=said):
        load_model(flats.folder("let", "export")).predict(change(rows()))


def test_files_are_answered_row_by_row(flats: Workspace, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("district,square metres,listed on\nHafen,50,01.02.2024\nHafen,?,\n")
    answer = predict("let", [tmp_path], workspace=flats)
    assert [Path(file).name for file in answer["file"]] == ["new.csv", "new.csv"]


def test_files_that_are_no_answerable_table_are_left_out(
    flats: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1.csv").write_text("district,square metres,listed on\nHafen,50\n")
    (tmp_path / "2.csv").write_text("district,listed on\nHafen,01.02.2024\n")
    (tmp_path / "3.csv").write_text("")
    with pytest.raises(ValueError, match="none of 3 files"):
        predict("let", [tmp_path], workspace=flats)
    said = capsys.readouterr().err
    for reason in ("row 0 has 2 cells", "no column 'square metres'", "the file is empty"):
        assert reason in said


def test_the_stored_request_is_one_a_server_takes(flats: Workspace) -> None:
    folder = flats.folder("let", "export") / "example"
    request = json.loads((folder / "request.json").read_text())
    assert request["dataframe_split"]["columns"] == ["district", "listed on", "square metres"]
    table = pd.read_csv(folder / "rows.csv")
    again = load_model(folder.parent).predict(table)
    stored = json.loads((folder / "response.json").read_text())["predictions"]
    assert again["label"].tolist() == [each["label"] for each in stored]
