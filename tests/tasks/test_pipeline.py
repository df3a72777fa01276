"""run_stage: the one way to run a stage, whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.pipeline import STAGES, find_stage, run_stage
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.scratch import lock_entries, write_parameters


def test_a_stage_reads_only_what_the_table_lists() -> None:
    seen: list[str] = []
    for stage in STAGES:
        assert set(stage.reads) <= set(seen), f"{stage.name} reads a stage that comes after it"
        seen.append(stage.name)


def test_an_unknown_stage_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="no stage 'fine_tun'; did you mean 'fine_tune'"):
        find_stage("fine_tun")


def test_a_stage_leaves_a_receipt_outside_of_the_results(trained: Workspace) -> None:
    receipt = json.loads((trained.state / "receipts" / "shapes" / "clean.json").read_text())
    assert receipt["rows"] == 36
    assert receipt["seconds"] > 0
    assert receipt["door"] == "command"
    assert not list(trained.artifacts.rglob(".*"))


def test_a_failed_stage_keeps_what_stood_before(project: Path) -> None:
    workspace = checkout(project)
    run_stage("download", "shapes", workspace=workspace)
    before = {path: path.read_bytes() for path in workspace.artifacts.rglob("*") if path.is_file()}
    (project.parent / "shapes").rename(project.parent / "gone")
    with pytest.raises((ValueError, OSError), match=r"\.\./shapes"):
        run_stage("download", "shapes", workspace=workspace)
    assert {path: path.read_bytes() for path in workspace.artifacts.rglob("*") if path.is_file()} == before


def test_a_stage_without_its_input_says_what_to_run(project: Path) -> None:
    with pytest.raises(
        ValueError, match=r"needs .*download, which does not exist; run .*dvc repro download@shapes"
    ):
        run_stage("clean", "shapes", workspace=checkout(project))


def test_two_stages_at_once_on_one_application_are_refused(project: Path) -> None:
    workspace = checkout(project)
    with (
        workspace.lock("shapes", "clean"),
        pytest.raises(
            ValueError, match=f"worked on by process {os.getpid()} .stage clean.; wait for it or stop it"
        ),
    ):
        run_stage("download", "shapes", workspace=workspace)
    run_stage("download", "shapes", workspace=workspace)  # the lock is free again


def command(project: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tasks", *arguments]


def test_the_command_says_what_is_wrong_in_one_message(project: Path) -> None:
    done = subprocess.run(
        command(project, "download", "shaps"), cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no application 'shaps'; did you mean 'shapes'" in done.stderr
    assert "Traceback" not in done.stderr
    log = project / ".practicum" / "logs" / "download-shaps.txt"
    assert "Traceback" in log.read_text()


def test_ctrl_c_leaves_nothing_half_written(project: Path) -> None:
    workspace = checkout(project)
    long = {"phases": [{"epochs": 1000, "rates": [0.01]}]}
    write_parameters(project, pictures.parameters(shapes=pictures.entry(fine_tune=long)))
    for stage in ("download", "clean", "split"):
        run_stage(stage, "shapes", workspace=workspace)
    running = subprocess.Popen(
        command(project, "fine_tune", "shapes"), cwd=project, stderr=subprocess.PIPE, text=True
    )
    partial = workspace.artifacts / "shapes" / ".fine_tune.partial"
    states = workspace.state / "checkpoints" / "shapes"
    deadline = time.monotonic() + 120
    while not list(states.glob("*.pt")):  # not while libraries load: some of them swallow the signal
        assert time.monotonic() < deadline, "the training did not start"
        time.sleep(0.05)
    assert partial.is_dir()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    # A shell reads both as 130; CPython ends by the signal itself where it cut a class body short.
    assert running.returncode in (130, -signal.SIGINT), said
    assert "stopped by Ctrl-C" in said
    assert not partial.exists()
    assert not (workspace.artifacts / "shapes" / "fine_tune").exists()
    assert list(states.glob("*.pt")), "the same command continues from here"


def test_code_that_was_written_a_moment_ago_is_no_edit(project: Path) -> None:
    """As after `git clone`: DVC's lock file gets the entry of a stage whose code is younger than a second."""
    for stage in ("download", "clean"):
        (project / "recipes" / "image_classification.py").touch()
        done = subprocess.run(
            command(project, stage, "shapes"), cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert list(lock_entries(project)) == ["download@shapes", "clean@shapes"]
