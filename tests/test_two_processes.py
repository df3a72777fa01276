"""The real stage of other recipes in two processes: ratings, a carried state, two networks in turns."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.recipes import test_generative_adversarial as photographs
from tests.scratch import ROOT, make_project
from tests.test_every_recipe import ENTRIES, short

EXACT = {"precision": "float32", "threads": 1, "save_every": 3600.0}


def sample(folder: Path, application: str) -> Workspace:
    """An application of the sample edition, an epoch a phase, ready to train."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    entry = short(ENTRIES[application])
    entry["fine_tune"] |= EXACT
    parameters["applications"] = {application: entry}
    workspace = checkout(make_project(folder / "project", parameters))
    for stage in ("download", "clean", "split"):
        run_stage(stage, application, workspace=workspace)
    return workspace


def adversaries(folder: Path, application: str) -> Workspace:
    """A folder of pictures, and the classifier that judges what is made of them."""
    pictures.write_folder(folder / "shapes")
    photographs.write_photographs(folder / "holiday")
    entries = {"shapes": pictures.entry(), application: photographs.entry(fine_tune=EXACT)}
    workspace = checkout(make_project(folder / "project", pictures.parameters(**entries)))
    for name, stages in (("shapes", 4), (application, 3)):
        for stage in ("download", "clean", "split", "fine_tune")[:stages]:
            run_stage(stage, name, workspace=workspace)
    return workspace


@pytest.mark.parametrize(
    ("prepare", "application"),
    [(sample, "movielens_sample"), (sample, "human_numbers"), (adversaries, "photographs")],
    ids=["ratings", "language", "adversaries"],
)
def test_two_processes_have_the_metrics_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Any, application: str
) -> None:
    workspace = prepare(tmp_path, application)
    histories = []
    for count in ("1", "2"):
        monkeypatch.setenv("PRACTICUM_PROCESSES", count)
        run_stage("fine_tune", application, workspace=workspace)
        path = workspace.folder(application, "fine_tune") / "history.parquet"
        histories.append(pq.read_table(path).drop_columns("phase").to_pylist())
    one, two = histories
    assert two == [pytest.approx(row, rel=1e-3, abs=1e-3) for row in one]
