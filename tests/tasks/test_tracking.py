"""MLflow's record of a pass, on a real store and on a real server that is killed and started again."""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from tasks import tracking
from tasks.outbox import UnreachableError
from tasks.parameters import Application, DownloadBlock, Parameters, SplitBlock
from tasks.pipeline import Job, find_stage
from tasks.tracking import begin_evaluation, begin_pass, close_dead_runs, open_store, tracking_uri
from tasks.workspace import checkout
from tests.scratch import git

PASS = "ab" * 32


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def make_job(root: Path, stage: str = "fine_tune", **evaluate: Any) -> Job:
    """A job in a git repository of its own, with what `clean` and `fine_tune` would have left."""
    if not (root / ".git").exists():
        root.mkdir(parents=True, exist_ok=True)
        git(root, "init", "-q")
        (root / "README").write_text("scratch")
        git(root, "add", "README")
        git(root, "commit", "-q", "-m", "first")
    workspace = checkout(root)
    for folder in ("clean", "split", "fine_tune"):
        workspace.folder("app", folder).mkdir(parents=True, exist_ok=True)
    provenance = {"source": "shapes", "content": "cd" * 32, "extent": "generated", "rows": 12}
    (workspace.folder("app", "clean") / "provenance.json").write_text(json.dumps(provenance))
    entry = Application(
        recipe="shapes", family="vision", source="sources/shapes.yaml", download=DownloadBlock(), clean={},
        corrections="sources/none", starts_from="sources/none", judge="sources/none",
        split=SplitBlock(seed=7), fine_tune={"rates": {"head": 0.1}, "epochs": 3}, evaluate=evaluate,
        export={},
    )  # fmt: skip
    return Job(
        stage=find_stage(stage), application="app", entry=entry, recipe=SimpleNamespace(),
        workspace=workspace, parameters=Parameters(edition="sample", applications={}), output=root,
        door="command",
    )  # type: ignore[arg-type]  # fmt: skip


def row(epoch: int) -> dict[str, Any]:
    return {"phase": "frozen", "epoch": epoch, "train_loss": 1 / epoch, "valid_loss": 2 / epoch}


def train(job: Job, epochs: range) -> None:
    with begin_pass(job, PASS) as tracker:
        tracker.began((), None)
        for epoch in epochs:
            tracker.step_ended(None)
            tracker.epoch_ended(row(epoch))
        tracker.finished(SimpleNamespace(kept_epoch=epochs[-1]))


def only_run(root: Path) -> Any:
    client = open_store(checkout(root)).client
    (experiment,) = [each for each in client.search_experiments() if each.name == "app"]
    runs = client.search_runs([experiment.experiment_id])
    assert len([run for run in runs if "mlflow.parentRunId" not in run.data.tags]) == 1
    return next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)


def steps(root: Path, metric: str) -> list[int]:
    client, run = open_store(checkout(root)).client, only_run(root)
    return sorted(point.step for point in client.get_metric_history(run.info.run_id, metric))


