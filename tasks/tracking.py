"""What happened, for MLflow: one run per pass of `fine_tune`, found again by its fingerprint.

A pass that a killed process left, a restored one and a repeated one go on in the same run, nothing in it
is logged twice. Where the tracking server is down, training goes on and the record waits
(`PRACTICUM_TRACKING=continue`, the default) or stops at once (`PRACTICUM_TRACKING=stop`).
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from tasks.liveness import HEARTBEAT_SECONDS, close_dead_runs, signs, silent_seconds
from tasks.lock_file import recorded_digest
from tasks.machine_load import Load
from tasks.outbox import Outbox
from tasks.outcomes import OUTCOMES, write_outcomes
from tasks.parameters import load_parameters, nearest
from tasks.store import Message, RefusedError, Status, Store, UnreachableError
from tasks.workspace import Workspace, shared_state

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.pipeline import Job

ON_FAILURE = ("continue", "stop")


def tracking_uri(workspace: Workspace) -> str:
    """Where runs are recorded: MLFLOW_TRACKING_URI, or a database that all work trees of a checkout share."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{shared_state(workspace.root) / 'mlflow.db'}"


def open_store(workspace: Workspace) -> Store:
    """The store at that address; without a server, files of runs lie beside the database."""
    uri = tracking_uri(workspace)
    own = uri.startswith("sqlite:///")
    return Store(uri, Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" if own else None)


def page(address: str, path: str = "experiments") -> str:
    """The address of one of MLflow's pages, on the side for trainings.

    The pages open on the side for language models, which shows no run, until somebody chooses the other.
    """
    return f"{address.rstrip('/')}/#/{path}?workflowType=machine_learning"


def open_outbox(workspace: Workspace) -> Outbox:
    """The way to that store. ValueError where PRACTICUM_TRACKING is neither `continue` nor `stop`."""
    wanted = os.environ.get("PRACTICUM_TRACKING", "continue")
    if wanted not in ON_FAILURE:
        raise ValueError(f"PRACTICUM_TRACKING is {wanted!r}{nearest(wanted, ON_FAILURE)}")
    on_failure: Literal["continue", "stop"] = "stop" if wanted == "stop" else "continue"
    return Outbox(open_store(workspace), shared_state(workspace.root) / "unsent", on_failure=on_failure)


def find_pass(application: str, workspace: Workspace) -> str | None:
    """Id of the run that trained what lies in `fine_tune` now; None where no such run is recorded."""
    from tasks.checkpoint import fingerprint
    from tasks.pipeline import Job, find_stage

    parameters = load_parameters(workspace.root / "params.yaml")
    entry, recipe = parameters.application(application)
    tuned = workspace.folder(application, "fine_tune")
    settings = recipe.blocks["fine_tune"].model_validate_json((tuned / "settings.json").read_text())
    job = Job(
        stage=find_stage("fine_tune"), application=application, recipe=recipe, parameters=parameters,
        entry=entry.model_copy(update={"fine_tune": settings}), workspace=workspace, output=tuned,
        door="command",
    )  # fmt: skip
    outbox = open_outbox(workspace)
    outbox.flush()
    with outbox.store.reached():
        return outbox.store.find(application, fingerprint(job))


def begin_pass(job: "Job", fingerprint: str) -> "Tracker":
    """The run of this pass, found by its fingerprint or made: a context manager and a watcher of `fit`.

    OSError where the server is down and PRACTICUM_TRACKING is `stop`.
    """
    outbox = open_outbox(job.workspace)
    try:
        tidy(outbox)
    except (UnreachableError, RefusedError):
        if outbox.on_failure == "stop":
            raise
    return Tracker(job, fingerprint, outbox)


def tidy(outbox: Outbox) -> None:
    """What every start does first: send what waits, then close runs that nobody works on."""
    outbox.flush()
    with outbox.store.reached():
        close_dead_runs(outbox.store)


def send_waiting(workspace: Workspace) -> None:
    """Send what could not be sent before, if the server is back. Costs nothing where nothing waits."""
    outbox = open_outbox(workspace)
    if outbox.waiting():
        try:
            tidy(outbox)
        except UnreachableError as error:
            print(f"{error}. {len(outbox.waiting())} messages go on waiting", file=sys.stderr)


def begin_evaluation(
    job: "Job",
    fingerprint: str,
    *,
    metrics: Mapping[str, Any],
    figures: Path | None = None,
    predictions: "pa.Table | None" = None,
) -> None:
    """Log the evaluation of a pass into its run, once; with other `evaluate` parameters, into a child of it.

    `metrics` is what `metrics.json` holds (numbers by part); `figures` is a folder of pictures. Of the
    `predictions` the outcome of each item is kept, by which `compare` tells two runs apart.
    """
    settings = _flat("evaluate", _plain(job.block))
    which = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    outbox = open_outbox(job.workspace)
    tracker = Tracker(job, fingerprint, outbox)
    outbox.post(tracker.opening())
    for row in _history(job):  # a pass that was restored, or made elsewhere, has no run here yet
        outbox.post(tracker.epoch(row))
    with TemporaryDirectory() as folder:
        files = [(str(figures), "figures")] if figures is not None else []
        if predictions is not None:
            files.append((str(write_outcomes(predictions, Path(folder))), OUTCOMES))
        outbox.post(
            tracker.message(
                params={name: str(value) for name, value in settings.items()},
                metrics=_numbers(_flat("", metrics)),
                once=("practicum.evaluation", which),
                files=files,
                status="FINISHED",
            ),
            now=True,
        )


class Tracker:
    """Logs one pass. Every epoch is one message: its losses, metrics and rate, and the machine's load."""

    def __init__(self, job: "Job", fingerprint: str, outbox: Outbox) -> None:
        self.job = job
        self.fingerprint = fingerprint
        self.key = job.trial.key if job.trial else fingerprint
        self.outbox = outbox
        self._load = Load(outbox.store.uri)
        self._pause = min(HEARTBEAT_SECONDS, silent_seconds() / 4)
        self._beat = 0.0

    def __enter__(self) -> "Tracker":
        self._post_alive(self.opening())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status: Status = "FINISHED"
        if kind is not None:
            status = "KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED"
        tags = {"practicum.error": str(error)[:500]} if error is not None else {}
        try:
            self.outbox.post(self.message(status=status, tags=tags), now=True)
        except (UnreachableError, RefusedError) as lost:
            if error is None:
                raise
            print(lost, file=sys.stderr)  # the training's own error is the one to see

    def began(self, phases: Any, position: Any) -> None:
        """Of the watcher; the run was opened before."""

    def step_ended(self, step: Any) -> None:
        """Of the watcher: a look at the machine every few seconds, a sign of life every minute."""
        self._load.sample()
        if time.monotonic() >= self._beat:
            self._post_alive(self.message(), keep=False)

    def epoch_ended(self, row: Mapping[str, Any]) -> None:
        """Of the watcher: everything about this epoch in one message."""
        self._post_alive(self.epoch({**row, **self._load.mean()}))

    def finished(self, history: Any) -> None:
        """Of the watcher: which epoch's weights were kept."""
        kept = getattr(history, "kept_epoch", None)
        if kept is not None:
            self.outbox.post(self.message(tags={"practicum.kept_epoch": str(kept)}))

    def _post_alive(self, message: Message, *, keep: bool = True) -> None:
        """Every such message says that this process works on the run: one closed by mistake is open again."""
        alive = replace(message, tags={**message.tags, **signs()}, status="RUNNING")
        self.outbox.post(alive, keep=keep)
        self._beat = time.monotonic() + self._pause

    def attach(self, folder: Path, place: str) -> None:
        """A folder of files below `place` of the run's artifacts."""
        self.outbox.post(self.message(files=[(str(folder), place)]))

    def message(self, **content: Any) -> Message:
        """A message for the run of this pass."""
        return Message(
            experiment=self.job.application, key=self.key, name=self.name(), created=self.origin,
            about=self.job.recipe.about,
            parent=self.job.trial.search if self.job.trial else None, **{"time": _now(), **content},
        )  # fmt: skip

    def name(self) -> str:
        """What people read: edition and the start of the fingerprint; of a trial its number.

        Short, because the list of runs shows some twenty letters.
        """
        if self.job.trial:
            return f"trial {self.job.trial.number}"
        return f"{self.job.parameters.edition} {self.fingerprint[:8]}"

    @cached_property
    def origin(self) -> dict[str, str]:
        """Tags that say where a run comes from; they stay as they were when it was made."""
        root = self.job.workspace.root
        provenance = self._provenance()
        return {
            "practicum.application": self.job.application,
            "practicum.recipe": self.job.entry.recipe,
            "practicum.edition": self.job.parameters.edition,
            "practicum.extent": str(provenance.get("extent", "")),
            "practicum.content": str(provenance.get("content", "")),
            "practicum.door": self.job.door,
            "practicum.dirty": str(bool(_git(root, "status", "--porcelain", "--untracked-files=no"))).lower(),
            "mlflow.source.git.commit": _git(root, "rev-parse", "HEAD"),
            "mlflow.source.name": f"python -m tasks {self.job.stage.name} {self.job.application}",
            "mlflow.source.type": "PROJECT",
        }

    def opening(self) -> Message:
        """Parameters and data."""
        entry = self.job.entry
        params: dict[str, Any] = {
            "edition": self.job.parameters.edition,
            "mirror": self.job.parameters.mirror,
        }
        for field in ("recipe", "source", "corrections", "starts_from", "judge"):
            params[field] = getattr(entry, field)
        for block in ("download", "clean", "split", "fine_tune"):
            params |= _flat(block, _plain(entry.block(block)))
        return self.message(
            params={name: str(value) for name, value in params.items()}, inputs=[self.dataset()]
        )

    def epoch(self, row: Mapping[str, Any]) -> Message:
        """The numbers of one row of the history."""
        return self.message(step=int(row["epoch"]), metrics=_numbers(row))

    def dataset(self) -> dict[str, Any]:
        """The cleaned examples as MLflow's data set: digest that DVC recorded, else of the content."""
        stage = f"clean@{self.job.application}"
        clean, root = self.job.read("clean"), self.job.workspace.root
        provenance = self._provenance()
        tracked = clean == root / "artifacts" / self.job.application / "clean"
        digest = recorded_digest(root, stage) if tracked else None
        profile = {name: provenance.get(name) for name in ("rows", "rejects", "extent", "licence")}
        source = {
            "stage": stage,
            "rev": _git(root, "rev-parse", "HEAD"),
            "content": provenance.get("content"),
        }
        return {
            "dataset": {
                "name": Path(provenance.get("source", self.job.application)).name,
                "digest": (digest or str(provenance.get("content", "")))[:36],  # MLflow's column holds 36
                "source_type": "dvc" if digest else "local",
                "source": json.dumps(source, sort_keys=True),
                "profile": json.dumps(profile, sort_keys=True),
            },
            "context": "training",
        }

    def _provenance(self) -> dict[str, Any]:
        path = self.job.read("clean") / "provenance.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found


def _history(job: "Job") -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    path = job.read("fine_tune") / "history.parquet"
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.exists() else []
    return rows


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _plain(block: Any) -> Any:
    return block.model_dump(mode="json") if hasattr(block, "model_dump") else block


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; anything but mappings is a value."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    return flat


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _now() -> int:
    return time.time_ns() // 1_000_000
