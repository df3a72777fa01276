"""Who works on a run, and when nobody does: processes of this host, silence of others, mistakes mended."""

import os
import platform
import signal
import time
from pathlib import Path

import psutil
import pytest

from tasks.liveness import HOST, PROCESS, close_dead_runs, silent_seconds
from tasks.store import HEARTBEAT, KEY
from tasks.tracking import begin_pass, open_store
from tasks.workspace import checkout
from tests.passes import PASS, PROCESSES, make_job, only_run, row


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_dead_runs_are_closed_and_living_ones_are_not(tmp_path: Path) -> None:
    store = open_store(checkout(tmp_path))
    experiment = store.client.create_experiment("app")
    own = psutil.Process()
    here, now = platform.node(), time.time_ns() // 1_000_000
    minutes_ago = {minutes: str(now - minutes * 60_000) for minutes in (1, 40)}
    runs = {
        "alive": {HOST: here, PROCESS: f"{own.pid} {own.create_time():.2f}", HEARTBEAT: minutes_ago[40]},
        "gone, its number given again": {HOST: here, PROCESS: f"{own.pid} {own.create_time() - 1000:.2f}"},
        "elsewhere, heard of": {HOST: "another-host", PROCESS: "1 1.0", HEARTBEAT: minutes_ago[1]},
        "elsewhere, silent": {HOST: "another-host", PROCESS: "1 1.0", HEARTBEAT: minutes_ago[40]},
        "never heard of": {},
    }
    began = now - 50 * 60_000
    ids = {
        name: store.client.create_run(experiment, began, {KEY: name, **tags}).info.run_id
        for name, tags in runs.items()
    }
    ids["of somebody else"] = store.client.create_run(experiment, began).info.run_id
    assert close_dead_runs(store) == 3
    found = {name: store.client.get_run(each).info for name, each in ids.items()}
    assert {name: info.status for name, info in found.items()} == {
        "alive": "RUNNING",
        "gone, its number given again": "KILLED",
        "elsewhere, heard of": "RUNNING",
        "elsewhere, silent": "KILLED",
        "never heard of": "KILLED",
        "of somebody else": "RUNNING",
    }
    assert found["elsewhere, silent"].end_time == int(minutes_ago[40])  # when it was last heard of
    assert close_dead_runs(store) == 0


def test_a_run_closed_by_mistake_is_opened_by_the_next_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.tracking.HEARTBEAT_SECONDS", 0.0)
    with begin_pass(make_job(tmp_path), PASS) as tracker:
        store = open_store(checkout(tmp_path))
        first = only_run(tmp_path).data.tags[HEARTBEAT]
        store.client.set_terminated(only_run(tmp_path).info.run_id, "KILLED")
        tracker.step_ended(None)  # no epoch has ended yet
        assert only_run(tmp_path).info.status == "RUNNING"
        assert int(only_run(tmp_path).data.tags[HEARTBEAT]) > int(first)
        store.client.set_terminated(only_run(tmp_path).info.run_id, "KILLED")
        tracker.epoch_ended(row(1))
        assert only_run(tmp_path).info.status == "RUNNING"
    assert only_run(tmp_path).info.status == "FINISHED"


def begin_and_die(root: Path) -> None:
    with begin_pass(make_job(root), PASS):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_was_killed_leaves_a_run_that_the_next_start_closes(tmp_path: Path) -> None:
    child = PROCESSES.Process(target=begin_and_die, args=(tmp_path,))
    child.start()
    child.join()
    assert only_run(tmp_path).info.status == "RUNNING"
    with begin_pass(make_job(tmp_path, application="other"), "cd" * 32):
        assert only_run(tmp_path).info.status == "KILLED"


def test_the_limit_of_silence_is_a_number_of_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRACTICUM_SILENT_MINUTES", raising=False)
    assert silent_seconds() == 1800
    monkeypatch.setenv("PRACTICUM_SILENT_MINUTES", "0.5")
    assert silent_seconds() == 30
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("PRACTICUM_SILENT_MINUTES", wrong)
        with pytest.raises(ValueError, match="PRACTICUM_SILENT_MINUTES"):
            silent_seconds()
