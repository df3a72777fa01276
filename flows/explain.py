"""What an application is, for people: its stages and paths, and its parameters with where each comes from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from flows.editions import editions, leaves
from tasks.parameters import BLOCKS, Parameters, load_parameters
from tasks.pipeline import STAGES
from tasks.walkthrough import walk_through
from tasks.workspace import Workspace, checkout

PATHS = ("source", "corrections", "starts_from", "judge")


def overview(workspace: Workspace) -> list[str]:
    """One line per application of `params.yaml`."""
    parameters = load_parameters(workspace.root / "params.yaml")
    rows = [("application", "recipe", "source", "starts from", "headline metric")]
    for name in parameters.applications:
        entry, recipe = parameters.application(name)
        rows.append((name, recipe.title, entry.source, entry.starts_from, headline(workspace, name, recipe)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    mirror = f", mirror {parameters.mirror}" if parameters.mirror else ""
    return [f"edition {parameters.edition}{mirror}", *lines]


def headline(workspace: Workspace, application: str, recipe: Any) -> str:
    """The headline metric of the last evaluation, or that there is none."""
    path = workspace.folder(application, "evaluate") / "metrics.json"
    if not path.is_file():
        return "not evaluated yet"
    metrics = yaml.safe_load(path.read_text())
    part = next((each for each in ("valid", "test") if each in metrics), None)
    name = recipe.metrics[0]
    if part is None or name not in metrics[part]:
        return "nothing labelled"
    return f"{name} {metrics[part][name]:.4f} ({part}, {metrics['data']} data)"


def headline_of(application: str, parameters: Parameters) -> str:
    """The same by name, in the current checkout."""
    _, recipe = parameters.application(application)
    return headline(checkout(), application, recipe)


def explain(application: str, workspace: Workspace) -> Iterator[str]:
    """Stages, paths, effective parameters and where each comes from, and one example carried through."""
    parameters = load_parameters(workspace.root / "params.yaml")
    entry, recipe = parameters.application(application)
    yield f"{application}: {recipe.about}"
    yield f"edition {parameters.edition}" + (f", mirror {parameters.mirror}" if parameters.mirror else "")
    yield ""
    yield "Stages (`dvc repro STAGE@APP`, `python -m tasks STAGE APP`)"
    for stage in STAGES:
        folder = workspace.folder(application, stage.name).relative_to(workspace.root)
        state = "" if (workspace.root / folder).exists() else "  (not made yet)"
        reads = [f"artifacts/{application}/{each}" for each in stage.reads]
        reads += [_resolve(path, entry) for path in stage.paths]
        yield f"  {stage.name:<10} writes {folder}{state}"
        yield f"  {'':<10} reads  {', '.join(reads)}"
    yield ""
    yield "Parameters in effect, and where each comes from"
    width = max(len(path) for path, _, _ in effective(application, workspace))
    for path, value, origin in effective(application, workspace):
        yield f"  {path:<{width}}  {_short(value)}  [{origin}]"
    yield ""
    yield "One example on its way"
    for line in walk_through(application, workspace):
        yield f"  {line}"


def effective(application: str, workspace: Workspace) -> list[tuple[str, Any, str]]:
    """Path below the entry, value and origin of every parameter in effect.

    The origin is `default` where `params.yaml` does not name it, `editions/NAME.yaml` where the file of the
    edition gives the same value, and `params.yaml` otherwise.
    """
    parameters = load_parameters(workspace.root / "params.yaml")
    entry, _ = parameters.application(application)
    raw = parameters.applications[application]
    file = editions(workspace.root).get(parameters.edition)
    edition = (yaml.safe_load(file.read_text()) or {}) if file else {}
    written = edition.get("applications", {}).get(application, {})
    rows: list[tuple[str, Any, str]] = []
    for name in ("recipe", "family", *PATHS):
        rows.append((name, getattr(entry, name), _origin((name,), raw, written, file)))
    for block in BLOCKS:
        settings = entry.block(block)
        plain = (
            settings.model_dump(mode="json", by_alias=True) if isinstance(settings, BaseModel) else settings
        )
        for path, value in leaves(plain, (block,)):
            if path != (block,):
                rows.append((".".join(path), value, _origin(path, raw, written, file)))
    return rows


def _origin(path: tuple[str, ...], raw: Any, edition: Any, file: Path | None) -> str:
    found, value = _look(path, raw)
    if not found:
        return "default"
    given, other = _look(path, edition)
    return f"editions/{file.name}" if file and given and other == value else "params.yaml"


def _look(path: tuple[str, ...], tree: Any) -> tuple[bool, Any]:
    for key in path:
        if isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        elif isinstance(tree, dict) and key in tree:
            tree = tree[key]
        else:
            return False, None
    return True, tree


def _resolve(template: str, entry: Any) -> str:
    for name in ("recipe", "family", *PATHS):
        template = template.replace(f"${{item.{name}}}", getattr(entry, name))
    return template


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 90 else text[:87] + "..."
