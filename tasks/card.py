"""card.md: what a stranger must know before they use the model, from records alone: no time, no machine."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.parameters import nearest

if TYPE_CHECKING:
    from models.export import Program
    from models.settings import CourseFigure, ExportSettings
    from recipes.recipe import Recipe
    from tasks.parameters import Application

MEANING = {
    "whole": "All of the published data.",
    "subset": "A **subset** of the published data: figures are not comparable with those on the whole.",
    "stand-in": "A **stand-in** for the published data: figures are not comparable with those on it.",
    "generated": "**Generated** data in the published layout: figures prove that the code runs and"
    " learns, and say nothing about quality on anything that is real.",
    "own": "The user's own data.",
}
"""What each extent of the data allows to conclude."""

ROWS = 40
"""Rows of a table that the card shows; the rest stands in the table's own file."""

VERSIONS = ("torch", "mlflow", "onnx", "numpy", "pillow")
"""Distributions whose versions the card names."""


def card(
    name: str,
    entry: Application,
    recipe: Recipe,
    program: Program,
    *,
    edition: str,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    sections: Iterable[tuple[str, str]],
    differences: Mapping[str, float],
    tolerance: float,
    usage: str,
) -> str:
    """The text of `card.md`. ValueError where `export.course.metric` is none of the recipe's metrics.

    `settings`: the fine_tune block in effect. `metrics`, `provenance`: files of `evaluate`; `sections`:
    headings and contents of the recipe's own. `usage`: a line of Python that asks the loaded `model`.
    """
    block: ExportSettings = entry.export
    check_course(block.course, recipe)
    sections = [
        (f"{name} ({edition} edition)", what(entry, recipe, program)),
        ("Data", data(provenance)),
        ("Split", split(provenance["split"])),
        ("Training", training(entry, recipe, settings)),
        ("Metrics", measured(recipe, metrics, block.course)),
        *sections,
        ("Limits", limits(recipe, program, provenance)),
        ("How to load it", loading(program, name, usage=usage, onnx=block.onnx)),
        ("How far the forms agree", agreement(differences, tolerance)),
        ("Versions", versions()),
    ]
    (title, opening), *rest = sections
    blocks = [f"# {title}", opening, *(f"## {head}\n\n{text}" for head, text in rest)]
    return "\n\n".join(blocks) + "\n"


def check_course(course: CourseFigure | None, recipe: Recipe) -> None:
    """ValueError with the nearest metric where the course's figure is of a metric that nobody computes."""
    if course and course.metric not in recipe.metrics:
        raise ValueError(
            f"export.course.metric: {recipe.title} has no metric {course.metric!r}"
            f"{nearest(course.metric, recipe.metrics)}"
        )


def what(entry: Application, recipe: Recipe, program: Program) -> str:
    """The opening: the task, and what comes out."""
    shown = ", ".join(f"`{label}`" for label in program.labels[:40])
    more = f" and {len(program.labels) - 40} more (see `signature.json`)" if len(program.labels) > 40 else ""
    classes = f"\n\n{len(program.labels)} classes: {shown}{more}." if program.labels else ""
    return f"{recipe.title}, by recipe `{entry.recipe}`. The course teaches it in {recipe.lesson}.{classes}"


def data(provenance: Mapping[str, Any]) -> str:
    """Title, extent, licence, citation, counts and digests."""
    extent = provenance["extent"]
    note = f" {provenance['extent_note']}" if provenance.get("extent_note") else ""
    rows = [
        ("title", provenance["title"]),
        ("source", f"`{provenance['source']}`"),
        ("extent", f"{extent}. {MEANING.get(extent, '')}{note}".strip()),
        ("licence", provenance["licence"] or "not stated"),
        ("non-commercial use only", "yes" if provenance.get("non_commercial") else "no"),
        ("citation", provenance["citation"] or "none"),
        ("examples", provenance["rows"]),
        ("left out", counts(provenance.get("rejects", {}))),
        ("passed over", counts(provenance.get("ignored", {}))),
        ("digest of the cleaned examples", f"`sha256:{provenance['content']}`"),
    ]
    files = [
        (f"`{file['name']}`", file["bytes"], f"`{file['sha256']}`", file["address"])
        for file in provenance["files"]
    ]
    return "\n\n".join(
        [table(("field", "value"), rows), table(("file", "bytes", "sha256", "published at"), files)]
    )


def split(record: Mapping[str, Any]) -> str:
    """How the examples were divided, how many each part has, and the leak gate's verdict."""
    leaks = record["leaks"]
    candidates = leaks.get("near_candidates", 0)
    lines = [
        f"Method: {leaks['method']}.",
        table(("part", "examples"), list(record["parts"].items())),
        f"Leak gate: **{leaks['verdict']}**; leaks found: {counts(leaks.get('leaks', {}))};"
        f" pairs that look alike by their perceptual hash and were compared by pixels: {candidates}.",
    ]
    if unseen := leaks.get("unseen_classes"):
        lines.append(f"Classes without a training example: {', '.join(f'`{each}`' for each in unseen)}.")
    return "\n\n".join(lines)


def training(entry: Application, recipe: Recipe, settings: Mapping[str, Any]) -> str:
    """Starting weights, and every setting in effect."""
    start = "random weights" if entry.starts_from == "sources/none" else f"`{entry.starts_from}`"
    return f"Starts from {start}. The `fine_tune` block in effect:\n\n```json\n{pretty(settings)}\n```"


