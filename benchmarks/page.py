"""`docs/benchmarks.md`, from the figures below `docs/benchmarks/`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import chain, growth

OPENING = """# Benchmarks

Made by `make benchmark`; the figures are those of the machine named below, and other machines give others.
Ratios tell how many times as fast this project is, best round by best round, on equal work in alternation.
No test asserts a time."""


def page(folder: Path) -> str:
    """All sections of which there are figures in `folder`."""
    sections = (_machine, _speed, _shares, _growth, _chain)
    return "\n\n".join([OPENING, *(text for section in sections for text in section(folder))]) + "\n"


def _read(folder: Path, pattern: str) -> list[tuple[str, dict[str, Any]]]:
    return [(path.stem, json.loads(path.read_text())) for path in sorted(folder.glob(pattern))]


def _machine(folder: Path) -> Iterator[str]:
    for _, facts in _read(folder, "machine.json"):
        lines = [f"- {what}: {value}" for what, value in facts.items()]
        yield "## Machine and versions\n\n" + "\n".join(lines)


def _speed(folder: Path) -> Iterator[str]:
    rows = [_row(figures) for _, figures in _read(folder, "speed-*.json")]
    if not rows:
        return
    head = (
        "| work | ours, units/s | fastai | goal | bare loop | goal |\n| --- | --- | --- | --- | --- | --- |\n"
    )
    notes = [
        f"- {each['title']}: {each['note']}" for _, each in _read(folder, "speed-*.json") if each["note"]
    ]
    text = (
        "## Beside fastai and a bare loop\n\n"
        "Each cell: how many times as fast as that variant, best by best; in brackets the least and the most"
        " of a single round, and the ratio of processor times.\n\n"
    )
    yield text + head + "\n".join(rows) + ("\n\n" + "\n".join(notes) if notes else "")


def _shares(folder: Path) -> Iterator[str]:
    rows = []
    for _, figures in _read(folder, "speed-*.json"):
        ours = figures["variants"]["practicum"]
        if "bf16" in ours:
            memory = ours["device_memory"] or ours["memory"]
            rows.append(
                f"| {figures['title']} | {ours['best']:,.0f} {figures['unit']} | {memory / 1e6:,.0f} MB"
                f" | {ours['bf16']['operations'] / 1e9:.2f} | {ours['bf16']['hardware'] / 1e12:.3f}"
                f" | {ours['bf16']['share']:.0%} |"
            )
    if rows:
        yield (
            "## Close to the hardware\n\n"
            "The hardware's rate is that of its best product of two large square matrices in bf16, on the"
            " same threads or on the accelerator; memory is the accelerator's where there is one.\n\n"
            "| work | units/s | memory | GFLOP a unit | hardware, TFLOP/s | share |\n"
            "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows)
        )


def _growth(folder: Path) -> Iterator[str]:
    found = sorted(
        (each for _, each in _read(folder, "growth-*.json")), key=lambda one: (one["kind"], one["rows"])
    )
    if found:
        yield f"## More rows\n\n{growth.table(found).strip()}"


def _chain(folder: Path) -> Iterator[str]:
    for _, figures in _read(folder, "chain.json"):
        yield f"## Around the work of a stage\n\n{chain.tables(figures).strip()}"


def _row(figures: Mapping[str, Any]) -> str:
    ours = figures["variants"]["practicum"]
    cells = [figures["title"], f"{ours['best']:,.0f} {figures['unit']}"]
    for name in ("fastai", "bare"):
        ratio, goal = figures["ratios"].get(name), figures["goals"].get(name)
        cells += [_ratio(ratio) if ratio else "not run" if goal else "–", f"{goal:g}" if goal else "–"]
    return "| " + " | ".join(cells) + " |"


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"**{ratio['best']:.2f}** ({ratio['least']:.2f}–{ratio['most']:.2f}; {ratio['processor']:.2f})"
