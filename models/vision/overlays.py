"""Masks drawn over pictures onto matplotlib figures, one colour for each class."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = 0.618033988749895
"""Hues that far apart on the circle stay apart, however many there are."""


def palette(classes: int) -> NDArray[np.float64]:
    """(classes, 3): a colour for each, light and dark ones in turn."""
    return np.array(
        [
            colorsys.hsv_to_rgb(
                (0.58 + place * GOLDEN) % 1, (0.85, 0.55)[place % 2], (0.95, 0.75)[place // 2 % 2]
            )
            for place in range(classes)
        ]
    )


def painted(mask: NDArray[Any], *, classes: int, void: int) -> NDArray[np.float64]:
    """(H, W, 4): the colour of each pixel's class, a quarter seen through; void is black and opaque."""
    colours = np.zeros((max(classes, void) + 1, 4))
    colours[:classes] = np.column_stack([palette(classes), np.full(classes, 0.75)])
    colours[void] = (0, 0, 0, 1)
    chosen: NDArray[np.float64] = colours[mask]
    return chosen


def overlays(
    figure: Any,
    pictures: Sequence[Sequence[NDArray[Any]]],
    *,
    titles: Sequence[str],
    classes: Sequence[str],
    void: int,
) -> None:
    """A row for each picture: itself, then its masks over it (the truth, and a prediction if there is one).

    pictures: images (H, W, 3), uint8 or float in [0, 1], each followed by masks (H, W) of its size.
    """
    from matplotlib.patches import Patch

    columns = max(len(row) for row in pictures)
    height, width = pictures[0][0].shape[:2]
    occurring = np.unique(np.concatenate([np.unique(mask) for row in pictures for mask in row[1:]]))
    lines = -(-(len(occurring)) // 4)
    below = 0.25 * lines + 0.2
    figure.set_size_inches(3.2 * columns, (3.2 * height / width + 0.45) * len(pictures) + below)
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    names = ("", "truth", "prediction")
    for line, (row, title) in enumerate(zip(pictures, titles, strict=True)):
        for column, (axis, picture) in enumerate(zip(axes[line], row, strict=False)):
            axis.axis("off")
            axis.imshow(row[0])
            if column:
                axis.imshow(painted(picture, classes=len(classes), void=void), interpolation="nearest")
            axis.set_title(title if not column else names[column], fontsize=7)
    shades = palette(len(classes))
    handles = [
        Patch(color="black", label="void")
        if place == void
        else Patch(color=shades[place], label=classes[place])
        for place in occurring.tolist()
    ]
    bottom = below / figure.get_size_inches()[1]
    figure.tight_layout(rect=(0, bottom, 1, 1))
    figure.legend(handles=handles, loc="lower center", ncol=4, fontsize=7, frameon=False)
