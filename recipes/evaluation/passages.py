"""Text as a picture: tokens behind which a colour says a number, and plain passages."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

COLUMNS = 100
"""Characters of a drawn line."""
WHITE = (1.0, 1.0, 1.0, 1.0)
LINE = 0.19
"""Inches from line to line."""
FONT = 8.0
"""Points."""
CHARACTER = 0.07
"""Inches: width of a character of the monospaced font at that size and 100 dots per inch."""


def coloured(
    figure: Any,
    passages: Sequence[tuple[str, Sequence[str], Sequence[float]]],
    *,
    label: str,
    limits: tuple[float, float],
    colours: str = "YlOrRd",
    separator: str = " ",
) -> None:
    """Passages (title, tokens, a number per token) one below the other, wrapped; a legend of the colours.

    limits: numbers of the first and the last colour; colours: a colour map of matplotlib (`RdBu` for numbers
    around 0). A number that is no number leaves its token white.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = Normalize(*limits, clip=True)
    palette = colormaps[colours]
    mapped = ScalarMappable(scale, palette)
    pieces: list[tuple[int, int, str, float | None]] = []
    row = 0
    for title, tokens, numbers in passages:
        pieces.append((row, 0, title, None))
        row, column = row + 1, 0
        for token, value in zip(tokens, numbers, strict=True):
            shown = _visible(token) + separator
            if column + len(shown) > COLUMNS and column:
                row, column = row + 1, 0
            pieces.append((row, column, shown[:COLUMNS], float(value)))
            column += len(shown)
        row += 2
    width, height = COLUMNS * CHARACTER + 0.6, max(row, 2) * LINE + 1.0
    axis = _page(figure, width=width, height=height, rows=row)
    for line, column, text, number in pieces:
        if number is None:
            axis.text(0, line, text, fontsize=FONT, fontweight="bold", va="center", parse_math=False)
            continue
        colour = palette(float(scale(number))) if number == number else WHITE
        axis.text(
            column, line, text, fontsize=FONT, family="monospace", va="center", parse_math=False,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6},
            color="white" if _dark(colour) else "black",
        )  # fmt: skip
    bar = figure.add_axes((0.1, 0.45 / height, 0.4, 0.1 / height))
    figure.colorbar(mapped, cax=bar, orientation="horizontal").set_label(label, fontsize=FONT)
    bar.tick_params(labelsize=FONT - 1)


def plain(figure: Any, passages: Sequence[tuple[str, str]]) -> None:
    """Passages (title, text) one below the other, wrapped; line ends are kept."""
    lines: list[tuple[str, bool]] = []
    for title, text in passages:
        lines.append((title, True))
        for line in text.split("\n"):
            wrapped = textwrap.wrap(
                _printable(line), COLUMNS, drop_whitespace=False, replace_whitespace=False
            )
            lines.extend((each, False) for each in wrapped or [""])
        lines.append(("", False))
    width, height = COLUMNS * CHARACTER + 0.6, max(len(lines), 2) * LINE + 0.3
    axis = _page(figure, width=width, height=height, rows=len(lines), foot=0.1)
    for row, (text, heads) in enumerate(lines):
        style: dict[str, Any] = {"fontweight": "bold"} if heads else {"family": "monospace"}
        axis.text(0, row, text, fontsize=FONT, va="center", parse_math=False, **style)


def _page(figure: Any, *, width: float, height: float, rows: int, foot: float = 0.8) -> Any:
    """Axes whose unit is a character to the right and a line down."""
    figure.set_size_inches(width, height)
    bottom = foot / height
    axis = figure.add_axes((0.3 / width, bottom, 1 - 0.6 / width, 1 - bottom - 0.1 / height))
    axis.set_xlim(0, COLUMNS)
    axis.set_ylim(max(rows, 1) - 0.5, -0.7)
    axis.axis("off")
    return axis


def _visible(token: str) -> str:
    """A token with a sign for what would not be seen."""
    return _printable(token.replace("\n", "¶").replace("\t", "→"))


def _printable(text: str) -> str:
    """Without characters that the font of matplotlib lacks."""
    return "".join(each if each.isprintable() and ord(each) < 0x2E80 else "□" for each in text)


def _dark(colour: tuple[float, ...]) -> bool:
    red, green, blue = colour[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.45
