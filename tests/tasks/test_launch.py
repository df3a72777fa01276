"""A stage in several processes: what it leaves is what one leaves, and a fault is told as by one."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from models.processes import join
from tasks.launch import processes
from tasks.pipeline import run_stage
from tasks.tracking import open_store
from tasks.workspace import Workspace
from tests.scratch import lock_entries
from tests.tasks.launched import prepared, train

TORCHRUN = (
    *("torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--rdzv-backend=c10d"),
    *("--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", "-m", "tasks", "fine_tune", "shapes"),
)
"""As on the first of several machines, of which there is one."""


GENTLE = [{"epochs": 2, "rates": [0.001]}, {"epochs": 2, "rates": [0.0001, 0.0005]}]
"""Convolutions at large rates blow up what two processes round otherwise than one."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Trained by one process."""
    workspace = prepared(tmp_path_factory.mktemp("one"), phases=GENTLE)
    run_stage("fine_tune", "shapes", workspace=workspace)
    return workspace


def rows(workspace: Workspace) -> list[dict[str, Any]]:
    """The history, to be compared within the tolerance of tests/models/test_processes.py."""
    found = pq.read_table(workspace.folder("shapes", "fine_tune") / "history.parquet").to_pylist()
    return [
        {key: value if key == "phase" else pytest.approx(value, abs=1e-4) for key, value in row.items()}
        for row in found
    ]


@pytest.mark.parametrize("command", [(), TORCHRUN], ids=["launched by the stage", "started by torchrun"])
def test_two_processes_leave_what_one_leaves(
    one: Workspace, tmp_path: Path, command: tuple[str, ...]
) -> None:
    two = prepared(tmp_path, phases=GENTLE)
    done = train(two, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fine_tune shapes: 27 rows") == 1
    ours, theirs = (each.folder("shapes", "fine_tune") for each in (two, one))
    assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in theirs.iterdir())
    assert rows(two) == rows(one)
    weights, wanted = (load_file(folder / "weights.safetensors") for folder in (ours, theirs))
    for name, tensor in wanted.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-3)
    assert "fine_tune@shapes" in lock_entries(two.root)
    assert not list((two.state / "checkpoints").rglob("*.pt*"))
    store = open_store(two)
    (run,) = store.client.search_runs([each.experiment_id for each in store.client.search_experiments()])
    assert run.info.status == "FINISHED"


def test_a_fault_of_the_settings_is_told_as_by_one_process(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, phases=[{"epochs": 3, "rates": [1e30], "schedule": "constant"}])
    done = train(workspace)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("fine_tune shapes: ")]
    assert len(lines) == 1
    assert "lower the rates" in lines[0]
    assert "Traceback" not in done.stderr
    assert "In rank 0 of 2" in (workspace.state / "logs" / "fine_tune-shapes.txt").read_text()
    assert not workspace.folder("shapes", "fine_tune").exists()


def test_an_error_of_the_code_keeps_its_traceback(tmp_path: Path) -> None:
    workspace = prepared(tmp_path)
    file = workspace.root / "models" / "validation.py"
    planted = "    assert world.rank == 0, 'planted'\n    phase.objective.start_epoch()\n"
    file.write_text(file.read_text().replace("    phase.objective.start_epoch()\n", planted))
    done = train(workspace)
    assert done.returncode == 1
    assert "rank 1: AssertionError: planted" in done.stderr
    assert "In rank 1 of 2:" in done.stderr
    assert "models/validation.py" in done.stderr
    assert not workspace.folder("shapes", "fine_tune").exists()


@pytest.mark.parametrize("wanted", ["two", "0", "-1", "1.5", ""])
def test_a_number_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("PRACTICUM_PROCESSES", wanted)
    with pytest.raises(ValueError, match=f"PRACTICUM_PROCESSES is '{wanted}': give a whole number from 1"):
        processes()


def test_without_the_variable_there_is_a_process_for_each_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PRACTICUM_PROCESSES", raising=False)
    assert processes() == max(torch.cuda.device_count(), 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert processes() == 4
    monkeypatch.setenv("PRACTICUM_PROCESSES", "3")
    assert processes() == 3
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert processes() == 1, "a rank starts no ranks"


def test_more_processes_than_accelerators_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="3 processes were started, but 2 accelerators are visible"):
        join()
