"""Bedrooms: walls, a floor, a window, a bed with pillows, a lamp, a picture; never the same room twice."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from data.editions import drawing
from data.editions.drawing import Canvas, Colour, Frame, Plane, ellipse, polygon


class Room(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """A bedroom, seen from its foot end or from a side."""

    draw: Literal["room"]
    bed: Literal["left", "right"]
    """Against which wall the bed stands."""


def furnish(
    look: Room, rng: np.random.Generator, *, height: int, width: int
) -> tuple[NDArray[np.uint8], Plane]:
    """(height, width, 3) uint8 of one room, and how much of each pixel the bed covers."""
    canvas = Canvas(height, width)
    frame = drawing.whole(canvas)
    side = Frame(-frame.x if look.bed == "right" else frame.x, frame.y, frame.pixel)
    edge = max(height, width) / min(height, width)
    horizon, corner = rng.uniform(0.05, 0.35), rng.uniform(0.25, 0.6) * edge
    wall = _tint(rng, 0.55, 0.95)
    canvas.pixels[:] = wall
    canvas.paint(_box(side, corner, -2, 3, 2), wall * rng.uniform(0.75, 0.9))  # the other wall, in shadow
    _lay_floor(canvas, side, rng, horizon=horizon, corner=corner)
    _hang(canvas, side, rng, corner=corner)
    covered = _make_bed(canvas, side, rng, horizon=horizon)
    _light_lamp(canvas, side, rng, horizon=horizon, corner=corner)
    drawing.light(canvas, rng)
    canvas.covered = covered
    return canvas.finish(), covered


def _tint(rng: np.random.Generator, low: float, high: float) -> Colour:
    """A pale or strong colour: one lightness, little or much of a hue."""
    return np.clip(rng.uniform(low, high) + rng.uniform(-0.12, 0.12, 3), 0, 1)


def _box(frame: Frame, left: float, top: float, right: float, bottom: float, *, lean: float = 0.0) -> Plane:
    """A rectangle, its upper side moved by `lean`."""
    return polygon(frame, [(left + lean, top), (right + lean, top), (right, bottom), (left, bottom)])


def _lay_floor(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, *, horizon: float, corner: float
) -> None:
    floor = polygon(frame, [(-3, horizon), (corner, horizon), (3, horizon + 0.9), (3, 3), (-3, 3)])
    wood = np.array([0.55, 0.38, 0.24]) * rng.uniform(0.6, 1.4) + rng.uniform(-0.05, 0.05, 3)
    canvas.paint(floor, np.clip(wood, 0, 1))
    boards = drawing.stripes(frame, rng, per_unit=rng.uniform(2, 4), turn=np.pi / 2)
    canvas.paint(floor * boards * 0.25, np.clip(wood * 0.7, 0, 1))


def _hang(canvas: Canvas, frame: Frame, rng: np.random.Generator, *, corner: float) -> None:
    """A window with daylight, or a picture, on the back wall."""
    left, top = rng.uniform(-0.9, corner - 0.55), rng.uniform(-0.9, -0.6)
    right, bottom = left + rng.uniform(0.35, 0.6), top + rng.uniform(0.4, 0.65)
    rim = 0.05
    canvas.paint(_box(frame, left - rim, top - rim, right + rim, bottom + rim), _tint(rng, 0.3, 0.95))
    if rng.random() < 0.6:
        canvas.paint(_box(frame, left, top, right, bottom), np.array([0.85, 0.93, 1.0]))
        middle = (left + right) / 2
        canvas.paint(_box(frame, middle - 0.02, top, middle + 0.02, bottom), _tint(rng, 0.7, 0.95))
    else:
        canvas.paint(_box(frame, left, top, right, bottom), drawing.any_colour(rng))


def _make_bed(canvas: Canvas, frame: Frame, rng: np.random.Generator, *, horizon: float) -> Plane:
    """Headboard, mattress, blanket, one or two pillows."""
    left, right = rng.uniform(-1.0, -0.7), rng.uniform(0.05, 0.4)
    top, foot = horizon + rng.uniform(-0.1, 0.05), horizon + rng.uniform(0.5, 0.75)
    lean = rng.uniform(-0.15, 0.1)
    board = _box(frame, left, top - rng.uniform(0.2, 0.45), right, top + 0.1, lean=lean / 2)
    canvas.paint(board, _tint(rng, 0.15, 0.6))
    sheet = _box(frame, left - 0.1, top, right + 0.1, foot, lean=lean)
    canvas.paint(sheet, _tint(rng, 0.8, 0.97))
    turned = top + rng.uniform(0.12, 0.3)
    blanket = _box(frame, left - 0.12, turned, right + 0.12, foot + 0.05, lean=lean * 0.6)
    colour = drawing.any_colour(rng)
    canvas.paint(blanket, colour)
    canvas.paint(_box(frame, left - 0.12, foot, right + 0.12, foot + 0.2), colour * 0.6)
    count = int(rng.integers(1, 3))
    for number in range(count):
        x = left + (right - left) * (number + 1) / (count + 1) + lean / 2
        canvas.paint(ellipse(frame, x, top + 0.05, 0.22, 0.1), _tint(rng, 0.82, 0.98))
    return np.clip(board + sheet + blanket, 0, 1)


def _light_lamp(
    canvas: Canvas, frame: Frame, rng: np.random.Generator, *, horizon: float, corner: float
) -> None:
    """A small table with a lamp beside the bed."""
    x, top = rng.uniform(0.5, max(0.55, corner)), horizon + rng.uniform(0.0, 0.15)
    canvas.paint(_box(frame, x - 0.13, top, x + 0.13, top + 0.35), _tint(rng, 0.2, 0.55))
    canvas.paint(_box(frame, x - 0.02, top - 0.2, x + 0.02, top), _tint(rng, 0.2, 0.5))
    shade = polygon(
        frame, [(x - 0.07, top - 0.4), (x + 0.07, top - 0.4), (x + 0.13, top - 0.18), (x - 0.13, top - 0.18)]
    )
    canvas.paint(shade, np.array([1.0, 0.9, 0.65]) * rng.uniform(0.8, 1.0))
