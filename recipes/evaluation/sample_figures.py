"""Figures of made pictures: what comes out, what lies between, what is copied, odd or missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.evaluation.samples import (
    MADE,
    REAL,
    as_bytes,
    decoded,
    matrix,
    nearest,
    of_kind,
    open_part,
    plain_pixels,
)
from recipes.recipe import Figure, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

GAP = 2
"""White pixels between pictures side by side."""


def sample(network: nn.Module, facts: Mapping[str, Any], settings: Any) -> Figure:
    """What becomes of the same noise."""
    from models.generative.dcgan import draw_noise, make_pictures

    noise = draw_noise(32, settings.network.noise, seed=settings.seed)
    return _tiles("samples", as_bytes(make_pictures(network, noise)))


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """Training pictures as the critic sees them, made ones, a walk between noises, nearest training pictures,
    the oddest made ones, and both kinds in the judge's features."""
    shown = subject.evaluation.shown
    batch, *_ = next(iter(open_part(subject.items, "train", subject.settings, subject.cache).epoch(0)))
    yield _tiles("training_batch", as_bytes(batch[: max(shown, 32)].cpu()))
    yield _tiles("interpolation", _walk(subject))
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    if not rows.num_rows:
        return
    made, real = of_kind(rows, MADE), of_kind(rows, REAL)
    pictures = decoded(made)
    yield _tiles("samples", pictures[: max(shown, 32)])
    yield _nearest(subject, pictures[: max(shown // 2, 1)])
    yield _odd(pictures, matrix(made), matrix(real), shown)
    yield _map(matrix(real), matrix(made))


def _walk(subject: Subject, *, rows: int = 4, steps: int = 8) -> NDArray[np.uint8]:
    """Between two noises each row, along the sphere on which noise lies."""
    import torch

    from models.generative.dcgan import draw_noise, make_pictures

    ends = draw_noise(2 * rows, subject.settings.network.noise, seed=subject.evaluation.seed)
    angles = torch.linspace(0, torch.pi / 2, steps)[:, None]
    between = [
        ends[2 * row] * angles.cos() + ends[2 * row + 1] * angles.sin() for row in range(rows)
    ]  # independent noises are nearly at right angles
    return as_bytes(make_pictures(subject.network, torch.cat(between)))


def _nearest(subject: Subject, pictures: NDArray[np.uint8]) -> Figure:
    from models import figures

    distances, places = nearest(subject, pictures)
    pixels = plain_pixels(subject, "train")
    beside: list[Any] = []
    titles = []
    for picture, place, distance in zip(pictures, places, distances, strict=True):
        beside += [picture, pixels[place]]
        titles += ["made", f"nearest training picture\n{distance:.3f} away"]
    return Figure(name="nearest", draw=lambda figure: figures.image_grid(figure, beside, titles=titles))


def _odd(
    pictures: NDArray[np.uint8], made: NDArray[np.float32], real: NDArray[np.float32], shown: int
) -> Figure:
    from sklearn.neighbors import NearestNeighbors

    from models import figures

    distances = NearestNeighbors(n_neighbors=1).fit(real).kneighbors(made)[0][:, 0]
    worst = np.argsort(-distances, kind="stable")[:shown]
    titles = [f"{distances[index]:.2f} from any held-out" for index in worst]
    return Figure(
        name="oddest",
        draw=lambda figure: figures.image_grid(figure, list(pictures[worst]), titles=titles),
    )


def _map(real: NDArray[np.float32], made: NDArray[np.float32]) -> Figure:
    """Both kinds in the two directions in which held-out pictures differ most: what is never made is bare."""
    from sklearn.decomposition import PCA

    plane = PCA(2, random_state=0).fit(real)

    def draw(figure: Any) -> None:
        figure.set_size_inches(6, 6)
        axis = figure.subplots()
        for points, name in ((plane.transform(real), "held out"), (plane.transform(made), "made")):
            axis.scatter(*points.T, s=8, alpha=0.5, label=name)
        axis.set_xlabel("first principal component of the judge's features")
        axis.set_ylabel("second")
        axis.legend()
        figure.tight_layout()

    return Figure(name="features", draw=draw)


def _tiles(name: str, pictures: NDArray[np.uint8], *, columns: int = 8) -> Figure:
    """Pictures side by side, as pixels, without titles: quick to draw after every epoch."""
    count, height, width, channels = pictures.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP), columns * (width + GAP), channels), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = picture

    def draw(figure: Any) -> None:
        scale = 0.03 if width < 48 else 0.015
        figure.set_size_inches(sheet.shape[1] * scale, sheet.shape[0] * scale)
        axis = figure.add_axes((0, 0, 1, 1))
        axis.axis("off")
        grey = channels == 1
        axis.imshow(
            sheet[..., 0] if grey else sheet, cmap="gray" if grey else None, vmin=0, vmax=255,
            interpolation="nearest", aspect="auto",
        )  # fmt: skip

    return Figure(name=name, draw=draw)
