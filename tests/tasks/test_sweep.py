"""Searches with a real Optuna store and real trainings: what is kept, what is pruned, what is recorded."""

import csv
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from models.checkpoint import Position
from tasks.changes import with_changes
from tasks.parameters import load_parameters
from tasks.space import read_space
from tasks.sweep import Pruning, name_of, sweep
from tasks.tracking import open_store
from tasks.trials import Found
from tasks.workspace import checkout
from tests.searches import DIVERGES, RATE, project_of, runs_of

THREE = ("fine_tune.phases.0.rates=[1.0e+30],[0.01],[0.02]",)


def held(root: Path) -> dict[str, bytes]:
    """Everything that a search must leave alone."""
    files = [*(root / "artifacts").rglob("*"), root / "params.yaml", root / "dvc.lock"]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    """Four trials of three settings, from settings in effect that diverge."""
    root = project_of(tmp_path_factory.mktemp("searched"), rate=DIVERGES)
    before = held(root)
    found = sweep("shapes", trials=4, over=THREE, workspace=checkout(root))
    assert held(root) == before, "side workspaces only"
    return root, found


def test_the_settings_in_effect_are_first_and_what_diverges_is_pruned(searched: tuple[Path, Found]) -> None:
    _, found = searched
    first = found.rows[0]
    assert (first["trial"], first["state"], found.current) == (0, "pruned", 0)
    assert "loss of 'network' is nan" in first["reason"]
    assert found.best is not None
    assert found.rows[found.best]["error_rate"] == min(
        row["error_rate"] for row in found.rows if row["state"] == "complete"
    )


def test_the_same_settings_are_not_trained_twice(searched: tuple[Path, Found]) -> None:
    _, found = searched  # of four trials of three settings at least two are the same
    (path,) = (each.path for each in found.search.space)
    twins = [row for row in found.rows if row["reason"].startswith("as trial ")]
    assert twins
    for row in twins:
        other = found.rows[int(row["reason"].removeprefix("as trial "))]
        assert (row[path], row["state"], row["error_rate"]) == (
            other[path], other["state"], other["error_rate"],
        )  # fmt: skip


def test_the_table_the_figures_and_the_way_to_apply_it(searched: tuple[Path, Found]) -> None:
    root, found = searched
    assert {file.name for file in found.files} == {"trials.csv", "history.png", "settings.png", "epochs.png"}
    assert all(file.is_file() and file.is_relative_to(root / ".practicum" / "sweeps") for file in found.files)
    with found.files[0].open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == [row["state"] for row in found.rows]
    text = found.text()
    assert f"best: trial {found.best} with error_rate" in text
    assert "the settings in effect (trial 0): not completed" in text
    assert "optimistic" in text
    assert "python -m flows repeat shapes --seeds 5" in text
    (setting,) = found.settings
    assert re.fullmatch(r"applications\.shapes\.fine_tune\.phases\.0\.rates=\[0\.0[12]\]", setting)
    assert f"python -m flows edition --set '{setting}'" in text


def test_only_the_best_keeps_its_weights(searched: tuple[Path, Found]) -> None:
    root, found = searched
    kept = (root / ".practicum" / "side" / "sweep" / found.search.name).rglob("weights.safetensors")
    assert [path.relative_to(root).parts[4] for path in kept] == [str(found.best)]


def test_trials_are_children_of_one_run(searched: tuple[Path, Found]) -> None:
    root, found = searched
    parent, children = runs_of(root)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["search.space"] == THREE[0]
    assert found.best is not None
    assert parent.data.metrics["best.error_rate"] == found.rows[found.best]["error_rate"]
    assert [run.info.run_name for run in children] == [f"trial {number}" for number in range(4)]
    assert [run.data.tags["practicum.trial"] for run in children] == [row["state"] for row in found.rows]
    status = {"complete": "FINISHED", "pruned": "KILLED"}
    assert [run.info.status for run in children] == [status[row["state"]] for row in found.rows]
    best = children[found.best]
    assert best.data.params["search.fine_tune.phases.0.rates"] in ("[0.01]", "[0.02]")
    assert best.data.metrics["valid.error_rate"] == found.rows[found.best]["error_rate"]
    store = open_store(checkout(root))
    assert [
        point.step for point in store.client.get_metric_history(best.info.run_id, "train_loss")
    ] == [1, 2]  # fmt: skip
    figures = store.client.list_artifacts(parent.info.run_id, "search")
    assert {Path(each.path).name for each in figures} == {file.name for file in found.files}


