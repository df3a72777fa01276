"""The way into MLflow: runs found by our own key, nothing logged twice, whoever sends it and how often.

MLflow gives run ids itself, so a run carries our key as a tag and every message names that key.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported

KEY = "practicum.pass"
SEARCH = "practicum.search"
"""Tag of the run of a whole search; its trials are children of it."""
HEARTBEAT = "practicum.heartbeat"
"""Tag of a run: when its process last said that it lives, in milliseconds since 1970."""
FAULTY = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
"""Codes by which MLflow means the message. Any other may pass: a database that restarts is reported as 503,
500 or, for an interrupted statement, 400."""
BATCH = 100
"""MLflow takes 1000 metrics and 100 parameters or tags at once."""
NOTE = "mlflow.note.content"
"""The tag that MLflow's pages show as a description."""
LATER = {408, 425, 429}
"""Of the 4xx answers to a file, those that mean the moment."""

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
    about: str = ""
    """What all runs of the experiment are about: its description, where nobody has written one."""
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
    once: tuple[str, str] | None = None
    """A tag and its value. The first message with that tag is logged in the run and puts the tag there last;
    one with the same value is dropped; one with another value goes to a child of the run, KEY/VALUE."""


class UnreachableError(OSError):
    """The tracking server or its database did not answer."""


class RefusedError(OSError):
    """The tracking server does not take a message: sending it again would change nothing."""


