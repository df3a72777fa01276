"""`dvc exp run -S`, as DVC's users try a setting: in the checkout, and with --temp in a copy of it."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.pipeline import run_stage
from tasks.tracking import open_store
from tasks.workspace import checkout
from tests import pictures
from tests.scratch import commit, git, make_project, plain


def dvc(root: Path, *arguments: str) -> str:
    """DVC's command in a project, in a plain environment; fails with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, env=plain(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def settings(root: Path) -> dict[str, Any]:
    """What the weights that lie in the checkout were trained with."""
    path = root / "artifacts" / "shapes" / "fine_tune" / "settings.json"
    return dict(json.loads(path.read_text()))


def recorded(root: Path) -> set[tuple[str, str, str]]:
    """Batch size, first rate and state of every run in the project's own store."""
    client = open_store(checkout(root)).client
    (experiment,) = [each for each in client.search_experiments() if each.name == "shapes"]
    runs = client.search_runs([experiment.experiment_id])
    return {
        (run.data.params["fine_tune.batch_size"], run.data.params["fine_tune.size"], run.info.status)
        for run in runs
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project whose data is prepared; its folder of pictures has an absolute path."""
    folder = tmp_path_factory.mktemp("experiments")
    pictures.write_folder(folder / "shapes")
    network = {"network": {"name": "mlp"}, "size": 16, "phases": [{"epochs": 1, "rates": [0.01]}]}
    entry = pictures.entry(str(folder / "shapes"), fine_tune=network)
    project = make_project(folder / "project", pictures.parameters(shapes=entry))
    git(project, "config", "user.name", "tester")
    git(project, "config", "user.email", "tester@example.org")
    for stage in ("download", "clean", "split"):
        run_stage(stage, "shapes", workspace=checkout(project))
    dvc(project, "commit", "--force", *(f"{stage}@shapes" for stage in ("download", "clean", "split")))
    commit(project, "data")
    return project


def test_a_copy_of_the_checkout_is_tried_and_can_be_applied(root: Path) -> None:
    dvc(
        root, "exp", "run", "--temp", "--name", "aside", "export@shapes",
        "-S", "applications.shapes.fine_tune.batch_size=4",
        "-S", "applications.shapes.fine_tune.phases.0.rates=[0.02]",
    )  # fmt: skip
    assert git(root, "status", "--porcelain") == "", "the checkout is as it was"
    assert not (root / "artifacts" / "shapes" / "fine_tune").exists()
    assert recorded(root) == {("4", "16", "FINISHED")}
    assert not list((root / ".dvc" / "tmp").rglob("mlflow.db")), "one store for all"
    dvc(root, "exp", "apply", "aside")
    assert settings(root)["batch_size"] == 4
    assert settings(root)["phases"][0]["rates"] == [0.02]
    assert (root / "artifacts" / "shapes" / "export" / "card.md").is_file()
    git(root, "checkout", "-q", "--", ".")


def test_a_setting_is_tried_in_the_checkout_and_shown_beside_the_others(root: Path) -> None:
    path = "applications.shapes.fine_tune.size"
    dvc(root, "exp", "run", "--name", "here", "-S", f"{path}=8", "evaluate@shapes")
    assert settings(root)["size"] == 8
    assert ("8", "8", "FINISHED") in recorded(root)
    shown = {row["Experiment"]: row for row in csv.DictReader(io.StringIO(dvc(root, "exp", "show", "--csv")))}
    assert shown["here"][path] == "8"
    assert shown["aside"][path] == "16"
    assert 0 <= float(shown["here"]["valid.error_rate"]) <= 1


def test_a_path_that_no_setting_has_is_refused(root: Path) -> None:
    with pytest.raises(AssertionError, match="batch_sise"):
        dvc(root, "exp", "run", "--temp", "-S", "applications.shapes.fine_tune.batch_sise=4", "export@shapes")
