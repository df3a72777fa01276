"""Only one worker has an application: a real Prefect server, processes in clones of their own, kill -9."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.flows.conftest import draw_pictures, entry
from tests.scratch import commit, git, lock_entries, make_project

LEASE = 12.0
EPOCHS = 25
PATIENCE = 120.0
"""Seconds until a wait is a failure; all of them end much earlier."""
STAGES = ("download", "clean", "split", "fine_tune", "evaluate", "export")


def until(found: Callable[[], Any], what: str) -> Any:
    """What `found` answers, as soon as it is true."""
    end = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)
    return answer


class Server:
    """A Prefect server in a process of its own, which can be stopped and started."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.home = home

    def start(self) -> None:
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], env=environment(PREFECT_HOME=str(self.home)), stdout=log,
                stderr=log,
            )  # fmt: skip
        until(self.answers, "the Prefect server")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health").is_success
        except httpx.HTTPError:
            return False

    def ask(self, path: str, **filters: Any) -> Any:
        return httpx.post(self.api + path, json=filters).raise_for_status().json()

    def claims(self) -> list[dict[str, Any]]:
        return [each for each in self.ask("/variables/filter") if each["name"].startswith("claim-")]

    def states(self) -> dict[str, str]:
        """State of each flow run by its id."""
        return {each["id"]: each["state_name"] for each in self.ask("/flow_runs/filter")}


def environment(**changed: str) -> dict[str, str]:
    """Of a process in which nothing is activated."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PREFECT", "DVC"))
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **kept, "PATH": path, "OMP_NUM_THREADS": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONUNBUFFERED": "1", "PRACTICUM_LEASE_SECONDS": str(LEASE), **changed,
    }  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("prefect"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project, with the pictures beside it as on a disk that all machines have."""
    place = tmp_path_factory.mktemp("origin")
    draw_pictures(place / "pictures")
    mine = entry(source=str(place / "pictures"))
    mine["fine_tune"] = {**mine["fine_tune"], "phases": [{"epochs": EPOCHS, "rates": [0.01]}]}
    parameters = {"edition": "sample", "mirror": "", "weights": {}, "applications": {"mine": mine}}
    return make_project(place / "project", parameters)


class Machines:
    """Two clones of one project, which share a remote, a Prefect server and an MLflow store."""

    def __init__(self, place: Path, origin: Path, server: Server) -> None:
        self.place = place
        self.server = server
        self.started: list[subprocess.Popen[bytes]] = []
        project = place / "origin"
        shutil.copytree(origin, project)
        dvc = [sys.executable, "-m", "dvc", "remote", "add", "-q", "--default", "shelf", str(place / "shelf")]
        subprocess.run(dvc, cwd=project, check=True)
        commit(project, "a remote")
        for name in ("a", "b"):
            git(place, "clone", "-q", "origin", name)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A command in a clone, in a group of its own; what it says goes to a file."""
        store = f"sqlite:///{self.place / 'mlflow.db'}"
        with self.log(name).open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=self.place / name, stdout=log, stderr=log,
                env=environment(PREFECT_API_URL=self.server.api, MLFLOW_TRACKING_URI=store),
                start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.place / f"{name}.log"

    def said(self, name: str, *texts: str) -> bool:
        """Whether the log of a clone holds one of the texts."""
        return any(text in self.log(name).read_text() for text in texts)

    def in_training(self, name: str) -> bool:
        return self.said(name, f"2/{EPOCHS}")

    def weights(self, name: str) -> bytes:
        return (self.place / name / "artifacts/mine/fine_tune/weights.safetensors").read_bytes()

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                self.kill(process)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """kill -9 of a whole machine: the process and all that it has started."""
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        for each in family:
            os.kill(each.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def machines(tmp_path: Path, origin: Path, server: Server) -> Iterator[Machines]:
    made = Machines(tmp_path, origin, server)
    yield made
    made.end()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, origin: Path, server: Server) -> Iterator[Machines]:
    """Two clones in which the same application was started at once."""
    made = Machines(tmp_path_factory.mktemp("undisturbed"), origin, server)
    both = [made.start(name, "flows", "run", "mine") for name in ("a", "b")]
    assert [process.wait(PATIENCE) for process in both] == [0, 0], made.log("a").read_text()
    yield made
    made.end()


def test_two_started_at_once_train_once_and_record_the_same(undisturbed: Machines, server: Server) -> None:
    for stage in STAGES:
        ran = [name for name in ("a", "b") if undisturbed.said(name, f"{stage}@mine: ran")]
        restored = [name for name in ("a", "b") if undisturbed.said(name, f"{stage}@mine: restored")]
        assert len(ran) == len(restored) == 1, stage
        assert [name for name in ("a", "b") if receipt(undisturbed, name, stage).is_file()] == ran
    assert lock_entries(undisturbed.place / "a") == lock_entries(undisturbed.place / "b")
    assert len(lock_entries(undisturbed.place / "a")) == len(STAGES)
    assert undisturbed.weights("a") == undisturbed.weights("b")
    assert server.claims() == []


def receipt(machines: Machines, name: str, stage: str) -> Path:
    return machines.place / name / ".practicum" / "receipts" / "mine" / f"{stage}.json"


def test_the_work_of_a_killed_worker_is_taken_over(
    machines: Machines, server: Server, undisturbed: Machines
) -> None:
    before = set(server.states())
    working = {name: machines.start(name, "flows", "run", "mine") for name in ("a", "b")}
    first = until(lambda: next(filter(machines.in_training, working), None), "a training")
    machines.kill(working.pop(first))
    [(other, second)] = working.items()

    assert second.wait(PATIENCE) == 0, machines.log(other).read_text()
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


def test_a_run_of_a_deployment_goes_on_at_another_worker(machines: Machines, server: Server) -> None:
    deploy(server)
    first = machines.start("a", "prefect", "worker", "start", "--pool", "machines", "--type", "process")
    deployment = httpx.get(f"{server.api}/deployments/name/application/mine").raise_for_status().json()["id"]
    run = server.ask(f"/deployments/{deployment}/create_flow_run", state={"type": "SCHEDULED"})["id"]
    until(lambda: machines.in_training("a"), "a training")
    machines.kill(first)
    assert server.states()[run] == "Running"

    machines.start("b", "prefect", "worker", "start", "--pool", "machines", "--type", "process")
    until(lambda: server.states()[run] == "Completed", "the run to be done")
    assert machines.said("b", "fine_tune@mine: ran")
    assert lock_entries(machines.place / "b").keys() == {f"{stage}@mine" for stage in STAGES}


def deploy(server: Server) -> None:
    """A work pool, a deployment whose worker works in its own clone, and the automation for dead runs."""
    program = """
