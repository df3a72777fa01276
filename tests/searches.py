"""A project to search in, and what a search of it has left."""

from pathlib import Path
from typing import Any

from tasks.pipeline import run_stage
from tasks.tracking import open_store
from tasks.trials import Found
from tasks.workspace import checkout
from tests import pictures
from tests.scratch import make_project

DIVERGES = 1e30
"""A rate at which every network ends in numbers that are none."""
RATE = ("fine_tune.phases.0.rates.0=1e-3..1e-1:log",)


def project_of(folder: Path, *, epochs: int = 2, rate: float = 0.01, **split: Any) -> Path:
    """A project whose examples are cleaned and split; a network that is trained in a moment."""
    pictures.write_folder(folder / "shapes")
    entry = pictures.entry(
        split={"valid": 0.25, **split},
        fine_tune={"network": {"name": "mlp"}, "size": 16, "phases": [{"epochs": epochs, "rates": [rate]}]},
    )
    root = make_project(folder / "project", pictures.parameters(shapes=entry))
    for stage in ("download", "clean", "split"):
        run_stage(stage, "shapes", workspace=checkout(root))
    return root


def told(found: Found) -> list[tuple[Any, ...]]:
    """What a search found, without its times."""
    return [tuple(value for name, value in row.items() if name != "seconds") for row in found.rows]


def runs_of(root: Path) -> tuple[Any, list[Any]]:
    """The run of the one search of a project, and those of its trials in their order."""
    client = open_store(checkout(root)).client
    (experiment,) = [each for each in client.search_experiments() if each.name == "shapes"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return parent, sorted(children, key=lambda run: run.info.run_name)