def test_the_same_search_goes_on_and_never_beyond_its_number(searched: tuple[Path, Found]) -> None:
    root, found = searched
    again = sweep("shapes", trials=4, over=THREE, workspace=checkout(root))
    assert again.rows == found.rows, "the seconds too: nothing was run"
    more = sweep("shapes", trials=5, over=THREE, workspace=checkout(root))
    assert more.rows[:4] == found.rows
    assert len(more.rows) == 5
    assert len(runs_of(root)[1]) == 5


def test_what_makes_another_search(searched: tuple[Path, Found]) -> None:
    root, found = searched
    workspace, parameters = checkout(root), load_parameters(root / "params.yaml")

    def name(*changes: str, over: Sequence[str] = THREE, seed: int = 42) -> str:
        changed = with_changes(parameters, "shapes", dict.fromkeys(changes, 3))
        return name_of(workspace, changed, "shapes", read_space(changed, "shapes", over), seed)

    assert name() == found.search.name
    assert name("fine_tune.phases.0.rates.0") == name(), "what is searched may be anything"
    others = {name(seed=43), name(over=RATE), name("fine_tune.phases.0.epochs"), name("evaluate.shown")}
    assert len({name(), *others}) == 5


def test_what_is_refused_before_anything_runs(tmp_path: Path) -> None:
    workspace = checkout(project_of(tmp_path, valid=0.0))
    with pytest.raises(ValueError, match="no validation part"):
        sweep("shapes", workspace=workspace)
    with pytest.raises(ValueError, match="--trials and --workers must be at least 1"):
        sweep("shapes", trials=0, workspace=workspace)
    shutil.rmtree(workspace.folder("shapes", "split"))
    with pytest.raises(ValueError, match=r"no output of split yet; run `dvc repro split@shapes`"):
        sweep("shapes", workspace=workspace)


def test_settings_that_do_not_work_fail_with_their_reason(tmp_path: Path) -> None:
    root = project_of(tmp_path)
    over = ["fine_tune.phases.0.freeze=5,7"]
    with pytest.raises(ValueError, match=r"no trial was completed; the last: freeze is .*2 layer groups"):
        sweep("shapes", trials=1, over=over, workspace=checkout(root))
    parent, (trial,) = runs_of(root)
    assert (parent.info.status, trial.info.status) == ("FAILED", "FAILED")
    assert "2 layer groups" in trial.data.tags["practicum.error"]
    with pytest.raises(ValueError, match="no trial was completed; the last: there was no time"):
        sweep("shapes", hours=1e-9, workspace=checkout(root))


def pruning(study: optuna.Study, *, epochs: int = 4) -> Pruning:
    watcher = Pruning(study.ask(), "error_rate")
    watcher.began([SimpleNamespace(epochs=epochs)], Position())
    return watcher


def test_a_trial_that_is_worse_than_the_others_is_ended_early() -> None:
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner())
    for _ in range(5):
        good = pruning(study)
        for epoch in range(1, 5):
            good.epoch_ended({"epoch": epoch, "error_rate": 0.5 / epoch})
        study.tell(good.trial, 0.125)
    bad = pruning(study, epochs=8)
    bad.epoch_ended({"epoch": 1, "error_rate": 0.9})  # too early to tell
    bad.epoch_ended({"epoch": 1, "train_loss": 3.0})  # nothing was validated
    with pytest.raises(
        optuna.TrialPruned, match=r"error_rate 0\.9000 in epoch 2 of 8, worse than the median"
    ):
        bad.epoch_ended({"epoch": 2, "error_rate": 0.9})
    late = pruning(study, epochs=2)
    late.epoch_ended({"epoch": 2, "error_rate": 0.9})  # it is trained: its evaluation says more
    going_on = Pruning(study.ask(), "error_rate")
    going_on.began([SimpleNamespace(epochs=4)], Position(rows=[{"epoch": 1, "error_rate": 0.7}]))
    assert study.trials[-1].intermediate_values == {1: 0.7}