def test_a_pass_is_recorded_with_its_origin(tmp_path: Path) -> None:
    train(make_job(tmp_path), range(1, 4))
    assert (tmp_path / ".practicum" / "mlflow.db").is_file()
    run = only_run(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.data.params["fine_tune.rates.head"] == "0.1"
    assert run.data.params["split.seed"] == "7"
    assert run.data.tags["mlflow.source.git.commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert run.data.tags["practicum.door"] == "command"
    assert run.data.tags["practicum.extent"] == "generated"
    assert run.data.metrics["train_loss"] == pytest.approx(1 / 3)
    assert run.data.metrics["system/cpu_utilization_percentage"] >= 0
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("shapes", ("cd" * 32)[:36])
    assert json.loads(data.dataset.source)["content"] == "cd" * 32
    assert steps(tmp_path, "valid_loss") == [1, 2, 3]


def test_nothing_is_logged_twice(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    train(job, range(1, 4))
    first = only_run(tmp_path)
    train(job, range(2, 5))  # continued from a checkpoint before the last epochs that were logged
    train(job, range(1, 5))  # repeated as a whole
    again = only_run(tmp_path)
    assert again.info.run_id == first.info.run_id
    assert steps(tmp_path, "train_loss") == [1, 2, 3, 4]
    assert steps(tmp_path, "system/cpu_utilization_percentage") == [1, 2, 3, 4]
    assert len(again.inputs.dataset_inputs) == 1


def test_a_failed_training_says_why(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError), begin_pass(make_job(tmp_path), PASS):
        raise FloatingPointError("loss is NaN at step 17")
    assert only_run(tmp_path).info.status == "FAILED"
    assert "step 17" in only_run(tmp_path).data.tags["practicum.error"]
    with pytest.raises(KeyboardInterrupt), begin_pass(make_job(tmp_path), PASS):
        raise KeyboardInterrupt
    assert only_run(tmp_path).info.status == "KILLED"


def test_an_evaluation_is_logged_once_and_others_are_children(tmp_path: Path) -> None:
    train(make_job(tmp_path), range(1, 3))
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "confusion.png").write_bytes(b"png")
    metrics = {"data": "generated", "valid": {"accuracy": 0.5, "examples": 8}}
    job = make_job(tmp_path, "evaluate", flips=1)
    begin_evaluation(job, PASS, metrics=metrics, figures=figures)
    begin_evaluation(job, PASS, metrics=metrics, figures=figures)
    run, client = only_run(tmp_path), open_store(checkout(tmp_path)).client
    assert run.data.metrics["valid.accuracy"] == 0.5
    assert run.data.params["evaluate.flips"] == "1"
    assert len(client.get_metric_history(run.info.run_id, "valid.accuracy")) == 1
    assert [each.path for each in client.list_artifacts(run.info.run_id, "figures")] == [
        "figures/confusion.png"
    ]

    other = make_job(tmp_path, "evaluate", flips=4)
    for _ in range(2):
        begin_evaluation(other, PASS, metrics={"valid": {"accuracy": 0.75}}, figures=figures)
    begin_evaluation(job, PASS, metrics=metrics, figures=figures)
    children = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )
    assert [child.data.metrics["valid.accuracy"] for child in children] == [0.75]
    assert only_run(tmp_path).data.metrics["valid.accuracy"] == 0.5
    assert only_run(tmp_path).info.status == "FINISHED"


def test_a_restored_training_gets_its_curves_from_the_history(tmp_path: Path) -> None:
    job = make_job(tmp_path, "evaluate")
    history = pa.Table.from_pylist([row(1), row(2)])
    pq.write_table(history, job.read("fine_tune") / "history.parquet")
    begin_evaluation(job, PASS, metrics={"valid": {"accuracy": 0.5}})
    assert steps(tmp_path, "train_loss") == [1, 2]
    assert only_run(tmp_path).data.params["fine_tune.epochs"] == "3"


def test_dead_runs_of_this_host_are_closed(tmp_path: Path) -> None:
    store = open_store(checkout(tmp_path))
    experiment = store.client.create_experiment("app")
    own = psutil.Process()
    processes = {
        "alive": (platform.node(), f"{own.pid} {own.create_time():.2f}"),
        "gone": (platform.node(), f"{own.pid} {own.create_time() - 1000:.2f}"),  # the number was given again
        "elsewhere": ("another-host", "1 1.0"),
    }
    ids = {
        name: store.client.create_run(
            experiment, tags={"practicum.host": host, "practicum.process": process}
        ).info.run_id
        for name, (host, process) in processes.items()
    }
    assert close_dead_runs(store) == 1
    states = {name: store.client.get_run(each).info.status for name, each in ids.items()}
    assert states == {"alive": "RUNNING", "gone": "KILLED", "elsewhere": "RUNNING"}


def test_work_trees_and_experiments_share_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_job(tmp_path / "main")
    git(tmp_path / "main", "worktree", "add", "-q", str(tmp_path / "linked"))
    expected = f"sqlite:///{tmp_path}/main/.practicum/mlflow.db"
    assert tracking_uri(checkout(tmp_path / "main")) == expected
    assert tracking_uri(checkout(tmp_path / "linked")) == expected
    clone = tmp_path / "main" / ".dvc" / "tmp" / "exps" / "tmpabc"
    subprocess.run(["git", "clone", "-q", str(tmp_path / "main"), str(clone)], check=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert tracking_uri(checkout(clone)) == expected
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking_uri(checkout(clone)) == "http://127.0.0.1:1"


class Server:
    """`mlflow server` on a free port of the loopback, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        command = [
            sys.executable, "-m", "mlflow", "server", "--workers", "1",
            "--host", "127.0.0.1", "--port", str(self.port),
            "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "files"),
        ]  # fmt: skip
        log = (self.folder / "log.txt").open("ab")
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log.txt").read_text())

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server.start()
    yield server
    server.kill()


def test_a_server_that_dies_loses_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.outbox.RETRY_SECONDS", 0.0)
    job = make_job(tmp_path / "main")
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "confusion.png").write_bytes(b"png")
    with begin_pass(job, PASS) as tracker:
        tracker.epoch_ended(row(1))
        tracker.epoch_ended(row(2))
        server.kill()
        tracker.epoch_ended(row(3))
        tracker.epoch_ended(row(4))
        server.start()
        tracker.epoch_ended(row(5))  # takes what waited with it, in order
        server.kill()
        tracker.epoch_ended(row(6))
    begin_evaluation(
        make_job(tmp_path / "main", "evaluate"), PASS, metrics={"valid": {"accuracy": 0.5}}, figures=figures
    )
    (figures / "confusion.png").unlink()  # DVC may move or remove the folder before the server is back
    waiting = tmp_path / "main" / ".practicum" / "unsent"
    assert len(list(waiting.glob("*.json"))) == 4  # epoch 6, the end, and the evaluation's two
    server.start()
    train(make_job(tmp_path / "main"), range(6, 7))  # the next start sends the rest
    assert not list(waiting.glob("*.json"))
    client, run = MlflowClient(server.address), only_run(tmp_path / "main")
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [
        (n, pytest.approx(1 / n)) for n in range(1, 7)
    ]
    assert run.data.metrics["valid.accuracy"] == 0.5
    assert [each.path for each in client.list_artifacts(run.info.run_id, "figures")] == [
        "figures/confusion.png"
    ]


def test_training_stops_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("PRACTICUM_TRACKING", "stop")
    with pytest.raises(UnreachableError, match=r"MLflow at http://127.0.0.1:9 does not answer"):
        begin_pass(make_job(tmp_path), PASS)
    monkeypatch.setenv("PRACTICUM_TRACKING", "stopp")
    with pytest.raises(ValueError, match="did you mean 'stop'"):
        begin_pass(make_job(tmp_path), PASS)
    monkeypatch.setenv("PRACTICUM_TRACKING", "continue")
    train(make_job(tmp_path), range(1, 3))
    assert tracking.shared_state(tmp_path) == tmp_path / ".practicum"
    assert len(list((tmp_path / ".practicum" / "unsent").glob("*.json"))) == 5
