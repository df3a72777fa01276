"""Arrays drawn onto matplotlib figures: what every family's interpretation is made of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def image_grid(
    figure: Any,
    images: Sequence[NDArray[Any]],
    *,
    titles: Sequence[str],
    maps: Sequence[NDArray[Any] | None] | None = None,
    columns: int = 4,
) -> None:
    """Pictures with a title each; `maps` (heights and widths as the picture's, 0 to 1) are laid over them.

    `images` are (H, W, 3) or (H, W, 1), uint8 or float in [0, 1].
    """
    rows = max(1, -(-len(images) // columns))
    figure.set_size_inches(2.4 * columns, 2.7 * rows)
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis in axes:
        axis.axis("off")
    for index, (axis, image, title) in enumerate(zip(axes, images, titles, strict=False)):
        height, width = image.shape[:2]
        extent = (0, width, height, 0)
        grey = image.shape[-1] == 1
        axis.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, extent=extent)
        if maps is not None and maps[index] is not None:
            axis.imshow(maps[index], cmap="magma", alpha=0.5, extent=extent, vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
    figure.tight_layout()


def confusion_matrix(figure: Any, counts: NDArray[Any], *, classes: Sequence[str]) -> None:
    """Counts of (actual, predicted) as a table with shading; numbers up to 40 classes."""
    side = max(4.0, 0.45 * len(classes) + 2)
    figure.set_size_inches(side, side)
    axis = figure.subplots()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 40:
        for row, column in zip(*np.nonzero(counts), strict=True):
            shade = "white" if share[row, column] > 0.5 else "black"
            axis.text(
                column, row, str(counts[row, column]), ha="center", va="center", color=shade, fontsize=8
            )
    axis.set_xticks(range(len(classes)), classes, rotation=90)
    axis.set_yticks(range(len(classes)), classes)
    axis.set_xlabel("predicted")
    axis.set_ylabel("actual")
    figure.tight_layout()


def bars(figure: Any, names: Sequence[str], values: Sequence[float], *, label: str) -> None:
    """Horizontal bars, the first on top."""
    figure.set_size_inches(7, 1.2 + 0.3 * max(len(names), 1))
    axis = figure.subplots()
    axis.barh(range(len(names)), values)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    figure.tight_layout()


def curve(
    figure: Any,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    label: str,
    logarithmic: bool = False,
    marks: Mapping[str, float] | None = None,
) -> None:
    """Lines over a common axis; `marks` are named vertical lines."""
    figure.set_size_inches(7, 4)
    axis = figure.subplots()
    for name, values in lines.items():
        axis.plot(x, values, label=name)
    for number, (name, at) in enumerate((marks or {}).items()):
        axis.axvline(at, linestyle="--", color=f"C{number + len(lines)}", label=f"{name}: {at:.3g}")
    if logarithmic:
        axis.set_xscale("log")
    axis.set_xlabel(label)
    axis.legend()
    figure.tight_layout()
