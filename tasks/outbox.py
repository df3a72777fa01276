"""The way to MLflow: runs found by our own key, nothing logged twice, what could not be sent kept for later.

MLflow gives run ids itself, so a run carries our key as a tag and every message names that key. A message
that did not arrive is a file in the outbox; it is sent before anything else once the server answers again.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

KEY = "practicum.pass"
RETRY_SECONDS = 30.0
"""Pause between attempts at a server that is down, so that training does not wait for it at every epoch."""
BATCH = 100
"""MLflow takes 1000 metrics and 100 parameters or tags at once."""

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One thing to log for one run. Sending it again changes nothing."""

    experiment: str
    key: str
    """Which run: the fingerprint of a pass, or a name below it for a child."""
    name: str
    """What people read in the list of runs."""
    parent: str | None = None
    """Key of the run that this one is a child of."""
    created: dict[str, str] = field(default_factory=dict)
    """Tags of the first message only: they stay as they were when the run was made."""
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    """Logged where the run has no parameter of that name yet."""
    step: int | None = None
    """Epoch, counted from 1. An epoch that the run has is not logged again; nor, without one, is a metric."""
    metrics: dict[str, float] = field(default_factory=dict)
    time: int = 0
    """When it was measured, in milliseconds since 1970."""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    """Data sets: `dataset` with the fields of MLflow's entity, and `context`."""
    files: list[tuple[str, str]] = field(default_factory=list)
    """Pairs (file or folder, folder among the run's artifacts)."""
    status: Status | None = None


class UnreachableError(OSError):
    """The tracking server or its database did not answer."""


class Store:
    """An MLflow tracking store, with the runs of this process remembered by key."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        """`artifacts` is where experiments of a store without a server keep their files."""
        self.uri = uri
        self.artifacts = artifacts
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._steps: dict[str, set[int]] = {}

    @property
    def client(self) -> "MlflowClient":
        """Connected at first use; the first process of all makes the tables, the others wait for it."""
        if self._client is None:
            # A server that is down must cost seconds, not the minutes of MLflow's seven attempts.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
            logging.getLogger("alembic").setLevel(logging.WARNING)
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
            from mlflow import MlflowClient

            if self.artifacts is not None:
                self.artifacts.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(self.artifacts.with_suffix(".lock")):
                    self._client = MlflowClient(self.uri)
                    self._client.search_experiments(max_results=1)
            else:
                self._client = MlflowClient(self.uri)
        return self._client

    @contextmanager
    def reached(self) -> Iterator[None]:
        """UnreachableError for a failure of the way there; a refused message stays the error it is."""
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import OperationalError

        try:
            yield
        except MlflowException as error:
            if error.error_code in {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}:
                raise UnreachableError(
                    f"MLflow at {self.uri} does not answer: {_first_line(error)}"
                ) from error
            raise
        except (RequestException, OperationalError, ConnectionError, TimeoutError) as error:
            raise UnreachableError(f"MLflow at {self.uri} does not answer: {_first_line(error)}") from error

    def experiment(self, name: str) -> str:
        """Id of the experiment of that name, made where there is none."""
        from mlflow.exceptions import MlflowException

        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                location = (self.artifacts / name).as_uri() if self.artifacts else None
                try:
                    self._experiments[name] = self.client.create_experiment(name, artifact_location=location)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    found = self.client.get_experiment_by_name(name)
            if found is not None:
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(found.experiment_id)
                self._experiments[name] = found.experiment_id
        return self._experiments[name]

    def find(self, experiment: str, key: str) -> str | None:
        """Id of the run with that key."""
        if key not in self._runs:
            found = self.client.search_runs(
                [self.experiment(experiment)], f"tags.`{KEY}` = '{key}'", max_results=1
            )
            if not found:
                return None
            self._runs[key] = found[0].info.run_id
        return self._runs[key]

    def send(self, message: Message) -> None:
        """Log one message; what the run has stays as it is. UnreachableError where it did not arrive."""
        with self.reached():
            run = self.find(message.experiment, message.key) or self._create(message)
            self._log(run, message)

    def _create(self, message: Message) -> str:
        tags = {KEY: message.key, **message.created}
        if message.parent is not None:
            parent = self.find(message.experiment, message.parent)
            if parent is not None:
                tags["mlflow.parentRunId"] = parent
        run = self.client.create_run(
            self.experiment(message.experiment), start_time=message.time, tags=tags, run_name=message.name
        )
        self._runs[message.key] = str(run.info.run_id)
        return self._runs[message.key]

    def _log(self, run: str, message: Message) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        params, metrics = dict(message.params), dict(message.metrics)
        if message.step is not None:
            if message.step in self._logged_steps(run):
                metrics = {}
        elif params or metrics:
            data = self.client.get_run(run).data
            params = {name: value for name, value in params.items() if name not in data.params}
            metrics = {name: value for name, value in metrics.items() if name not in data.metrics}
        rows = [Metric(name, value, message.time, message.step or 0) for name, value in metrics.items()]
        if rows:
            self.client.log_batch(run, metrics=rows)
        if message.step is not None:
            self._logged_steps(run).add(message.step)
        for part in _portions([Param(name, value) for name, value in params.items()]):
            self.client.log_batch(run, params=part)
        for part in _portions([RunTag(name, value) for name, value in message.tags.items()]):
            self.client.log_batch(run, tags=part)
        if message.inputs:
            self.client.log_inputs(
                run,
                [
                    DatasetInput(
                        Dataset(**each["dataset"]), [InputTag("mlflow.data.context", each["context"])]
                    )
                    for each in message.inputs
                ],
            )
        for path, folder in message.files:
            if Path(path).is_dir():
                self.client.log_artifacts(run, path, folder)
            else:
                self.client.log_artifact(run, path, folder)
        if message.status is not None and self.client.get_run(run).info.status != message.status:
            if message.status == "RUNNING":
                self.client.update_run(run, status="RUNNING")
            else:
                self.client.set_terminated(run, message.status, end_time=message.time)

    def _logged_steps(self, run: str) -> set[int]:
        """Epochs that the run has: each epoch's batch holds a metric `epoch`."""
        if run not in self._steps:
            self._steps[run] = {metric.step for metric in self.client.get_metric_history(run, "epoch")}
        return self._steps[run]


