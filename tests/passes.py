"""Passes of `fine_tune` as MLflow sees them, without training: a job, its epochs, and what is recorded."""

import json
import multiprocessing
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tasks.parameters import Application, DownloadBlock, Parameters, SplitBlock
from tasks.pipeline import Job, find_stage
from tasks.store import Store
from tasks.tracking import begin_pass, open_store
from tasks.workspace import checkout
from tests.scratch import git

PASS = "ab" * 32

PROCESSES = multiprocessing.get_context("forkserver")
"""Processes of their own that do not import MLflow anew each."""
PROCESSES.set_forkserver_preload(["mlflow", "tasks.tracking", "tests.passes"])


def make_job(
    root: Path, stage: str = "fine_tune", *, application: str = "app", rate: float = 0.1, **evaluate: Any
) -> Job:
    """A job in a git repository of its own, with what `clean` and `fine_tune` would have left."""
    if not (root / ".git").exists():
        root.mkdir(parents=True, exist_ok=True)
        git(root, "init", "-q")
        (root / "README").write_text("scratch")
        git(root, "add", "README")
        git(root, "commit", "-q", "-m", "first")
    workspace = checkout(root)
    for folder in ("clean", "split", "fine_tune"):
        workspace.folder(application, folder).mkdir(parents=True, exist_ok=True)
    provenance = {"source": "shapes", "content": "cd" * 32, "extent": "generated", "rows": 12}
    (workspace.folder(application, "clean") / "provenance.json").write_text(json.dumps(provenance))
    entry = Application(
        recipe="shapes", family="vision", source="sources/shapes.yaml", download=DownloadBlock(), clean={},
        corrections="sources/none", starts_from="sources/none", judge="sources/none",
        split=SplitBlock(seed=7), fine_tune={"rates": {"head": rate}, "epochs": 3}, evaluate=evaluate,
        export={},
    )  # fmt: skip
    return Job(
        stage=find_stage(stage), application=application, entry=entry,
        recipe=SimpleNamespace(about="Shapes (course: lesson 0)"), workspace=workspace,
        parameters=Parameters(edition="sample", applications={}), output=root, door="command",
    )  # type: ignore[arg-type]  # fmt: skip


def row(epoch: int) -> dict[str, Any]:
    return {"phase": "frozen", "epoch": epoch, "train_loss": 1 / epoch, "valid_loss": 2 / epoch}


def train(job: Job, epochs: Iterable[int], key: str = PASS) -> None:
    with begin_pass(job, key) as tracker:
        tracker.began((), None)
        for epoch in epochs:
            tracker.step_ended(None)
            tracker.epoch_ended(row(epoch))
        tracker.finished(SimpleNamespace(kept_epoch=epoch))


def only_run(root: Path, application: str = "app") -> Any:
    """The one run of the application that is no child of another."""
    runs = list(store_of(root).runs(experiment=application))
    (found,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return found


def steps(root: Path, metric: str, application: str = "app") -> list[int]:
    """Epochs of every recorded point, in order; a point that was logged twice stands there twice."""
    run = only_run(root, application)
    return sorted(point.step for point in store_of(root).client.get_metric_history(run.info.run_id, metric))


def store_of(root: Path) -> Store:
    return open_store(checkout(root))
