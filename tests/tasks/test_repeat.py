"""Repetitions: a split and weights of their own per seed, written down whole, the checkout untouched."""

import json
from pathlib import Path

import pytest
import yaml

from tasks.aside import identity
from tasks.changes import with_changes
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.repeat import repeat, spread
from tasks.results import measured, read_results, results_page, table
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.scratch import make_project


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, object]]:
    folder = tmp_path_factory.mktemp("repeated")
    pictures.write_folder(folder / "shapes")
    quick = {"phases": [{"epochs": 1, "rates": [0.01]}]}
    entry = pictures.entry(
        fine_tune=quick,
        export={"course": {"metric": "accuracy", "value": 0.9, "source": "lesson 1"}},
    )
    workspace = checkout(make_project(folder / "project", pictures.parameters(shapes=entry)))
    for stage in ("download", "clean"):
        run_stage(stage, "shapes", workspace=workspace)
    before = sorted(path.relative_to(workspace.artifacts) for path in workspace.artifacts.rglob("*"))
    path = repeat("shapes", seeds=2, workspace=workspace)
    after = sorted(path.relative_to(workspace.artifacts) for path in workspace.artifacts.rglob("*"))
    assert before == after, "side workspaces only"
    return workspace, json.loads(path.read_text())


def test_every_run_is_written_down(repeated: tuple[Workspace, dict[str, object]]) -> None:
    workspace, result = repeated
    runs = result["runs"]
    assert isinstance(runs, list)
    assert [run["split"]["seed"] for run in runs] == [1, 2]
    assert [run["fine_tune"]["seed"] for run in runs] == [1, 2]
    assert result["data"]["extent"] == "own"  # type: ignore[index]
    assert result["data"]["rows"] == 36  # type: ignore[index]
    summary = result["summary"]["error_rate"]  # type: ignore[index]
    errors = [run["metrics"]["error_rate"] for run in runs]
    assert summary == spread(errors)
    assert result["hardware"]["cores"] >= 1  # type: ignore[index]
    assert result["versions"]["torch"].startswith("2.")  # type: ignore[index]
    assert result["command"] == "python -m flows repeat shapes --seeds 2"
    sides = [workspace.state / "side" / "repeat" / "shapes" / str(number) for number in range(2)]
    splits = [(side / "artifacts/shapes/split/split.parquet").read_bytes() for side in sides]
    assert splits[0] != splits[1], "each seed draws a split of its own"


def test_a_finished_run_is_not_made_again(repeated: tuple[Workspace, dict[str, object]]) -> None:
    workspace, result = repeated
    assert json.loads(repeat("shapes", seeds=2, workspace=workspace).read_text())["runs"] == result["runs"]


def test_other_settings_make_the_runs_anew(repeated: tuple[Workspace, dict[str, object]]) -> None:
    workspace, _ = repeated
    parameters = load_parameters(workspace.root / "params.yaml")
    before = identity(workspace, "shapes", parameters)
    assert identity(workspace, "shapes", parameters) == before
    other = with_changes(parameters, "shapes", {"fine_tune.seed": 9})
    assert identity(workspace, "shapes", other) != before


def test_the_page_and_the_table_are_made_from_it(repeated: tuple[Workspace, dict[str, object]]) -> None:
    workspace, result = repeated
    text = table(workspace.root)
    assert "| accuracy |" in text, "the course's metric, where it has one"
    assert measured(read_results(workspace.root)["shapes"], "accuracy") in text
    assert "0.9 (lesson 1)" in text
    assert "**own**: 36 examples" in text
    page = results_page(workspace.root)
    assert str(result["command"]) in page
    assert "| 1 (seed 1) |" in page


def test_folds_hold_every_example_out_once(repeated: tuple[Workspace, dict[str, object]]) -> None:
    import pyarrow.parquet as pq

    workspace, _ = repeated
    path = repeat("shapes", folds=3, workspace=workspace)
    result = json.loads(path.read_text())
    assert [run["split"]["fold"] for run in result["runs"]] == [0, 1, 2]
    held_out: list[str] = []
    for number in range(3):
        folder = workspace.state / "side" / "repeat" / "shapes" / str(number) / "artifacts/shapes/evaluate"
        held_out += pq.read_table(folder / "predictions.parquet")["item_id"].to_pylist()
    assert len(held_out) == len(set(held_out)) == 36


def test_it_asks_for_what_it_needs(project: Path) -> None:
    workspace = checkout(project)
    for numbers in ({}, {"seeds": 1}, {"seeds": 2, "folds": 2}):
        with pytest.raises(ValueError, match="either --seeds N or --folds K"):
            repeat("shapes", **numbers, workspace=workspace)
    with pytest.raises(ValueError, match="no output of clean yet; run `dvc repro clean@shapes`"):
        repeat("shapes", seeds=2, workspace=workspace)


def test_the_committed_documents_are_those_of_the_results() -> None:
    from tasks.results import TABLE, TREE, between, tree
    from tests.scratch import ROOT

    assert (ROOT / "docs" / "results.md").read_text() == results_page(ROOT), "run `make docs`"
    readme = (ROOT / "README.md").read_text()
    assert between(readme, TABLE, table(ROOT)) == readme, "run `make docs`"
    assert between(readme, TREE, f"```\n{tree(ROOT)}\n```") == readme, "run `make docs`"
    assert yaml.safe_load((ROOT / "params.yaml").read_text())["edition"] == "sample"
