"""The generated shops: features by joins, learning beats a linear model, real side tables make a stand-in."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from data.tables.coding import CELLS, column_of, describe_columns
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests.sample_tables import items_of, learn, prepare
from tests.scratch import ROOT, make_project

SHOPS = "rossmann"
LINEAR = {"network": {"layers": []}, "headroom": None, "phases": [{"epochs": 4, "rates": [0.01]}]}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return prepare(tmp_path_factory.mktemp("shops"), SHOPS)


def columns(workspace: Workspace, *names: str) -> pd.DataFrame:
    items = items_of(workspace, SHOPS)
    table, described = items.table(["train", "valid"], [*CELLS, "time", "target"]), describe_columns(items)
    found = {name: column_of(table, described, name).to_pylist() for name in names}
    return pd.DataFrame({**found, "time": table["time"].to_pylist(), "target": table["target"].to_pylist()})


def test_every_planted_fault_is_found_and_closed_shops_are_left_out(sample: Workspace) -> None:
    rejects = Counter(pq.read_table(sample.folder(SHOPS, "clean") / "rejects.parquet")["reason"].to_pylist())
    assert rejects.pop("not above the bound") > 1000
    assert rejects == {"ragged row": 1, "not a number": 1, "no target": 1, "not a date": 1, "no partner": 1}


def test_features_say_what_their_names_do(sample: Workspace) -> None:
    rows = columns(
        sample, "Store", "Month", "Day", "DayOfWeek", "Promo", "Promo_bw", "AfterStateHoliday", "Week"
    )
    assert (rows["Month"].astype(int) == rows["time"].dt.month).all()
    assert (rows["Week"].astype(int) == rows["time"].dt.isocalendar().week).all()
    assert (rows["DayOfWeek"].astype(int) == rows["time"].dt.day_of_week + 1).all()
    assert (rows["target"] > 0).all()
    may = rows[rows["time"] == "2015-05-04"]
    assert (may["AfterStateHoliday"] == 3).all()  # since the first of May
    assert set(rows["Promo_bw"].astype(int)) <= set(range(8))


def test_the_last_days_are_held_out(sample: Workspace) -> None:
    items = items_of(sample, SHOPS)
    train, valid = (items.table([part], ["time"])["time"].to_pylist() for part in ("train", "valid"))
    assert max(train) < min(valid)


def test_learning_beats_a_linear_model_and_the_mean(sample: Workspace) -> None:
    learned, linear = learn(sample, SHOPS), learn(sample, SHOPS, **LINEAR)
    assert learned["valid_loss"] < 0.3  # 1 is the mean's
    assert learned["rmspe"] < 0.9 * linear["rmspe"]
    assert learned["rmspe"] > 0.08  # the noise that was drawn


def test_with_shuffled_targets_it_falls_to_the_mean(sample: Workspace) -> None:
    assert learn(sample, SHOPS, shuffled=True, phases=[{"epochs": 2, "rates": [0.01]}])["valid_loss"] > 0.7


def test_around_real_side_tables_it_is_called_a_stand_in(datasets: Path, tmp_path: Path) -> None:
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    entries = {SHOPS: parameters["applications"][SHOPS]}
    raw = {**parameters, "edition": "full", "mirror": str(datasets), "applications": entries}
    project = make_project(tmp_path / "project", raw)
    source = project / "sources" / f"{SHOPS}.yaml"
    source.write_text(source.read_text().replace("stores: 100", "stores: 8").replace("days: 942", "days: 70"))
    workspace = checkout(project)
    for stage in ("download", "clean"):
        run_stage(stage, SHOPS, workspace=workspace)
    manifest = json.loads((workspace.folder(SHOPS, "download") / "manifest.json").read_text())
    assert manifest["extent"] == "stand-in"
    assert "around what is real: partial: side tables only" in manifest["extent_note"]
    assert pq.read_metadata(workspace.folder(SHOPS, "clean") / "items-00000.parquet").num_rows > 400
