"""The chain: the one table of stages, and the one way to run a stage.

`dvc.yaml` is written by hand and tested to equal this table; Prefect tasks are made from it.
"""

import importlib
import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recipes.recipe import Recipe
from tasks import launch
from tasks.devices import leased
from tasks.parameters import Application, Parameters, load_parameters, nearest
from tasks.workspace import Workspace, checkout


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of the table. Templates are DVC's: `${item.source}` is the entry's own path."""

    name: str
    reads: tuple[str, ...] = ()
    """Earlier stages whose folders it reads."""
    paths: tuple[str, ...] = ()
    """Further dependencies: paths of the entry, recipe and code whose change must rerun it."""
    project: tuple[str, ...] = ()
    """Top-level parameters it reads, beside its own block."""
    outs: tuple[str, ...] = ()
    """Outputs inside its folder; none means the folder itself."""
    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    retries: int = 0
    """Retries that the flow may make: only where a retry can help."""
    distributed: bool = False
    """May be launched as several processes."""
    device: bool = False
    """Computes on an accelerator where there is one, and leases it meanwhile."""

    def run(self, job: "Job") -> "Receipt":
        """Call the stage's own file; imported here, so that a stage pays only for what it uses.

        A distributed stage is launched as several processes where there shall be several. A trial never is:
        its watchers live here, and a search makes use of more processes by running more trials.
        """
        count = launch.processes() if self.distributed and job.trial is None else 1
        if count > 1:
            return launch.launch(job, count)
        receipt: Receipt = importlib.import_module(f"tasks.{self.name}").run(job)
        return receipt


RECIPE = "recipes/${item.recipe}.py"

STAGES = (
    Stage(name="download", paths=("${item.source}",), project=("edition", "mirror"), retries=2),
    Stage(name="clean", reads=("download",), paths=("${item.corrections}", RECIPE)),
    Stage(name="split", reads=("clean",), paths=(RECIPE,)),
    Stage(
        name="fine_tune",
        reads=("clean", "split"),
        paths=(
            "${item.starts_from}",
            "${item.judge}",
            RECIPE,
            "models/${item.family}",
            "models/engine_version.txt",
        ),
        distributed=True,
        device=True,
    ),
    Stage(
        name="evaluate",
        reads=("clean", "split", "fine_tune"),
        paths=("${item.judge}", RECIPE, "recipes/evaluation"),
        outs=("predictions.parquet", "corrections.csv", "provenance.json", "figures", "tables"),
        metrics=("metrics.json",),
        plots=("plots/curves", "plots/confusion"),
        device=True,
    ),
    Stage(name="export", reads=("fine_tune", "evaluate"), paths=(RECIPE, "tasks/predictors")),
)

STAGE_NAMES = tuple(stage.name for stage in STAGES)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a search: where it is recorded, and who may end it early."""

    search: str
    """Key of the MLflow run of the whole search."""
    number: int
    """Counted from 0."""
    watchers: tuple[Any, ...] = ()
    """Watchers of the training beside the stage's own; what one raises ends the training."""

    @property
    def key(self) -> str:
        """Key of its own MLflow run."""
        return f"{self.search}/{self.number}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a stage may see."""

    stage: Stage
    application: str
    entry: Application
    recipe: Recipe
    parameters: Parameters
    workspace: Workspace
    output: Path
    """The folder to write into; it becomes the stage's folder when the stage returns."""
    door: str
    """Who asked: `dvc`, `flow` or `command`. For MLflow and the receipt only."""
    trial: Trial | None = None
    """The trial of a search that this is part of."""

    @property
    def block(self) -> Any:
        """The typed settings of this stage."""
        return self.entry.block(self.stage.name)

    def read(self, stage: str) -> Path:
        """Folder of an earlier stage that the table lets this one read."""
        assert stage in self.stage.reads, f"{self.stage.name} does not declare that it reads {stage}"
        folder = self.workspace.folder(self.application, stage)
        if not folder.is_dir():
            raise ValueError(
                f"{self.stage.name} of {self.application} needs {folder}, which does not exist;"
                f" run `python -m tasks {stage} {self.application}` or `dvc repro {stage}@{self.application}`"
            )
        return folder


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """All that a stage may return: small numbers about what it did."""

    rows: int = 0
    bytes: int = 0
    digest: str = ""
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)
    seconds: float = 0.0


def find_stage(name: str) -> Stage:
    """The row of that name. ValueError with the nearest name otherwise."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise ValueError(f"there is no stage {name!r}{nearest(name, STAGE_NAMES)}")


def run_stage(
    stage: str,
    application: str,
    *,
    workspace: Workspace | None = None,
    parameters: Parameters | None = None,
    door: str | None = None,
    trial: Trial | None = None,
) -> Receipt:
    """Run one stage of one application: the only way that any door runs a stage.

    Writes beside the final folder and renames it when whole, under a lock on the application; a stage that
    computes on accelerators waits for the lease of them. Leaves a receipt with time and host in the state
    folder, outside of what DVC tracks. Of several processes that torchrun started, the leading one does all
    this, the others only help it.
    ValueError or OSError where the input is at fault; then nothing that stood before is changed.
    """
    row = find_stage(stage)
    workspace = workspace or checkout()
    parameters = parameters or load_parameters(workspace.root / "params.yaml")
    entry, recipe = parameters.application(application)
    door = door or ("dvc" if "DVC_STAGE" in os.environ else "command")
    folder = workspace.folder(application, stage)
    helps = row.distributed and launch.follows()
    with (
        nullcontext() if helps else workspace.lock(application, stage),
        launch.aside() if helps else workspace.writing(folder) as output,
        leased(launch.asked() if row.distributed and trial is None else 1) if row.device else nullcontext(),
    ):
        started = time.time()
        job = Job(
            stage=row, application=application, entry=entry, recipe=recipe, parameters=parameters,
            workspace=workspace, output=output, door=door, trial=trial,
        )  # fmt: skip
        receipt = row.run(job)
    if helps:
        return receipt
    receipt = Receipt(**{**asdict(receipt), "seconds": round(time.time() - started, 3)})
    record = {**asdict(receipt), "started": started, "host": platform.node(), "door": door}
    path = workspace.state / "receipts" / application / f"{stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    return receipt
