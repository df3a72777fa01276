"""Two workers in clones of their own: one works, the other restores, or takes over what is left of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.pipeline import STAGE_NAMES
from tests import remotes
from tests.machines import EPOCHS, Machines
from tests.prefect_server import Server
from tests.scratch import lock_entries
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, course: Path, server: Server) -> Iterator[Machines]:
    """Two clones in which the same application was started at once."""
    made = Machines(tmp_path_factory.mktemp("undisturbed"), course, server)
    both = [made.start(name, "flows", "run", "mine") for name in ("a", "b")]
    assert [process.wait(PATIENCE_SECONDS) for process in both] == [0, 0], made.log("a").read_text()
    yield made
    made.end()


def test_two_started_at_once_train_once_and_record_the_same(undisturbed: Machines, server: Server) -> None:
    for stage in STAGE_NAMES:
        ran = [name for name in ("a", "b") if undisturbed.said(name, f"{stage}@mine: ran")]
        restored = [name for name in ("a", "b") if undisturbed.said(name, f"{stage}@mine: restored")]
        assert len(ran) == len(restored) == 1, stage
        assert [name for name in ("a", "b") if receipt(undisturbed, name, stage).is_file()] == ran
    assert lock_entries(undisturbed.place / "a") == lock_entries(undisturbed.place / "b")
    assert len(lock_entries(undisturbed.place / "a")) == len(STAGE_NAMES)
    assert undisturbed.weights("a") == undisturbed.weights("b")
    assert server.claims() == []


def receipt(machines: Machines, name: str, stage: str) -> Path:
    return machines.place / name / ".practicum" / "receipts" / "mine" / f"{stage}.json"


@pytest.fixture
def machines(tmp_path: Path, course: Path, server: Server) -> Iterator[Machines]:
    """Two clones whose remote is S3."""
    with remotes.bucket() as address:
        made = Machines(tmp_path, course, server, remote=lambda project: remotes.s3_remote(project, address))
        yield made
        made.end()


def test_the_work_of_a_killed_worker_is_taken_over(
    machines: Machines, server: Server, undisturbed: Machines
) -> None:
    """By way of S3; the undisturbed ones shared a folder."""
    before = set(server.states())
    working = {name: machines.start(name, "flows", "run", "mine") for name in ("a", "b")}
    first = until(lambda: next(filter(machines.in_training, working), None), "a training")
    machines.kill(working.pop(first))
    [(other, second)] = working.items()

    assert second.wait(PATIENCE_SECONDS) == 0, machines.log(other).read_text()
    assert machines.said(other, "is dead; taking over")
    assert machines.said(other, "split@mine: restored")
    assert machines.said(other, "fine_tune@mine: ran")
    assert machines.weights(other) == undisturbed.weights("a")
    assert lock_entries(machines.place / other) == lock_entries(undisturbed.place / "a")
    states = server.states()
    assert sorted(states[run] for run in states.keys() - before) == ["Completed", "Crashed"]
    assert server.claims() == []
    assert epochs_of_runs(machines) == [list(range(1, EPOCHS + 1))]


def epochs_of_runs(machines: Machines) -> list[list[int]]:
    """The steps of the training loss in each run of the MLflow store."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{machines.place / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mine")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    return [[each.step for each in client.get_metric_history(run.info.run_id, "train_loss")] for run in runs]