class Store:
    """An MLflow tracking store, with the runs of this process remembered by key."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        """`artifacts` is where experiments of a store without a server keep their files."""
        self.uri = uri
        self.artifacts = artifacts
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._runs: dict[tuple[str, str], str] = {}
        self._steps: dict[str, set[int]] = {}
        """Epochs that a run is known to have; another host may have logged more."""

    @property
    def client(self) -> "MlflowClient":
        """Connected at first use; the first process of all makes the tables, the others wait for it."""
        if self._client is None:
            # A server that is down must cost seconds, not the minutes of MLflow's seven attempts.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
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
        """UnreachableError for a failure of the way there, RefusedError for a message that is at fault."""
        from mlflow.exceptions import MlflowException
        from requests.exceptions import HTTPError, RequestException
        from sqlalchemy.exc import OperationalError

        try:
            yield
        except MlflowException as error:
            if error.error_code in FAULTY:
                raise RefusedError(f"MLflow at {self.uri} refuses: {reason(error)}") from error
            raise UnreachableError(f"MLflow at {self.uri} does not answer: {reason(error)}") from error
        except HTTPError as error:  # of a file
            status = error.response.status_code if error.response is not None else 500
            if 400 <= status < 500 and status not in LATER:
                raise RefusedError(f"MLflow at {self.uri} refuses: {reason(error)}") from error
            raise UnreachableError(f"MLflow at {self.uri} does not answer: {reason(error)}") from error
        except (RequestException, OperationalError, ConnectionError, TimeoutError) as error:
            raise UnreachableError(f"MLflow at {self.uri} does not answer: {reason(error)}") from error

    def answers(self) -> bool:
        """Whether the server and its database are there."""
        try:
            with self.reached():
                self.client.search_experiments(max_results=1)
        except UnreachableError:
            return False
        return True

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

    def runs(self, where: str = "", *, experiment: str | None = None) -> Iterator["Run"]:
        """Runs of this project, newest first: of one experiment or of all that the server has.

        `where` is a filter in MLflow's words. Nothing where there is no such experiment.
        """
        if experiment is None:
            listed = self._pages(lambda token: self.client.search_experiments(page_token=token))
            experiments = [each.experiment_id for each in listed]
        else:
            found = self.client.get_experiment_by_name(experiment)
            experiments = [found.experiment_id] if found is not None else []
        pages = self._pages(
            lambda token: self.client.search_runs(
                experiments, where, order_by=["attributes.start_time DESC"], page_token=token
            )
        )
        return (run for run in pages if KEY in run.data.tags) if experiments else iter(())

    @staticmethod
    def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
        token = None
        while True:
            page = ask(token)
            yield from page
            token = page.token
            if not token:
                return

    def find(self, experiment: str, key: str) -> str | None:
        """Id of the run with that key."""
        if (experiment, key) not in self._runs:
            found = self.client.search_runs(
                [self.experiment(experiment)], f"tags.`{KEY}` = '{key}'", max_results=1
            )
            if not found:
                return None
            self._runs[experiment, key] = found[0].info.run_id
        return self._runs[experiment, key]

    def send(self, message: Message, *, late: bool = False) -> None:
        """Log one message; what the run has stays as it is. UnreachableError where it did not arrive.

        `late` is a message that waited: where its run has gone on since, it changes nothing of its state.
        """
        with self.reached():
            run = self._run(message)
            if message.once is not None:
                tag, value = message.once
                logged = run.data.tags.get(tag)
                if logged == value:
                    return
                if logged is not None:
                    key = f"{message.key}/{value}"
                    message = replace(
                        message, key=key, parent=message.key, name=f"{tag.rpartition('.')[2]} {value[:8]}"
                    )
                    run = self._run(message)
                    if run.data.tags.get(tag) == value:
                        return
            self._log(run, message, stale=late and message.time < _last_sign(run))

    def _run(self, message: Message) -> "Run":
        """The run of the message, as it is now; made where there is none or where somebody deleted it."""
        name = message.experiment, message.key
        found = self.find(*name)
        if found is not None:
            run = self.client.get_run(found)
            if run.info.lifecycle_stage == "active":
                return run
            del self._runs[name]
        tags = {KEY: message.key, **message.created}
        if message.parent is not None:
            parent = self.find(message.experiment, message.parent)
            if parent is not None:
                tags["mlflow.parentRunId"] = parent
        experiment = self.experiment(message.experiment)
        if message.about and not self.client.get_experiment(experiment).tags.get(NOTE):
            self.client.set_experiment_tag(experiment, NOTE, message.about)
        run = self.client.create_run(experiment, start_time=message.time, tags=tags, run_name=message.name)
        self._runs[name] = str(run.info.run_id)
        return run

    def _log(self, run: "Run", message: Message, *, stale: bool) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        id_, data = run.info.run_id, run.data
        params = {name: value for name, value in message.params.items() if name not in data.params}
        metrics = message.metrics
        if message.step is None:
            metrics = {name: value for name, value in metrics.items() if name not in data.metrics}
        elif self._has_epoch(run, message.step):
            metrics = {}
        rows = [Metric(name, value, message.time, message.step or 0) for name, value in metrics.items()]
        past = stale and message.status == "RUNNING"  # its tags name a process that is gone
        tags = {} if past else message.tags
        for metrics_, params_, tags_ in zip_longest(
            [rows],
            _portions([Param(name, value) for name, value in params.items()]),
            _portions([RunTag(name, value) for name, value in tags.items()]),
            fillvalue=(),
        ):
            if metrics_ or params_ or tags_:
                self.client.log_batch(id_, metrics=metrics_, params=params_, tags=tags_)
        if message.step is not None:
            self._steps.setdefault(id_, set()).add(message.step)
        if message.inputs:
            self.client.log_inputs(
                id_,
                [
                    DatasetInput(
                        Dataset(**each["dataset"]), [InputTag("mlflow.data.context", each["context"])]
                    )
                    for each in message.inputs
                ],
            )
        for path, folder in message.files:
            if Path(path).is_dir():
                self.client.log_artifacts(id_, path, folder)
            else:
                self.client.log_artifact(id_, path, folder)
        if message.once is not None:
            self.client.set_tag(id_, *message.once)
        if message.status is None or stale or run.info.status == message.status:
            return
        if message.status == "RUNNING":
            self.client.update_run(id_, status="RUNNING")
        else:
            self.client.set_terminated(id_, message.status, end_time=message.time)

    def _has_epoch(self, run: "Run", epoch: int) -> bool:
        """Whether the run holds that epoch: each epoch's batch has a metric `epoch`."""
        known = self._steps.setdefault(run.info.run_id, set())
        if epoch not in known and epoch <= run.data.metrics.get("epoch", 0):
            known |= {metric.step for metric in self.client.get_metric_history(run.info.run_id, "epoch")}
        return epoch in known


def _last_sign(run: "Run") -> int:
    """When the run ended or was last heard of, in milliseconds since 1970."""
    return max(run.info.end_time or 0, int(run.data.tags.get(HEARTBEAT, 0)))


def _portions(rows: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def reason(error: BaseException) -> str:
    """What an error says, short enough for one line; of several around each other the innermost."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
