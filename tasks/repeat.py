"""Repeat split, fine_tune and evaluate over seeds or folds in side workspaces, and record what came out."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from tasks.aside import require, run_aside
from tasks.changes import change, with_changes
from tasks.fine_tune import write_json
from tasks.parameters import load_parameters
from tasks.pipeline import STAGE_NAMES
from tasks.workspace import Workspace, checkout

OWN = ("split", "fine_tune", "evaluate")
"""Stages that each repetition runs itself; the cleaned examples are the checkout's."""

VERSIONS = ("torch", "torchvision", "numpy", "pillow", "practicum")


def repeat(application: str, *, seeds: int = 0, folds: int = 0, workspace: Workspace | None = None) -> Path:
    """Run `seeds` repetitions with a split each, or `folds` parts of a cross-validation.

    The settings are those of `params.yaml`; seed i replaces `split.seed` and `fine_tune.seed`. Writes
    `docs/results/APP.json`: the data and its extent, hardware, versions, every run. A run that was finished
    before, from the same data, settings and code, is taken as it stands. ValueError unless exactly one of
    both numbers is given, with at least two runs.
    """
    if bool(seeds) == bool(folds) or max(seeds, folds) < 2:
        raise ValueError("give either --seeds N or --folds K, with at least 2 of them")
    workspace = workspace or checkout()
    parameters = load_parameters(workspace.root / "params.yaml")
    entry, recipe = parameters.application(application)
    require(workspace, application, "clean")
    runs = []
    for number in range(folds or seeds):
        changes = {"split.folds": folds, "split.fold": number} if folds else seeded(number + 1)
        side = workspace.side(f"repeat/{application}/{number}", own=OWN, stages=STAGE_NAMES)
        changed = with_changes(parameters, application, changes)
        run = run_aside(application, OWN, side=side, parameters=changed, door="repeat")
        named: dict[str, Any] = {}
        for setting, value in changes.items():
            change(named, setting, value)
        runs.append({**named, **run})
        reached = f"{recipe.metrics[0]} {runs[-1]['metrics'][recipe.metrics[0]]:.4f}"
        print(f"{application} {number + 1} of {folds or seeds}: {reached}", flush=True)
    folder = side.folder(application, "evaluate")
    provenance = json.loads((folder / "provenance.json").read_text())
    course = entry.export.course
    result = {
        "application": application,
        "title": recipe.title,
        "edition": parameters.edition,
        "data": {
            key: provenance[key]
            for key in ("source", "title", "extent", "extent_note", "rows", "rejects", "files")
        },
        "starts_from": entry.starts_from,
        "settings": {stage: entry.block(stage).model_dump(mode="json") for stage in ("clean", *OWN)},
        "headline": recipe.metrics[0],
        "higher_is_better": recipe.higher_is_better,
        "course": course.model_dump(mode="json") if course else None,
        "runs": runs,
        "summary": {name: spread([run["metrics"][name] for run in runs]) for name in recipe.metrics},
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in VERSIONS}},
        "commit": commit(workspace.root),
        "command": f"python -m flows repeat {application} "
        + (f"--folds {folds}" if folds else f"--seeds {seeds}"),
    }
    path = workspace.root / "docs" / "results" / f"{application}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    return path


def seeded(seed: int) -> dict[str, int]:
    """The changes that give a run a split and weights of its own."""
    return {"split.seed": seed, "fine_tune.seed": seed}


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Mean, sample standard deviation, smallest and largest of the runs."""
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values),
        "smallest": min(values),
        "largest": max(values),
        "runs": len(values),
    }


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and accelerator of this machine."""
    import torch

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor() -> str:
    """The processor's own name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def installed(package: str) -> str:
    """Version of an installed package; the project itself is not installed, so its own file tells."""
    if package == "practicum":
        import tomllib

        project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
        return str(project["project"]["version"])
    return version(package)


def commit(root: Path) -> str | None:
    """The commit checked out at `root`, marked where the tree differs from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return described.stdout.strip() or None
