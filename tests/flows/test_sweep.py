"""`python -m flows sweep`: killed in a trial and gone on with; shared by workers, its best applied."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.trial import TrialState

from tasks.pipeline import run_stage
from tasks.study import in_place, open_study
from tasks.sweep import sweep
from tasks.tracking import open_store
from tasks.workspace import checkout
from tests.flows.conftest import command
from tests.scratch import plain
from tests.searches import DIVERGES, RATE, project_of, runs_of, told


def test_workers_share_the_trials_and_the_best_is_applied(tmp_path: Path) -> None:
    root = project_of(tmp_path, rate=DIVERGES)  # outside of the space: the first trial is drawn too
    done = command(
        root, "flows", "sweep", "shapes", "--trials", "3", "--workers", "2", "--over", RATE[0], "--apply"
    )
    lines = [line.split()[:2] for line in done.stdout.splitlines() if re.match(r"\d ", line)]
    assert [number for number, _ in lines] == ["0", "1", "2"]
    assert {state for _, state in lines} <= {"complete", "pruned"}
    assert len(runs_of(root)[1]) == 3
    assert "written into params.yaml:" in done.stdout
    run_stage("fine_tune", "shapes", workspace=checkout(root))
    (trial,) = (root / ".practicum" / "side" / "sweep").rglob("weights.safetensors")
    assert (root / "artifacts/shapes/fine_tune/weights.safetensors").read_bytes() == trial.read_bytes()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 200.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


def in_training(root: Path, place: int) -> bool:
    """Whether the trial of that place has trained for some epochs and is not done."""
    folder = root / ".practicum" / "sweeps"
    if not (folder / "optuna.db").exists():
        return False
    with FileLock(folder / ".lock"):  # whoever opens a store makes its tables
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    for name in optuna.get_all_study_names(storage):
        for trial in in_place(optuna.load_study(study_name=name, storage=storage)):
            if trial.user_attrs["place"] == place and len(trial.intermediate_values) > 3:
                return trial.state == TrialState.RUNNING
    return False


def test_a_search_that_is_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    root = project_of(tmp_path, epochs=30)
    shutil.copytree(root, tmp_path / "undisturbed")
    arguments = ["flows", "sweep", "shapes", "--trials", "2", "--over", RATE[0]]
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=root, text=True, env=plain(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: in_training(root, 1), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    found = sweep("shapes", trials=2, over=RATE, workspace=checkout(root))
    undisturbed = sweep("shapes", trials=2, over=RATE, workspace=checkout(tmp_path / "undisturbed"))
    assert told(found) == told(undisturbed)
    study = open_study(found.search)
    assert [trial.state for trial in study.trials].count(TrialState.FAIL) == 1, "the one that was killed"
    parent, children = runs_of(root)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    history = open_store(checkout(root)).client.get_metric_history(children[1].info.run_id, "train_loss")
    assert [point.step for point in history] == list(range(1, 31)), "its run and its checkpoint went on"