class Outbox:
    """Sends messages in order; keeps those that do not arrive as files, or stops, as configured."""

    def __init__(self, store: Store, folder: Path, *, on_failure: Literal["continue", "stop"]) -> None:
        self.store = store
        self.folder = folder
        self.on_failure = on_failure
        self._again = 0.0

    def post(self, message: Message, *, now: bool = False) -> None:
        """Send, after everything that waits. `now` tries a server that was just found down.

        UnreachableError where `on_failure` is `stop`; otherwise the message waits in the outbox.
        """
        if not now and time.monotonic() < self._again:
            self._keep(message)
            return
        try:
            self.flush()
            self.store.send(message)
        except UnreachableError as error:
            if self.on_failure == "stop":
                raise
            if not self._again:
                print(f"{error}. Going on; what is not sent waits in {self.folder}", file=sys.stderr)
            self._again = time.monotonic() + RETRY_SECONDS
            self._keep(message)
        else:
            self._again = 0.0

    def flush(self) -> int:
        """Send what waits for this store, oldest first; returns how many. Raises as `Store.send` does."""
        sent = 0
        if not self.waiting():
            return sent
        from mlflow.exceptions import MlflowException

        with FileLock(self.folder / ".lock"):
            for file in self.waiting():
                content = json.loads(file.read_text())
                if content.pop("uri") != self.store.uri:
                    continue
                try:
                    self.store.send(Message(**content))
                except MlflowException as error:  # refused: it would be refused again for ever
                    print(f"MLflow refused {file.name}: {_first_line(error)}", file=sys.stderr)
                    file.rename(file.with_suffix(".refused"))
                    continue
                file.unlink()
                shutil.rmtree(file.with_suffix(""), ignore_errors=True)
                sent += 1
        return sent

    def waiting(self) -> list[Path]:
        """Messages that were not sent, oldest first."""
        return sorted(self.folder.glob("*.json"))

    def _keep(self, message: Message) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{time.time_ns()}-{os.getpid()}.json"
        copies = []
        for number, (path, folder) in enumerate(message.files):  # a stage's folder moves when it is whole
            copy = file.with_suffix("") / str(number) / Path(path).name
            copy.parent.mkdir(parents=True)
            if Path(path).is_dir():
                shutil.copytree(path, copy)
            else:
                shutil.copy(path, copy)
            copies.append((str(copy), folder))
        content = {"uri": self.store.uri, **asdict(message), "files": copies}
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.rename(file)


def _portions(rows: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
