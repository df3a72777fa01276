"""docs/results.md and the README's table, generated from docs/results/*.json and params.yaml."""

import json
from pathlib import Path
from typing import Any

from tasks.parameters import load_parameters

BEGIN = "<!-- results: written by `make results` -->"
END = "<!-- end of results -->"


def write_results(root: Path) -> list[Path]:
    """Write both documents anew; returns those whose text changed."""
    readme = root / "README.md"
    wanted = {root / "docs" / "results.md": results_page(root), readme: with_table(readme.read_text(), root)}
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
        theirs = f"{course.metric} {course.value:g} ({course.source})" if course else "–"
        ours, data = "not measured", "–"
        if name in results:
            ours, data = measured(results[name]), extent(results[name])
        lines.append(f"| `{name}` | {recipe.title} | {data} | {recipe.metrics[0]} | {ours} | {theirs} |")
    return "\n".join(lines)


def measured(result: dict[str, Any]) -> str:
    """Mean and spread of the headline metric."""
    numbers = result["summary"][result["headline"]]
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
        "Generated from `docs/results/*.json` by `make results`; do not edit. Each file holds every run, its"
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
            f"Measured: {measured(result)}, by `{result['command']}` on {machine}; {versions};"
            f" commit {result['commit']}.",
        ]
    )


def network(result: dict[str, Any]) -> str:
    """The name of the trained network where the recipe has a choice."""
    chosen = result["settings"]["fine_tune"].get("network")
    return str(chosen["name"]) if isinstance(chosen, dict) and "name" in chosen else "the recipe's own"


def with_table(readme: str, root: Path) -> str:
    """The README with its table replaced. ValueError where the marks are missing."""
    if BEGIN not in readme or END not in readme:
        raise ValueError(f"README.md lacks the marks {BEGIN!r} and {END!r}")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(root)}\n{END}{after}"
