"""Texts drawn onto matplotlib figures: token by token, with a colour behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = 118
"""Characters of a line of text in a figure."""


def wrapped(tokens: Sequence[str], *, columns: int = COLUMNS) -> list[list[tuple[int, int]]]:
    """Lines of (number of the token, column at which it begins), broken between tokens."""
    lines: list[list[tuple[int, int]]] = [[]]
    column = 0
    for number, token in enumerate(tokens):
        width = len(shown(token)) + 1
        if column + width > columns and lines[-1]:
            lines.append([])
            column = 0
        lines[-1].append((number, column))
        column += width
    return lines


def shown(token: str) -> str:
    """A token as it is drawn: line breaks get a sign, and very long ones an end."""
    visible = token.replace("\n", "⏎").replace("\t", "→").replace(" ", "·")
    return visible if len(visible) <= 40 else f"{visible[:39]}…"


def marked_texts(
    figure: Any,
    titles: Sequence[str],
    texts: Sequence[Sequence[str]],
    weights: Sequence[NDArray[Any]] | None = None,
    *,
    label: str = "",
) -> None:
    """Texts below each other in a fixed width; green behind tokens of positive weight, red behind negative
    ones, as strong as their share of the largest in their text."""
    from matplotlib import colormaps

    lines = [wrapped(text) for text in texts]
    rows = sum(len(each) + 2 for each in lines) + 1
    height = max(1.0, 0.19 * rows)
    figure.set_size_inches(11, height)
    axis = figure.add_axes((0.01, 0.0, 0.98, 1.0))
    axis.set_xlim(0, COLUMNS + 1)
    axis.set_ylim(rows, 0)
    axis.axis("off")
    size = 11 * 72 * 0.98 / (COLUMNS + 1) / 0.602  # DejaVu Sans Mono: a character is 0.602 em wide
    colours = colormaps["RdYlGn"]
    if label:
        axis.text(COLUMNS, 0.7, f"green and red: {label}", fontsize=0.8 * size, ha="right", va="center")
    row = 1
    for place, (title, text) in enumerate(zip(titles, texts, strict=True)):
        axis.text(
            0, row, title, fontsize=size, fontweight="bold", va="center", parse_math=False, family="monospace"
        )
        row += 1
        strongest = float(np.abs(weights[place]).max()) if weights is not None and len(text) else 0.0
        for line in lines[place]:
            for number, column in line:
                behind = None
                if weights is not None and strongest > 0:
                    share = float(weights[place][number]) / strongest
                    colour = (*colours(0.5 + share / 2)[:3], min(1.0, abs(share)))
                    behind = {"facecolor": colour, "edgecolor": "none", "boxstyle": "square,pad=0.1"}
                axis.text(
                    column, row, shown(text[number]), fontsize=size, va="center", family="monospace",
                    parse_math=False, bbox=behind,
                )  # fmt: skip
            row += 1
        row += 1


def lengths(figure: Any, parts: Mapping[str, NDArray[Any]]) -> None:
    """How many texts of each part have how many tokens."""
    figure.set_size_inches(7, 4)
    axis = figure.subplots()
    longest = max(int(each.max()) for each in parts.values())
    edges = np.unique(np.geomspace(1, longest + 1, 40).round())
    for name, each in parts.items():
        axis.hist(each, bins=edges, histtype="step", label=f"{name} ({len(each)} texts)")
    axis.set_xscale("log")
    axis.set_xlabel("tokens")
    axis.set_ylabel("texts")
    axis.legend()
    figure.tight_layout()