def measured(recipe: Recipe, metrics: Mapping[str, Any], course: CourseFigure | None) -> str:
    """Metrics by part, the headline beside the course's figure."""
    parts = [name for name, numbers in metrics.items() if isinstance(numbers, Mapping)]
    rows = [
        (
            f"{name} (headline)" if name == recipe.metrics[0] else name,
            *(cell(metrics[part].get(name)) for part in parts),
        )
        for name in (*recipe.metrics, "examples")
    ]
    lines = [table(("metric", *parts), rows)]
    better = "higher is better" if recipe.higher_is_better else "lower is better"
    lines.append(f"For the headline, {recipe.metrics[0]}, {better}. Data: **{metrics['data']}**.")
    if course:
        ours = cell(metrics.get("valid", metrics.get("test", {})).get(course.metric))
        lines.append(
            f"The course reached {course.metric} {course.value:g} on all of the published data"
            f" ({course.source}); here it is {ours}, on data that is {metrics['data']}."
        )
    return "\n\n".join(lines)


def listings(folder: Path) -> Iterator[tuple[str, str]]:
    """Heading and content of each table that the recipe put into the card."""
    for listed in json.loads((folder / "card.json").read_text()):
        with (folder / f"{listed['name']}.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        shown = table(head, [[number(each) for each in row] for row in rows[:ROWS]])
        more = f"{len(rows) - ROWS} more rows in `evaluate/tables/{listed['name']}.csv`."
        yield listed["title"], "\n\n".join([listed["text"], shown, *([more] if len(rows) > ROWS else [])])


def limits(recipe: Recipe, program: Program, provenance: Mapping[str, Any]) -> str:
    """What the model cannot do, as far as the records and the recipe know."""
    lines = []
    if provenance["extent"] in {"generated", "stand-in"}:
        lines.append("Not for use: it has never seen the data that its name stands for.")
    lines += recipe.limits
    few = sorted(label for label, number in provenance.get("labels", {}).items() if number < 10)
    if few and program.labels:
        shown = ", ".join(f"`{label}`" for label in few[:10]) + (", ..." if len(few) > 10 else "")
        lines.append(
            f"Fewer than 10 examples each: {shown}; its answers for them are little more than guesses."
        )
    return "\n".join(f"- {line}" for line in lines) or "None known beyond the metrics above."


def loading(program: Program, name: str, *, usage: str, onnx: bool) -> str:
    """Commands and code for each form; paths are relative to the project's root."""
    folder = f"artifacts/{name}/export"
    code = [
        "# preprocessing inside",
        "import mlflow",
        "import pandas as pd",
        f'model = mlflow.pyfunc.load_model("{folder}")',
        usage,
        "",
        f"# from tensors: {names(program.example)} -> {names(program.outputs)}; shapes in `signature.json`",
        "import torch",
        f'network = torch.export.load("{folder}/program.pt2").module()',
    ]
    if onnx:
        code += ["", "import onnxruntime", f'session = onnxruntime.InferenceSession("{folder}/program.onnx")']
    shell = [
        f"python -m flows predict {name} FILE|FOLDER",
        f"mlflow models serve -m {folder} --env-manager local --port 5001",
        "curl localhost:5001/invocations -H 'Content-Type: application/json' \\",
        f"  -d @{folder}/example/request.json",
    ]
    return "\n\n".join([fenced("python", code), fenced("console", shell), "No form holds pickled code."])


def agreement(differences: Mapping[str, float], tolerance: float) -> str:
    """The largest difference of each form from the network, as powers of ten: digits are the machine's."""
    rows = [(form, f"at most {magnitude(found)}") for form, found in differences.items()]
    return (
        "Largest absolute difference of any output from the trained network, on the stored example and on"
        f" batches of other sizes (more than {tolerance:g} would have stopped the export):\n\n"
        + table(("form", "difference"), rows)
    )


def versions() -> str:
    """Of the libraries that made the programs."""
    python = ".".join(platform.python_version_tuple()[:2])
    rows = [("python", python), *((name, version(name).split("+")[0]) for name in VERSIONS)]
    return table(("library", "version"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; bars and line ends inside cells do not break it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(str(each).split()).replace("|", "\\|") for each in line) + " |"
        for line in lines
    )


def fenced(language: str, lines: Sequence[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


def counts(numbers: Mapping[str, int]) -> str:
    """`3 truncated, 1 no label`, or `none`."""
    return ", ".join(f"{number} {reason}" for reason, number in sorted(numbers.items()) if number) or "none"


def names(tensors: Iterable[str]) -> str:
    """`tokens`, `lengths`"""
    return ", ".join(f"`{each}`" for each in tensors)


def number(text: str) -> str:
    """Four decimals for what has more, and anything else as it stands."""
    try:
        return f"{float(text):.4f}" if "." in text and len(text.partition(".")[2]) > 4 else text
    except ValueError:
        return text


def cell(value: object) -> str:
    """A number with four decimals, an integer as it is, a dash for none."""
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def magnitude(value: float) -> str:
    """The power of ten that is not below the value: `1e-06` for 3e-7."""
    return (
        next((f"{10.0**power:g}" for power in range(-12, 3) if value <= 10.0**power), "100") if value else "0"
    )
