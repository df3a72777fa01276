"""Register an exported model in MLflow's registry: after either door, as often as one likes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.parameters import load_parameters
from tasks.workspace import Workspace, checkout

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER = "challenger"
CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is registered, and by what it is compared."""

    name: str
    """Of the registered model: application and edition, so that editions never compete."""
    folder: Path
    """The export."""
    digest: str
    """sha256 over the export's files."""
    metric: str
    value: float
    """The headline metric on the validation part."""
    higher_is_better: bool
    part: str
    """sha256 over id, label and content of the validation part's examples."""
    extent: str
    commit: str


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What `register` did."""

    name: str
    version: str
    digest: str
    created: bool
    """False where this export was registered before."""
    champion: str
    """The champion's version now."""
    reason: str
    """Why the champion is who it is."""


def register(application: str, workspace: Workspace | None = None) -> Registered:
    """Register the export as `APPLICATION-EDITION`, once per digest, under the alias `challenger`.

    `champion` moves to it only when its headline metric is better than the champion's on the same validation
    part; with another part it stays, and the reason says so. ValueError where the export is missing, older
    than the evaluation, or without a validation figure; OSError where MLflow does not answer.
    """
    from tasks.tracking import find_pass, open_store

    workspace = workspace or checkout()
    with workspace.lock(application, "register"):
        candidate = find_candidate(application, workspace)
        run_id = find_pass(application, workspace)
        store = open_store(workspace)
        with store.reached():
            return enter(store.client, candidate, experiment=store.experiment(application), run_id=run_id)


def find_candidate(application: str, workspace: Workspace) -> Candidate:
    """Read what there is to register from the finished folders."""
    from tasks.export import folder_digest
    from tasks.repeat import commit

    parameters = load_parameters(workspace.root / "params.yaml")
    _, recipe = parameters.application(application)
    folder = workspace.folder(application, "export")
    if not (folder / "MLmodel").is_file():
        raise ValueError(
            f"{application} has no export in {folder}; run `dvc repro export@{application}` first"
        )
    metrics = json.loads((folder / "metrics.json").read_text())
    evaluated = workspace.folder(application, "evaluate") / "metrics.json"
    if not evaluated.is_file() or json.loads(evaluated.read_text()) != metrics:
        raise ValueError(
            f"the export of {application} does not belong to its evaluation;"
            f" run `dvc repro export@{application}`"
        )
    headline = recipe.metrics[0]
    if headline not in metrics.get("valid", {}):
        raise ValueError(f"{evaluated} has no {headline} of part valid, by which models are compared")
    return Candidate(
        name=f"{application}-{parameters.edition}",
        folder=folder,
        digest=folder_digest(folder),
        metric=headline,
        value=float(metrics["valid"][headline]),
        higher_is_better=recipe.higher_is_better,
        part=part_digest(workspace.folder(application, "clean"), workspace.folder(application, "split")),
        extent=metrics["data"],
        commit=commit(workspace.root) or "unknown",
    )


def part_digest(clean: Path, split: Path, part: str = "valid") -> str:
    """sha256 over id, label and content digest of the examples of one part: equal for equal questions."""
    from data.examples import Items

    rows = Items(clean, split).table([part], ["item_id", "label", "digest"]).to_pylist()
    lines = sorted(json.dumps([row["item_id"], row["label"], row["digest"]]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def enter(client: MlflowClient, candidate: Candidate, *, experiment: str, run_id: str | None) -> Registered:
    """Find or make the version, point `challenger` to it, and decide about `champion`.

    `experiment` is the id of the one that keeps the files, `run_id` that of the run that trained them.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(candidate.name)
    except MlflowException:
        client.create_registered_model(candidate.name)
    known = client.search_model_versions(f"name='{candidate.name}' and tags.digest='{candidate.digest}'")
    version = known[0] if known else upload(client, candidate, experiment, run_id)
    aliases = client.get_registered_model(candidate.name).aliases
    if str(aliases.get(CHALLENGER)) != str(version.version):
        client.set_registered_model_alias(candidate.name, CHALLENGER, version.version)
    champion = aliases.get(CHAMPION)
    crowned = client.get_model_version(candidate.name, str(champion)) if champion else None
    moves, reason = decide(candidate, version, crowned)
    if moves:
        client.set_registered_model_alias(candidate.name, CHAMPION, version.version)
    return Registered(
        name=candidate.name,
        version=str(version.version),
        digest=candidate.digest,
        created=not known,
        champion=str(version.version if moves or crowned is None else crowned.version),
        reason=reason,
    )


def upload(client: MlflowClient, candidate: Candidate, experiment: str, run_id: str | None) -> ModelVersion:
    """Copy the export into the store as a model of the pass's run, and make a version of it.

    A pass that was recorded in no run here (it was restored, or made elsewhere) gets an empty one.
    """
    if run_id is None:
        run_id = str(client.create_run(experiment, run_name=candidate.name).info.run_id)
        client.set_terminated(run_id)
    tags = tags_of(candidate)
    model = client.create_logged_model(experiment, candidate.name, run_id, tags)
    client.log_model_artifacts(model.model_id, str(candidate.folder))
    client.finalize_logged_model(model.model_id, "READY")
    # by place, not by `models:/ID`, which MLflow would look up in the process-wide store
    return client.create_model_version(
        candidate.name, model.artifact_location, run_id, tags, model_id=model.model_id
    )


def tags_of(candidate: Candidate) -> dict[str, str]:
    """What a version tells about itself; the metric's digits are kept, so that comparisons are exact."""
    return {
        "digest": candidate.digest,
        "metric": candidate.metric,
        "value": repr(candidate.value),
        "part": candidate.part,
        "extent": candidate.extent,
        "commit": candidate.commit,
    }


def decide(candidate: Candidate, version: ModelVersion, champion: Any) -> tuple[bool, str]:
    """Whether the champion moves to `version`, and why."""
    ours = f"{candidate.metric} {candidate.value:.4f}"
    if champion is None:
        return True, f"version {version.version} is the first champion, with {ours}"
    tags = champion.tags
    who = f"version {champion.version}"
    if str(champion.version) == str(version.version):
        return False, f"{who} is the champion already, with {ours}"
    if (tags.get("part"), tags.get("metric")) != (candidate.part, candidate.metric):
        return False, (
            f"{who} stays champion: it was measured by {tags.get('metric')} on another validation part,"
            f" so the figures cannot be compared. To decide yourself, set {candidate.name}'s alias {CHAMPION}"
        )
    theirs = float(tags["value"])
    better = candidate.value > theirs if candidate.higher_is_better else candidate.value < theirs
    compared = f"{ours} against {theirs:.4f} on the same validation part"
    if better:
        return True, f"version {version.version} is the new champion: {compared}"
    return False, f"{who} stays champion: {compared} is no better"
