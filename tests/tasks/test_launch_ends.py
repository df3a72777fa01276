"""However a training of several processes ends, none of them is left, and it can go on."""

import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.workspace import Workspace
from tests.tasks.launched import prepared, running, train


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A training that lasts as long as a test looks at it; its state is stored all the time."""
    return prepared(tmp_path, phases=[{"epochs": 2000, "rates": [0.001]}], save_every=0.01)


def unfinished(workspace: Workspace) -> bool:
    """Whether a state is kept, and no result, nor a half of one."""
    folder = workspace.folder("shapes", "fine_tune")
    assert not folder.exists()
    assert not list(folder.parent.glob(".fine_tune*"))
    return bool(list((workspace.state / "checkpoints").rglob("*.pt")))


def test_a_killed_rank_ends_the_run_and_the_same_command_goes_on(workspace: Workspace) -> None:
    with running(workspace) as training:
        training.rank(1).kill()
        status, said = training.end()
    assert status == 1
    assert "fine_tune shapes: rank 1 of 2 was killed by SIGKILL, the others were stopped" in said
    assert unfinished(workspace)
    with running(workspace) as training:
        training.rank(0).kill()
        assert "rank 0 of 2 was killed by SIGKILL" in training.end()[1]


def test_ctrl_c_stops_all_and_says_so(workspace: Workspace) -> None:
    with running(workspace) as training:
        training.process.send_signal(signal.SIGINT)
        status, said = training.end()
    assert status == 130
    assert "stopped by Ctrl-C. Nothing half-written was kept" in said
    assert unfinished(workspace)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_rank_outlives_the_stage(workspace: Workspace, number: signal.Signals) -> None:
    with running(workspace) as training:
        training.process.send_signal(number)
        assert training.end()[0] == -number
        assert len(training.started) == 3  # torchrun and two ranks


def test_no_rank_outlives_torchrun(workspace: Workspace) -> None:
    with running(workspace) as training:
        next(each for each in training.started if "RANK" not in each.environ()).kill()
        status, said = training.end()
    assert status == 1
    assert "the 2 processes ended with status -9 and gave no reason" in said


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, phases=[{"epochs": 30, "rates": [0.001]}], save_every=0.01)
    with running(workspace) as training:
        training.rank(1).kill()
        training.end()
    done = train(workspace, PRACTICUM_PROCESSES="1")
    assert done.returncode == 0, done.stderr
    assert "continuing an unfinished training" in done.stdout
    history = pq.read_table(workspace.folder("shapes", "fine_tune") / "history.parquet")
    assert history["epoch"].to_pylist() == list(range(1, 31))
