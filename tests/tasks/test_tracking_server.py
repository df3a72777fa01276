"""Tracking of a team: `mlflow server` on a real PostgreSQL, many processes at once, and outages of both."""

import os
import platform
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recipes.evaluation.classification import PREDICTIONS
from tasks.compare import compare
from tasks.outcomes import FILE, OUTCOMES
from tasks.pipeline import run_stage
from tasks.store import HEARTBEAT
from tasks.tracking import begin_evaluation, begin_pass, send_waiting
from tasks.workspace import checkout
from tests import pictures
from tests.flows.conftest import command
from tests.passes import PASS, PROCESSES, make_job, only_run, row, steps, store_of, train
from tests.scratch import write_parameters
from tests.tracking_servers import SECONDS, Postgres, Server, running
from tests.waiting import until

EPOCHS = 12


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, Server]]:
    with running(tmp_path_factory.mktemp("servers")) as both:
        yield both


@pytest.fixture
def postgres(servers: tuple[Postgres, Server]) -> Postgres:
    servers[0].start()
    return servers[0]


@pytest.fixture
def server(postgres: Postgres, servers: tuple[Postgres, Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """Answers when a test begins, whatever the one before did to it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers[1].address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("tasks.outbox.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("tasks.outbox.PATIENCE", 0)
    servers[1].start()
    return servers[1]


def figures_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "confusion.png").write_bytes(b"png")
    return folder


def predictions() -> pa.Table:
    item = {"item_id": "a.png", "part": "valid", "label": "cat", "predicted": "dog", "probability": 0.7}
    return pa.Table.from_pylist([{**item, "loss": 1.2, "probabilities": [0.3, 0.7]}], PREDICTIONS)


def waiting(root: Path) -> list[Path]:
    return sorted((root / ".practicum" / "unsent").glob("*.json"))


def sent_all_but(root: Path, number: int) -> bool:
    """Whether only so many messages wait, after another attempt."""
    send_waiting(checkout(root))
    return len(waiting(root)) == number


def curve(root: Path, application: str) -> dict[int, float]:
    """train_loss by epoch."""
    run, client = only_run(root, application), store_of(root).client
    return {point.step: point.value for point in client.get_metric_history(run.info.run_id, "train_loss")}


def whole_pass(root: Path, application: str, key: str) -> None:
    """A training and its evaluation, as one process of a stage has them."""
    job = make_job(root, application=application)
    with begin_pass(job, key) as tracker:
        for epoch in range(1, EPOCHS + 1):
            tracker.step_ended(None)
            tracker.epoch_ended(row(epoch))
    begin_evaluation(
        make_job(root, "evaluate", application=application),
        key,
        metrics={"valid": {"accuracy": 0.5}},
        figures=figures_in(root / "figures"),
        predictions=predictions(),
    )


def test_ten_runs_at_once_lose_nothing(tmp_path: Path, server: Server) -> None:
    """Ten clones, five on one application and five on another, none of which the server knows yet."""
    keys = {f"{number:x}" * 64: f"crowd_{number % 2}" for number in range(10)}
    children = [
        PROCESSES.Process(target=whole_pass, args=(tmp_path / key[0], application, key))
        for key, application in keys.items()
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 10
    store = store_of(tmp_path / "0")
    found = {
        run.data.tags["practicum.pass"]: run
        for name in set(keys.values())
        for run in store.runs(experiment=name)
    }
    assert set(found) == set(keys)
    for key, run in found.items():
        run_id = run.info.run_id
        assert run.info.status == "FINISHED"
        assert run.data.tags["practicum.application"] == keys[key]
        assert run.data.params["split.seed"] == "7"
        assert run.data.metrics["valid.accuracy"] == 0.5
        for metric in ("train_loss", "valid_loss", "system/cpu_utilization_percentage"):
            points = store.client.get_metric_history(run_id, metric)
            assert sorted(point.step for point in points) == [*range(1, EPOCHS + 1)]
        files = {
            each.path
            for place in ("figures", OUTCOMES)
            for each in store.client.list_artifacts(run_id, place)
        }
        assert files == {"figures/confusion.png", f"{OUTCOMES}/{FILE}"}
    assert not any(waiting(tmp_path / key[0]) for key in keys)

    write_parameters(tmp_path / "0", pictures.parameters(crowd_0=pictures.entry()))
    compared = compare("crowd_0", workspace=checkout(tmp_path / "0"))
    assert len(compared.rows) == 5
    assert compared.changes is not None
    assert compared.changes.counts()["wrong in both"] == 1


def test_a_training_goes_on_without_its_server(project: Path, server: Server) -> None:
    """A real training in a process of its own, whose server is killed and comes back while it works."""
    parameters = pictures.parameters(
        shapes=pictures.entry(fine_tune={"phases": [{"epochs": 40, "rates": [0.01]}]})
    )
    write_parameters(project, parameters)
    for stage in ("download", "clean", "split"):
        run_stage(stage, "shapes", workspace=checkout(project))
    with (project / "log.txt").open("wb") as log:
        training = subprocess.Popen(
            [sys.executable, "-m", "tasks", "fine_tune", "shapes"], cwd=project, stdout=log, stderr=log
        )
    until(lambda: len(recorded(project)) > 2, (project / "log.txt").read_text)
    server.kill()
    until(lambda: bool(waiting(project)), (project / "log.txt").read_text)
    server.start()
    assert training.wait(SECONDS) == 0, (project / "log.txt").read_text()
    assert sent_all_but(project, 0)
    assert recorded(project) == [*range(1, 41)]
    assert only_run(project, "shapes").info.status == "FINISHED"
    told = command(project, "flows", "compare", "shapes", MLFLOW_TRACKING_URI=server.address).stdout
    assert only_run(project, "shapes").info.run_id[:8] in told
    assert "valid.error_rate" not in told  # it was not evaluated


def recorded(project: Path) -> list[int]:
    found = list(store_of(project).runs(experiment="shapes"))
    return steps(project, "valid_loss", "shapes") if found else []


def test_a_server_that_comes_back_after_the_training_gets_it_whole(tmp_path: Path, server: Server) -> None:
    root = tmp_path / "main"
    figures = figures_in(tmp_path / "figures")
    with begin_pass(make_job(root, application="outage"), PASS) as tracker:
        tracker.epoch_ended(row(1))
        server.kill()
        tracker.epoch_ended(row(2))
        tracker.step_ended(None)
        tracker.epoch_ended(row(3))
    evaluate = make_job(root, "evaluate", application="outage")
    metrics = {"valid": {"accuracy": 0.5}}
    begin_evaluation(evaluate, PASS, metrics=metrics, figures=figures, predictions=predictions())
    (figures / "confusion.png").unlink()  # DVC may move or remove the folder before the server is back
    assert len(waiting(root)) == 5  # two epochs, the end, and the evaluation's two
    send_waiting(checkout(root))
    assert len(waiting(root)) == 5  # it is still down
    server.start()
    train(make_job(root, application="another"), range(1, 2))  # the next start of anything sends it
    assert not waiting(root)
    assert only_run(root, "outage").info.status == "FINISHED"
    assert steps(root, "train_loss", "outage") == [1, 2, 3]
    assert curve(root, "outage") == {epoch: pytest.approx(1 / epoch) for epoch in (1, 2, 3)}
    assert only_run(root, "outage").data.metrics["valid.accuracy"] == 0.5
    run_id, client = only_run(root, "outage").info.run_id, store_of(root).client
    assert [each.path for each in client.list_artifacts(run_id, "figures")] == ["figures/confusion.png"]
    assert [each.path for each in client.list_artifacts(run_id, OUTCOMES)] == [f"{OUTCOMES}/{FILE}"]


def test_a_database_that_restarts_is_no_fault_of_the_run(
    tmp_path: Path, server: Server, postgres: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    with begin_pass(make_job(tmp_path, application="restart"), PASS) as tracker:
        tracker.epoch_ended(row(1))
        postgres.stop()
        tracker.epoch_ended(row(2))
        assert "does not answer" in capfd.readouterr().err
        assert len(waiting(tmp_path)) == 1
        postgres.start()
        for epoch in range(3, 9):  # the server's connections were cut: the first statements may fail
            tracker.epoch_ended(row(epoch))
    until(lambda: sent_all_but(tmp_path, 0), "what was kept is sent")
    assert not list((tmp_path / ".practicum" / "unsent").glob("*.refused"))
    assert steps(tmp_path, "train_loss", "restart") == [*range(1, 9)]
    assert only_run(tmp_path, "restart").info.status == "FINISHED"


def test_an_evaluation_that_waited_does_not_replace_the_first(
    tmp_path: Path, server: Server, postgres: Postgres
) -> None:
    train(make_job(tmp_path, application="waited"), range(1, 3))
    first = make_job(tmp_path, "evaluate", application="waited", flips=1)
    begin_evaluation(first, PASS, metrics={"valid": {"accuracy": 0.5}})
    postgres.stop()
    other = make_job(tmp_path, "evaluate", application="waited", flips=4)
    for _ in range(2):
        begin_evaluation(other, PASS, metrics={"valid": {"accuracy": 0.75}})
    postgres.start()
    until(lambda: sent_all_but(tmp_path, 0), "what was kept is sent")
    store, run = store_of(tmp_path), only_run(tmp_path, "waited")
    assert run.data.metrics["valid.accuracy"] == 0.5
    (child,) = [each for each in store.runs(experiment="waited") if each.info.run_id != run.info.run_id]
    assert child.data.metrics["valid.accuracy"] == 0.75
    assert child.data.params == {"evaluate.flips": "4"}


def dies(root: Path, host: str, epochs: int) -> None:
    """A training on that host that is killed after some epochs; of its last one nobody hears."""
    platform.node = lambda: host
    with begin_pass(make_job(root, application="moved"), PASS) as tracker:
        for epoch in range(1, epochs + 1):
            tracker.epoch_ended(row(epoch))
        tracker.outbox._keep(tracker.epoch(row(epochs + 1)))
        os.kill(os.getpid(), signal.SIGKILL)


def goes_on(root: Path, host: str, epochs: tuple[int, ...]) -> None:
    platform.node = lambda: host
    train(make_job(root, application="moved"), epochs)


def run_process(target: Any, *arguments: Any) -> int | None:
    child = PROCESSES.Process(target=target, args=arguments)
    child.start()
    child.join()
    return child.exitcode


def test_a_pass_goes_on_in_the_same_run_on_another_host(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_process(dies, one, "host-one", 3) == -signal.SIGKILL
    first = only_run(one, "moved")
    assert (first.info.status, first.data.tags["practicum.host"]) == ("RUNNING", "host-one")

    monkeypatch.setenv("PRACTICUM_SILENT_MINUTES", "1000")
    train(make_job(two, application="bystander"), range(1, 2))
    assert only_run(two, "moved").info.status == "RUNNING"  # it may only be slow
    monkeypatch.setenv("PRACTICUM_SILENT_MINUTES", "0.0001")
    train(make_job(two, application="bystander"), range(1, 2))
    closed = only_run(two, "moved").info
    assert closed.status == "KILLED"
    assert closed.end_time == int(first.data.tags[HEARTBEAT])

    monkeypatch.delenv("PRACTICUM_SILENT_MINUTES")
    assert run_process(goes_on, two, "host-two", (2, 3, 4, 5, 6)) == 0
    send_waiting(checkout(one))  # the first host is back, with an epoch that nobody heard of
    moved = only_run(two, "moved")
    assert moved.info.run_id == first.info.run_id
    assert (moved.info.status, moved.data.tags["practicum.host"]) == ("FINISHED", "host-two")
    for metric in ("epoch", "train_loss", "valid_loss"):
        assert steps(two, metric, "moved") == [1, 2, 3, 4, 5, 6]


def test_a_late_message_of_a_dead_process_does_not_open_a_finished_run(
    tmp_path: Path, server: Server, postgres: Postgres
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with begin_pass(make_job(one, application="late"), PASS) as tracker:
        tracker.epoch_ended(row(1))
        postgres.stop()
        tracker.epoch_ended(row(2))  # says that it is RUNNING, and then KILLED
        tracker.outbox.post(tracker.message(status="KILLED"))
    postgres.start()
    train(make_job(two, application="late"), (2, 3))
    ended = only_run(two, "late")
    assert waiting(one)
    until(lambda: sent_all_but(one, 0), "what was kept is sent")
    late = only_run(two, "late")
    assert (late.info.status, late.info.end_time) == ("FINISHED", ended.info.end_time)
    assert late.data.tags == ended.data.tags
    assert steps(two, "train_loss", "late") == [1, 2, 3]


def test_a_bad_message_holds_nothing_up(
    tmp_path: Path, server: Server, postgres: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    with begin_pass(make_job(tmp_path, application="refused"), PASS) as tracker:
        postgres.stop()
        tracker.outbox.post(tracker.message(tags={"no/such:key?\n": "refused"}))
        tracker.outbox.post(tracker.message(tags={"text": "PostgreSQL holds no \0: an error of the server"}))
        tracker.epoch_ended(row(1))
        postgres.start()
        until(lambda: sent_all_but(tmp_path, 1), "what was kept is sent")
        tracker.outbox.post(tracker.message(tags={"no/such:key?\n": "refused while the server is there"}))
        tracker.epoch_ended(row(2))
    assert steps(tmp_path, "train_loss", "refused") == [1, 2]
    assert only_run(tmp_path, "refused").info.status == "FINISHED"
    (bad,) = waiting(tmp_path)
    assert "\\u0000" in bad.read_text()
    assert len(list((tmp_path / ".practicum" / "unsent").glob("*.refused"))) == 2
    assert capfd.readouterr().err.count("not sent again") == 2


def test_a_run_that_somebody_deletes_begins_anew(tmp_path: Path, server: Server) -> None:
    job = make_job(tmp_path, application="deleted")
    with begin_pass(job, PASS) as tracker:
        tracker.epoch_ended(row(1))
        store_of(tmp_path).client.delete_run(only_run(tmp_path, "deleted").info.run_id)
        tracker.epoch_ended(row(2))
    assert steps(tmp_path, "train_loss", "deleted") == [2]
    assert only_run(tmp_path, "deleted").info.status == "FINISHED"
    assert Counter(run.info.status for run in store_of(tmp_path).runs(experiment="deleted")) == {
        "FINISHED": 1
    }