from prefect.flows import EntrypointType
from flows.chain import run_application
from flows.dead_runs import schedule_dead_runs_again

run_application.to_deployment(
    "mine", parameters={"application": "mine"}, work_pool_name="machines",
    job_variables={"working_dir": "."}, entrypoint_type=EntrypointType.MODULE_PATH,
).apply()
assert schedule_dead_runs_again().id == schedule_dead_runs_again().id
"""
    server.ask("/work_pools/", name="machines", type="process")
    subprocess.run(
        [sys.executable, "-c", program], check=True, env=environment(PREFECT_API_URL=server.api),
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip


def test_a_holder_that_loses_its_claim_stops(machines: Machines, server: Server) -> None:
    process = machines.start("a", "flows", "run", "mine")
    until(lambda: machines.in_training("a"), "a training")
    [claim] = server.claims()
    httpx.delete(f"{server.api}/variables/{claim['id']}").raise_for_status()
    assert process.wait(PATIENCE) == 1
    text = machines.log("a").read_text()
    assert "run mine: claim-mine is lost: somebody else took the application over" in text
    assert "Traceback" not in text
    assert "fine_tune@mine: ran" not in text
    assert set(lock_entries(machines.place / "a")) == {"download@mine", "clean@mine", "split@mine"}


@pytest.fixture
def claims(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`Claims` of this process, at the server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.claims import Claims

    monkeypatch.setenv("PRACTICUM_LEASE_SECONDS", "4")
    with temporary_settings({PREFECT_API_URL: server.api}):
        yield Claims


def test_an_application_is_held_by_one_and_given_back(claims: Any, server: Server) -> None:
    turns: list[str] = []
    with claims() as first:
        assert first.take("upstream") is False
        assert first.take("pets") is False
        assert [each["name"] for each in server.claims()] == ["claim-pets"]

        def wait() -> None:
            with claims() as second:
                assert second.take("pets") is True
                turns.append("second")

        from contextvars import copy_context

        thread = threading.Thread(target=copy_context().run, args=(wait,))
        thread.start()
        time.sleep(6)  # longer than the lease: what is renewed is not taken over
        turns.append("first")
    thread.join()
    assert turns == ["first", "second"]
    assert server.claims() == []


def test_a_claim_outlives_a_restart_of_the_server(
    claims: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRACTICUM_LEASE_SECONDS", "60")
    with claims() as held:
        held.take("pets")
        server.stop()
        server.start()
        beat = server.claims()[0]["value"]["beat"]
        until(lambda: server.claims()[0]["value"]["beat"] > beat, "a renewal")
    assert server.claims() == []


def test_without_a_server_that_stays_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.claims import Claims

    with temporary_settings({PREFECT_API_URL: None}), Claims() as claims:
        assert claims.shared is False
        assert claims.take("pets") is False


def test_names_and_lengths_that_prefect_would_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.claims import lease_seconds, variable

    assert variable("camvid_tiny") == "claim-camvid_tiny"
    assert variable("My.Pets") == "claim-_4d_y_2e__50_ets"
    for wrong in ("1.9", "-5", "soon", ""):
        monkeypatch.setenv("PRACTICUM_LEASE_SECONDS", wrong)
        with pytest.raises(ValueError, match=r"PRACTICUM_LEASE_SECONDS is .*; it must be a number from 2 on"):
            lease_seconds()
