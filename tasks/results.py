"""What documents say of the project itself, generated: docs/results.md, the README's table and its tree."""

import ast
import json
from pathlib import Path
from typing import Any

from tasks.parameters import load_parameters

TABLE = ("<!-- results: written by `make docs` -->", "<!-- end of results -->")
TREE = ("<!-- tree: written by `make docs` -->", "<!-- end of tree -->")
FOLDERS = ("flows", "tasks", "recipes", "models", "data", "sources", "editions", "docs", "tests")
"""What the tree shows; the files beside these folders are told in the README's own words."""


def write_results(root: Path) -> list[Path]:
    """Write both documents anew; returns those whose text changed."""
    readme = root / "README.md"
    text = between(readme.read_text(), TABLE, table(root))
    text = between(text, TREE, f"```\n{tree(root)}\n```")
    wanted = {root / "docs" / "results.md": results_page(root), readme: text}
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    for path in changed:
        path.write_text(wanted[path])
    return changed


def read_results(root: Path) -> dict[str, dict[str, Any]]:
    """The measured results by application."""
    files = sorted((root / "docs" / "results").glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


def table(root: Path) -> str:
    """One row per application of params.yaml: what was measured on which data, beside the course."""
    parameters = load_parameters(root / "params.yaml")
    results = read_results(root)
    lines = [
        "| application | recipe | data measured | metric | ours | the course, on all its data |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in parameters.applications:
        entry, recipe = parameters.application(name)
        course = entry.export.course
        theirs = f"{course.value:g} ({course.source})" if course else "–"
        metric = course.metric if course else recipe.metrics[0]
        ours, data = "not measured", "–"
        if name in results:
            ours, data = measured(results[name], metric), extent(results[name])
        lines.append(f"| `{name}` | {recipe.title} | {data} | {metric} | {ours} | {theirs} |")
    return "\n".join(lines)


def measured(result: dict[str, Any], metric: str) -> str:
    """Mean and spread of a metric over the runs."""
    numbers = result["summary"][metric]
    return (
        f"{numbers['mean']:.4f} ± {numbers['deviation']:.4f}"
        f" ({numbers['runs']} runs, {numbers['smallest']:.4f} to {numbers['largest']:.4f})"
    )


def extent(result: dict[str, Any]) -> str:
    """How much of the published data it was, in the words of its record."""
    data = result["data"]
    return f"**{data['extent']}**: {data['rows']} examples"


def results_page(root: Path) -> str:
    """docs/results.md."""
    blocks = [
        "# Results",
        "Generated from `docs/results/*.json` by `make docs`; do not edit. Each file holds every run, its"
        " seed, the settings, digests of the data, hardware and versions. **subset**, **stand-in** and"
        " **generated** data say that the code runs and learns; only a whole data set can be held against"
        " the course's number.",
        table(root),
    ]
    for name, result in read_results(root).items():
        blocks.append(section(name, result))
    return "\n\n".join(blocks) + "\n"


def section(name: str, result: dict[str, Any]) -> str:
    """Everything about one application's runs."""
    headline = result["headline"]
    hardware = result["hardware"]
    machine = f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB"
    if hardware["accelerator"]:
        machine += f", {hardware['accelerator']}"
    versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
    rows = [f"| run | {headline} | validation examples | seconds of training |", "| --- | --- | --- | --- |"]
    for number, run in enumerate(result["runs"], start=1):
        what = f"fold {run['split']['fold']}" if "fold" in run["split"] else f"seed {run['split']['seed']}"
        rows.append(
            f"| {number} ({what}) | {run['metrics'][headline]:.4f} | {run['metrics']['examples']}"
            f" | {run['seconds']['fine_tune']:.0f} |"
        )
    note = result["data"]["extent_note"]
    return "\n\n".join(
        [
            f"## {name}",
            f"{result['title']}. Data: {result['data']['title']},"
            f" {extent(result)}{f' ({note})' if note else ''};"
            f" starts from `{result['starts_from']}`; network `{network(result)}`.",
            "\n".join(rows),
            f"Measured: {headline} {measured(result, headline)}, by `{result['command']}` on {machine};"
            f" {versions}; commit {result['commit']}.",
        ]
    )


def network(result: dict[str, Any]) -> str:
    """The name of the trained network where the recipe has a choice."""
    chosen = result["settings"]["fine_tune"].get("network")
    return str(chosen["name"]) if isinstance(chosen, dict) and "name" in chosen else "the recipe's own"


def between(text: str, marks: tuple[str, str], content: str) -> str:
    """`text` with what stands between two marks replaced. ValueError where a mark is missing."""
    for mark in marks:
        if mark not in text:
            raise ValueError(f"README.md lacks the mark {mark}")
    before, _, rest = text.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    return f"{before}{marks[0]}\n{content}\n{marks[1]}{after}"


def tree(root: Path) -> str:
    """Every file of the project's folders with its purpose, as the file itself states it."""
    lines = []
    for folder in FOLDERS:
        lines.append(f"{folder + '/':<33} {purpose(root / folder / '__init__.py')}".rstrip())
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".yaml", ".md") and path.name != "__init__.py":
                name = f"  {path.relative_to(root / folder).as_posix()}"
                lines.append(f"{name:<33} {purpose(path)}".rstrip())
    return "\n".join(lines)


def purpose(path: Path) -> str:
    """The first line of a module's docstring, of a YAML file's comment or title, or of a page's heading."""
    if not path.is_file():
        return ""
    text = path.read_text()
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    for line in text.splitlines():
        for opening in ("# ", "title: "):
            if line.startswith(opening):
                return line.removeprefix(opening).strip('"')
    return ""
