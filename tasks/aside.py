"""Stages of one application with other settings, in a side workspace: what repetitions and trials share."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from tasks.checkpoint import digest_of, file_digest, weights_file
from tasks.fine_tune import write_json
from tasks.parameters import Parameters
from tasks.pipeline import Trial, run_stage
from tasks.workspace import Workspace

RECORD = "run.json"
"""A finished run, in the folder of its side workspace."""


def run_aside(
    application: str,
    stages: Sequence[str],
    *,
    side: Workspace,
    parameters: Parameters,
    door: str,
    trial: Trial | None = None,
) -> dict[str, Any]:
    """Run `stages`, of which the last is `evaluate`, and return metrics, parts of the split and seconds.

    The metrics are those of the validation part, or of the test part where nothing else is held out. A run
    that was finished before, from the same data, settings and code, is taken as it stands.
    """
    folder, record = side.folder(application, "evaluate"), side.state / RECORD
    same = identity(side, application, parameters)
    held = json.loads(record.read_text()) if record.is_file() else {}
    if held.get("identity") != same or not folder.is_dir():
        seconds = {
            stage: run_stage(
                stage, application, workspace=side, parameters=parameters, door=door, trial=trial
            ).seconds
            for stage in stages
        }
        metrics = json.loads((folder / "metrics.json").read_text())
        split = json.loads((folder / "provenance.json").read_text())["split"]
        part = metrics.get("valid") or metrics["test"]
        held = {"identity": same, "run": {"metrics": part, "parts": split["parts"], "seconds": seconds}}
        write_json(record, held)
    run: dict[str, Any] = held["run"]
    return run


def identity(workspace: Workspace, application: str, parameters: Parameters) -> str:
    """sha256 over what a run depends on: its entry and its grounds."""
    return digest([parameters.applications[application], *grounds(workspace, application, parameters)])


def grounds(workspace: Workspace, application: str, parameters: Parameters) -> list[Any]:
    """What a run depends on beside its settings: what it borrows, other networks and its code, as JSON."""
    entry, _ = parameters.application(application)
    provenance = json.loads((workspace.folder(application, "clean") / "provenance.json").read_text())
    others = {
        field: digest_of(weights_file(workspace, application, entry, field))
        for field in ("starts_from", "judge")
    }
    folders = (workspace.root / "models" / entry.family, workspace.root / "recipes" / "evaluation")
    code = [
        workspace.root / "recipes" / f"{entry.recipe}.py",
        workspace.root / "models" / "engine_version.txt",
        *(file for folder in folders for file in sorted(folder.rglob("*.py"))),
    ]
    facts = [provenance["content"], others, *map(file_digest, code)]
    if "split" in workspace.borrowed:
        facts.append(pq.read_table(workspace.folder(application, "split") / "split.parquet").to_pydict())
    return facts


def digest(facts: Any) -> str:
    """sha256 of anything that JSON can hold, hexadecimal."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def require(workspace: Workspace, application: str, *stages: str) -> None:
    """ValueError unless these stages, which a side workspace borrows, have run."""
    for stage in stages:
        if not workspace.folder(application, stage).is_dir():
            raise ValueError(
                f"{application} has no output of {stage} yet; run `dvc repro {stage}@{application}` first"
            )
