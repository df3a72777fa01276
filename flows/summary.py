"""What a run leaves in Prefect's pages: one markdown artifact per application, each run a version of it."""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows.progress import summary
from tasks.freshness import Look
from tasks.parameters import load_parameters
from tasks.store import UnreachableError
from tasks.tracking import find_pass, open_store, page
from tasks.workspace import Workspace, checkout

LARGEST = 400_000
"""Bytes of a figure that is put into the summary itself; Prefect keeps every version in its data base."""


@dataclass
class Account:
    """What a run has to tell; the flow fills it in as it goes."""

    plan: list[str] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    now: str = ""
    """The stage that is being worked on."""
    done: dict[str, str] = field(default_factory=dict)


@contextmanager
def summarised(application: str, root: Path) -> Iterator[Account]:
    """Leave a summary of the body, also of one that fails; not of one that is being killed."""
    workspace = checkout(root)
    before = _metrics(workspace, application)
    account = Account()
    try:
        yield account
    finally:
        error = sys.exception()
        if error is None or isinstance(error, Exception):
            create_markdown_artifact(
                markdown=text(application, workspace, account, before=before, error=error),
                key=key_of(application),
                description=f"What the last run of {application} did, and what it led to",
            )


def key_of(application: str) -> str:
    """Key of the artifact: Prefect takes small letters, digits and dashes only; another name, another key."""
    plain = re.sub(r"[^a-z0-9]+", "-", application.lower()).strip("-")
    if plain == application.replace("_", "-") and "-" not in application:
        return f"application-{plain}"
    return f"application-{plain}-{hashlib.sha256(application.encode()).hexdigest()[:8]}"


def text(
    application: str,
    workspace: Workspace,
    account: Account,
    *,
    before: Mapping[str, Any],
    error: BaseException | None = None,
) -> str:
    """The summary as markdown."""
    parts = [f"# {application}: {_headline(account, error)}"]
    if error is not None:
        parts.append("\n".join(f"> {line}" for line in str(error).splitlines()))
    if account.looks:
        parts.append("\n".join(f"- `{each.stage}`: {each.said}" for each in account.looks))
    if account.plan:
        parts.append(_stages(workspace, account, error))
    parts += [_measured(application, workspace, before), _run(application, workspace)]
    parts.append(_figure(application, workspace))
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(account: Account, error: BaseException | None) -> str:
    if error is None:
        return summary(account.done)
    return f"failed at {account.now}" if account.now else "failed before its first stage"


def _stages(workspace: Workspace, account: Account, error: BaseException | None) -> str:
    rows = ["| stage | | seconds |", "| --- | --- | --- |"]
    for name in account.plan:
        left = "**failed**" if error is not None and name == account.now else "not reached"
        how = account.done.get(name, left)
        rows.append(f"| `{name}` | {how} | {_seconds(workspace, name) if how == 'ran' else ''} |")
    return "\n".join(rows)


def _seconds(workspace: Workspace, name: str) -> str:
    stage, _, owner = name.partition("@")
    path = workspace.state / "receipts" / owner / f"{stage}.json"
    return f"{json.loads(path.read_text())['seconds']:.1f}" if path.is_file() else ""


def _metrics(workspace: Workspace, application: str) -> dict[str, Any]:
    path = workspace.folder(application, "evaluate") / "metrics.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _measured(application: str, workspace: Workspace, before: Mapping[str, Any]) -> str:
    """Metrics of every part, beside those of the last run and the course's own figure."""
    now = _metrics(workspace, application)
    course = _course(application, workspace)
    rows = [f"| metric ({now.get('data', '')} data) | now | last run | course |", "| --- | --- | --- | --- |"]
    for part in (name for name, values in now.items() if isinstance(values, dict)):
        for metric, value in now[part].items():
            last = before.get(part, {}).get(metric)
            theirs = f"{course.value:g}" if course and course.metric == metric else ""
            rows.append(f"| {part} {metric} | {_number(value)} | {_number(last)} | {theirs} |")
    if len(rows) == 2:
        return ""
    source = f"\n\nThe course: {course.source}, on all of the published data." if course else ""
    return "\n".join(rows) + source


def _course(application: str, workspace: Workspace) -> Any:
    try:
        entry, _ = load_parameters(workspace.root / "params.yaml").application(application)
    except ValueError:  # the run itself has told what is wrong with the entry
        return None
    return entry.export.course


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def _run(application: str, workspace: Workspace) -> str:
    """The run in MLflow that trained what lies there now."""
    if not (workspace.folder(application, "fine_tune") / "settings.json").is_file():
        return ""
    try:
        store = open_store(workspace)
        run = find_pass(application, workspace)
        if run is None:
            return f"No run of this training is recorded in MLflow ({store.uri})."
        with store.reached():
            experiment = store.client.get_run(run).info.experiment_id
    except (UnreachableError, ValueError, OSError) as error:  # of files that a failed run has left
        return f"The run in MLflow was not found: {error}."
    local = store.artifacts is not None
    link = page("http://127.0.0.1:5000" if local else store.uri, f"experiments/{experiment}/runs/{run}")
    hint = " (`make ui` opens these pages)" if local else ""
    return f"[The run in MLflow]({link}){hint}"


def _figure(application: str, workspace: Workspace) -> str:
    """The first figure of the evaluation, within the text: a link would need a server that has the file."""
    folder = workspace.folder(application, "evaluate") / "figures"
    for path in sorted(folder.glob("*.png")):
        if path.stem != "training_batch" and path.stat().st_size <= LARGEST:
            name = path.stem.replace("_", " ")
            return f"![{name}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
    return ""
