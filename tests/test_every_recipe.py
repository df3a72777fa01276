"""What the foundation promises holds for every recipe: data cleaned with reasons, training that can stop."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from data.shards import shard_paths
from recipes.recipe import find_recipe, recipe_names
from tasks.checkpoint import Checkpoint
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests.scratch import ROOT, make_project

NONE = "sources/none"
ENTRIES: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())["applications"]
FIRST = {entry["recipe"]: name for name, entry in reversed(ENTRIES.items()) if entry["judge"] == NONE}
"""By recipe, an application that needs no other network than its own."""


class KilledError(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def short(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry from random weights, one epoch per phase, its state stored after every step."""
    phases = [{**phase, "epochs": 1} for phase in entry["fine_tune"]["phases"]]
    settings = {**entry["fine_tune"], "phases": phases[:2], "save_every": 1e-6}
    return {**entry, "starts_from": NONE, "fine_tune": settings}


def prepared(folder: Path, application: str) -> Workspace:
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    parameters["applications"] = {application: short(ENTRIES[application])}
    workspace = checkout(make_project(folder / "project", parameters))
    for stage in ("download", "clean", "split"):
        run_stage(stage, application, workspace=workspace)
    return workspace


def outputs(workspace: Workspace, application: str) -> dict[str, bytes]:
    folder = workspace.folder(application, "fine_tune")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_recipe_has_an_application() -> None:
    with_judge = {entry["recipe"] for entry in ENTRIES.values() if entry["judge"] != NONE}
    assert {*FIRST, *with_judge} == set(recipe_names())


@pytest.mark.parametrize(("recipe", "application"), sorted(FIRST.items()))
def test_stopped_in_the_middle_it_ends_in_the_same_bytes(
    recipe: str, application: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepared(tmp_path, application)
    rejects = pq.read_table(workspace.folder(application, "clean") / "rejects.parquet").to_pylist()
    assert all(row["reason"] and len(row["reason"]) < 60 for row in rejects)
    schema = pq.read_schema(shard_paths(workspace.folder(application, "clean"))[0])
    assert schema.names == find_recipe(recipe).schema().names

    saves = 0
    save = Checkpoint.save

    def dies(self: Checkpoint, state: dict[str, Any]) -> None:
        nonlocal saves
        save(self, state)
        saves += 1
        if saves == 3:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", dies)
        with pytest.raises(KilledError):
            run_stage("fine_tune", application, workspace=workspace)
    assert not workspace.folder(application, "fine_tune").exists()
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", lambda self, state: None)
        run_stage("fine_tune", application, workspace=workspace)
        continued = outputs(workspace, application)
        run_stage("fine_tune", application, workspace=workspace)
    assert outputs(workspace, application).keys() == continued.keys()
    for name, content in outputs(workspace, application).items():
        assert content == continued[name], name
