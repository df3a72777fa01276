"""Drawn cars on turntables, 16 views of each, with a mask in a GIF: three archives as Carvana has them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field
from scipy.spatial import ConvexHull

from data.editions import drawing, faults
from data.editions.archives import write_archive
from data.editions.drawing import Canvas, Frame, Plane, ellipse, polygon
from data.editions.pictures import SEED

VIEWS = 16
"""Pictures of one car, a full turn."""
TILT = 0.22
"""Sine of the angle from which the camera looks down."""

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float64]


class Cars(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Three archives: pictures `train/ID_01.jpg`, masks `train_masks/ID_01_mask.gif`, and run lengths."""

    file: str
    """Archive of the pictures."""
    masks: str
    """Archive of the masks."""
    table: str
    """Archive of `train_masks.csv`."""
    cars: int = Field(ge=2)
    """Cars, each with 16 views."""
    height: int = Field(default=48, ge=24)
    """Pixels."""
    width: int = Field(default=72, ge=24)
    """Pixels."""
    faults: bool = False
    """Plant some of what may be wrong."""
    seed: int = Field(default=SEED, ge=0)
    """Of the drawing."""


class Car:
    """One car before its wall: proportions and colours stay through all views."""

    def __init__(self, settings: Cars, number: int) -> None:
        self.settings = settings
        self.key = [settings.seed, number]
        rng = np.random.default_rng(self.key)
        self.name = f"{int(rng.integers(16**11, 16**12)):012x}"
        self.length, self.breadth = rng.uniform(0.62, 0.85), rng.uniform(0.32, 0.4)
        self.hull, self.roof = rng.uniform(0.22, 0.32), rng.uniform(0.2, 0.36)
        self.bonnet, self.boot = rng.uniform(0.25, 0.55), rng.uniform(0.05, 0.4)
        self.paint, self.glass = drawing.any_colour(rng), drawing.any_colour(rng)
        self.wall, self.floor = drawing.any_colour(rng), drawing.any_colour(rng)

    def view(self, number: int) -> tuple[Pixels, Pixels]:
        """(H, W, 3) of view `number` from 1, and (H, W) with 1 where the car is."""
        rng = np.random.default_rng([*self.key, number])
        canvas = Canvas(self.settings.height, self.settings.width)
        frame = drawing.whole(canvas)
        drawing.background(canvas, rng, clutter=4)
        canvas.pixels += 0.6 * (self.wall - canvas.pixels)
        floor = drawing.soft(0.05 - frame.y, frame.pixel) * 0.8
        canvas.paint(floor, self.floor * (0.8 + 0.4 * drawing.noise(frame, rng, 5.0)[..., None]))
        # further from the middle than the published ones: the place alone must not tell
        x, y = rng.uniform(-0.6, 0.6), rng.uniform(-0.45, 0.15)
        part = frame.moved(x, y, size=rng.uniform(0.7, 1.15))
        covered = self._paint(canvas, part, 2 * np.pi * (number - 1) / VIEWS)
        drawing.light(canvas, rng)
        return canvas.finish(), (covered > 0.5).astype(np.uint8)

    def _paint(self, canvas: Canvas, frame: Frame, turn: float) -> Plane:
        """Paint body, cabin and wheels, from back to front; returns what they cover."""
        covered = np.zeros(frame.x.shape)
        top = self.hull + self.roof
        lower = box((-self.length, self.length), self.breadth, (0.08, self.hull))
        cabin = box((-self.length + self.boot, self.length - self.bonnet), self.breadth, (self.hull, top))
        cabin[4:, 0] *= 0.75  # narrower at the roof
        cabin[4:, 1] *= 0.85
        shade = 0.75 + 0.3 * abs(np.sin(turn))
        canvas.paint(hull_of(frame, project(lower * [1.15, 1.3, 0.0], turn)) * 0.5, np.full(3, 0.05))
        for corners, colour in ((lower, self.paint * shade), (cabin, self.paint * 0.9)):
            mask = hull_of(frame, project(corners, turn))
            canvas.paint(mask, colour)
            covered = np.maximum(covered, mask)
        for place in (-0.55, 0.55):
            for side in (-1, 1):
                axle = np.array([[place * self.length * 1.1, side * self.breadth, 0.1]])
                x, y = project(axle, turn)[0].tolist()
                near = side * np.cos(turn) > 0
                flat = max(abs(np.cos(turn)), 0.25)
                wheel = ellipse(frame, x, y, 0.15 * flat, 0.15)
                if near:
                    canvas.paint(wheel, np.full(3, 0.06))
                    hub = ellipse(frame, x, y, 0.07 * flat, 0.07)
                    canvas.paint(hub, np.full(3, 0.6))
                    covered = np.maximum(covered, wheel)
        panes = cabin * [0.9, 1.0, 1.0] + [0, 0, 0.03]
        panes[4:, 2] -= 0.09
        glass = hull_of(frame, project(panes, turn)) * 0.9
        canvas.paint(glass, self.glass)
        return covered


