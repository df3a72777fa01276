"""MLflow's record of a pass in the store of a checkout: its origin, nothing twice, children, no server."""

import json
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import tracking
from tasks.store import UnreachableError
from tasks.tracking import begin_evaluation, begin_pass, open_store, tracking_uri
from tasks.workspace import checkout
from tests.passes import PASS, make_job, only_run, row, steps, store_of, train
from tests.scratch import git


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def test_a_pass_is_recorded_with_its_origin(tmp_path: Path) -> None:
    train(make_job(tmp_path), range(1, 4))
    assert (tmp_path / ".practicum" / "mlflow.db").is_file()
    run = only_run(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"sample {PASS[:8]}"
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


def test_an_experiment_says_what_it_is_until_somebody_says_it_better(tmp_path: Path) -> None:
    def description() -> str:
        return str(store_of(tmp_path).client.get_experiment_by_name("app").tags["mlflow.note.content"])

    train(make_job(tmp_path), range(1, 2))
    assert description() == "Shapes (course: lesson 0)"
    store = store_of(tmp_path)
    store.client.set_experiment_tag(store.experiment("app"), "mlflow.note.content", "ours")
    train(make_job(tmp_path, rate=0.2), range(1, 2), "another pass")
    assert description() == "ours"


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
