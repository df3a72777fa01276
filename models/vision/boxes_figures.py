"""Boxes drawn over pictures: what was annotated, what was answered, what the anchors cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = ("#ffffff", "#ff3b30", "#34c759", "#0a84ff", "#ffcc00", "#ff2d92", "#64d2ff", "#bf5af2")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One box of a picture."""

    box: Sequence[float]
    """x_min, y_min, x_max, y_max in shares of the picture."""
    text: str = ""
    colour: str = COLOURS[0]
    dashed: bool = False
    faint: bool = False


def box_grid(
    figure: Any,
    images: Sequence[NDArray[Any]],
    frames: Sequence[Sequence[Frame]],
    *,
    titles: Sequence[str],
    columns: int = 4,
) -> None:
    """Pictures (H, W, 3) or (H, W, 1), uint8 or float in [0, 1], with their boxes and a title each."""
    from matplotlib.patches import Rectangle

    columns = min(columns, max(len(images), 1))
    rows = max(1, -(-len(images) // columns))
    figure.set_size_inches(3 * columns, 3.3 * rows)
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, image, drawn, title in zip(axes, images, frames, titles, strict=False):
        grey = image.shape[-1] == 1
        axis.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, extent=(0, 1, 1, 0))
        axis.set_title(title, fontsize=8)
        for each in drawn:
            left, top, right, bottom = each.box
            axis.add_patch(
                Rectangle(
                    (left, top), right - left, bottom - top, fill=False, edgecolor=each.colour,
                    linewidth=0.8 if each.faint else 1.6, linestyle="--" if each.dashed else "-",
                    alpha=0.8 if each.faint else 1.0,
                )
            )  # fmt: skip
            if each.text:
                axis.text(
                    left, top, each.text, fontsize=6, color="black", va="bottom",
                    bbox={"facecolor": each.colour, "alpha": 0.8, "pad": 0.6, "linewidth": 0},
                    clip_on=True,
                )  # fmt: skip
        axis.set_xlim(0, 1)
        axis.set_ylim(1, 0)
    figure.tight_layout()


def precision_recall(
    figure: Any, recalls: NDArray[Any], curves: Mapping[str, NDArray[Any]], *, values: Mapping[str, float]
) -> None:
    """Precision over recall of each class, with its average precision in the legend."""
    figure.set_size_inches(7, 5)
    axis = figure.subplots()
    for number, (name, precisions) in enumerate(curves.items()):
        style = "-" if number < 10 else "--"
        axis.plot(recalls, precisions, style, label=f"{name} {values[name]:.2f}", linewidth=1.2)
    axis.set_xlabel("recall: share of the objects that are found")
    axis.set_ylabel("precision: share of the answers that are right")
    axis.set_xlim(0, 1.01)
    axis.set_ylim(0, 1.03)
    if curves:
        axis.legend(fontsize=7, title="average precision", title_fontsize=7)
    figure.tight_layout()


def colour_of(name: str, classes: Sequence[str]) -> str:
    """A colour of a class; the first is kept for the truth."""
    place = classes.index(name) if name in classes else len(classes)
    return COLOURS[1 + place % (len(COLOURS) - 1)]