def box(along: tuple[float, float], half: float, up: tuple[float, float]) -> Corners:
    """(8, 3): corners (x along the car, y across, z up), the lower four first."""
    return np.array([(x, side * half, z) for z in up for x in along for side in (-1, 1)])


def project(corners: Corners, turn: float) -> Corners:
    """(N, 2) in the picture, y downwards, of points of a car that is turned by `turn` radians."""
    x = corners[:, 0] * np.cos(turn) - corners[:, 1] * np.sin(turn)
    depth = corners[:, 0] * np.sin(turn) + corners[:, 1] * np.cos(turn)
    return np.stack([1.25 * x, 0.45 - 1.25 * corners[:, 2] + 1.25 * TILT * depth], axis=1)


def hull_of(frame: Frame, points: Corners) -> Plane:
    """Mask of the convex hull of points."""
    outline = points[ConvexHull(points).vertices]
    return polygon(frame, [(float(x), float(y)) for x, y in outline])


def gif(mask: Pixels) -> bytes:
    """A mask as published: one bit, 0 and 1 shown as black and white."""
    buffer = io.BytesIO()
    Image.fromarray(mask * 255).convert("1").save(buffer, "GIF")
    return buffer.getvalue()


def run_lengths(mask: Pixels) -> str:
    """Start (from 1) and length of each run of ones, row by row."""
    flat = np.concatenate([[0], mask.ravel(), [0]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(edges[::2], edges[1::2], strict=True))


def views(settings: Cars) -> Iterator[tuple[str, bytes, bytes, str]]:
    """Name, picture, mask and run lengths of every view."""
    for number in range(settings.cars):
        car = Car(settings, number)
        for view in range(1, VIEWS + 1):
            pixels, mask = car.view(view)
            yield f"{car.name}_{view:02d}", faults.encode(pixels, "jpeg"), gif(mask), run_lengths(mask)


def draw_cars(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """Pictures, masks and run lengths, each as an archive."""
    checked = Cars.model_validate(dict(settings))
    drawn = list(views(checked))
    pictures = [(f"train/{name}.jpg", picture) for name, picture, _, _ in drawn]
    masks = [(f"train_masks/{name}_mask.gif", mask) for name, _, mask, _ in drawn]
    if checked.faults:
        car = Car(checked, 9000)
        (first, mask), (second, _) = car.view(1), car.view(2)
        pictures += [
            (f"train/{car.name}_01.jpg", faults.encode(first, "jpeg")),  # its mask is of another size
            (f"train/{car.name}_02.jpg", faults.encode(second, "jpeg")),  # has none
        ]
        masks += [
            (f"train_masks/{car.name}_01_mask.gif", gif(mask[:-8])),
            (f"train_masks/{car.name}_03_mask.gif", gif(mask)),  # without a picture
        ]
    rows = "".join(f"{name}.jpg,{runs}\r\n" for name, _, _, runs in drawn)
    return [
        write_archive(folder / checked.file, pictures),
        write_archive(folder / checked.masks, masks),
        write_archive(folder / checked.table, [("train_masks.csv", f"img,rle_mask\r\n{rows}".encode())]),
    ]
