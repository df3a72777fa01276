"""The visual vocabulary of generated pictures: soft masks, coats, backgrounds and light, on numpy alone.

Everything is drawn as a function of coordinates, so position, turn, size and bending cost nothing extra. Sums
are made in float64 and rounded once at the end: the last bit of a sine, which differs between processors,
then does not reach the bytes of an archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
Colour = NDArray[np.float64]
Point = tuple[float, float]


@dataclass
class Canvas:
    """A picture while it is painted: RGB in [0, 1] and how much of each pixel the subject covers."""

    height: int
    width: int
    pixels: Plane = field(init=False)
    covered: Plane = field(init=False)

    def __post_init__(self) -> None:
        self.pixels = np.zeros((self.height, self.width, 3))
        self.covered = np.zeros((self.height, self.width))

    def paint(self, mask: Plane, colour: Colour | Plane) -> None:
        """Lay `colour`, (3,) or (height, width, 3), over the pixels as far as `mask` in [0, 1] says."""
        self.pixels += mask[..., None] * (colour - self.pixels)

    def finish(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        return np.rint(np.clip(self.pixels, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Frame:
    """Coordinates of every pixel as a part sees them: its own origin, turn and unit of length."""

    x: Plane
    y: Plane
    pixel: float
    """Side of a pixel in this frame's unit: the width of a soft edge."""

    def moved(self, x: float, y: float, *, turn: float = 0.0, size: float = 1.0) -> Frame:
        """The frame of a part at (x, y), turned clockwise by `turn` radians, `size` times as large."""
        dx, dy = self.x - x, self.y - y
        cos, sin = np.cos(turn) / size, np.sin(turn) / size
        return Frame(cos * dx + sin * dy, cos * dy - sin * dx, self.pixel / size)

    def mirrored(self) -> Frame:
        """Left and right alike: what is drawn at x > 0 appears on both sides."""
        return Frame(np.abs(self.x), self.y, self.pixel)

    def bent(self, rng: np.random.Generator, amount: float, *, waves: float = 1.2) -> Frame:
        """Displaced by smooth noise of that amplitude: no two outlines are alike."""
        dx = noise(self, rng, waves) - 0.5
        dy = noise(self, rng, waves) - 0.5
        return Frame(self.x + 2 * amount * dx, self.y + 2 * amount * dy, self.pixel)


def whole(canvas: Canvas) -> Frame:
    """The frame of the picture: origin in the middle, the shorter side from -1 to 1, y downwards."""
    unit = 2 / min(canvas.height, canvas.width)
    y, x = np.mgrid[0 : canvas.height, 0 : canvas.width].astype(np.float64)
    return Frame((x - (canvas.width - 1) / 2) * unit, (y - (canvas.height - 1) / 2) * unit, unit)


def soft(distance: Plane, pixel: float) -> Plane:
    """Coverage from a signed distance (negative inside): a ramp one pixel wide."""
    return np.clip(0.5 - distance / pixel, 0, 1)


def ellipse(frame: Frame, x: float, y: float, rx: float, ry: float, *, turn: float = 0.0) -> Plane:
    """Mask of an ellipse with half-axes rx and ry."""
    part = frame.moved(x, y, turn=turn)
    return soft((np.sqrt((part.x / rx) ** 2 + (part.y / ry) ** 2) - 1) * min(rx, ry), frame.pixel)


def polygon(frame: Frame, points: Sequence[Point]) -> Plane:
    """Mask of a closed polygon, convex or not."""
    inside = np.zeros(frame.x.shape, dtype=bool)
    nearest = np.full(frame.x.shape, np.inf)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        nearest = np.minimum(nearest, _squared_distance(frame, (x0, y0), (x1, y1)))
        if y0 != y1:
            crosses = (frame.y < y0) != (frame.y < y1)
            inside ^= crosses & (frame.x < x0 + (frame.y - y0) * ((x1 - x0) / (y1 - y0)))
    distance = np.sqrt(nearest)
    return soft(np.where(inside, -distance, distance), frame.pixel)


def line(frame: Frame, points: Sequence[Point], thickness: float) -> Plane:
    """Mask of a stroke with round ends along the points."""
    nearest = np.full(frame.x.shape, np.inf)
    for start, end in pairwise(points):
        nearest = np.minimum(nearest, _squared_distance(frame, start, end))
    return soft(np.sqrt(nearest) - thickness / 2, frame.pixel)


def _squared_distance(frame: Frame, start: Point, end: Point) -> Plane:
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = frame.x - start[0], frame.y - start[1]
    along = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
    return (px - along * dx) ** 2 + (py - along * dy) ** 2


def noise(frame: Frame, rng: np.random.Generator, waves: float, *, stretch: float = 1.0) -> Plane:
    """Smooth values in [0, 1]: a random lattice with `waves` cells per unit, `stretch` times longer in y."""
    table = rng.random((32, 32))
    shift_x, shift_y = rng.random(2) * 32
    gx, gy = frame.x * waves + shift_x, frame.y * (waves / stretch) + shift_y
    floor_x, floor_y = np.floor(gx), np.floor(gy)
    fx, fy = gx - floor_x, gy - floor_y
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    column, row = floor_x.astype(np.int64) & 31, floor_y.astype(np.int64) & 31
    below, right = (row + 1) & 31, (column + 1) & 31
    top = table[row, column] * (1 - fx) + table[row, right] * fx
    bottom = table[below, column] * (1 - fx) + table[below, right] * fx
    blended: Plane = top * (1 - fy) + bottom * fy
    return blended


def stripes(frame: Frame, rng: np.random.Generator, *, per_unit: float, turn: float) -> Plane:
    """Mask of wavy parallel stripes."""
    bent = frame.bent(rng, 0.10, waves=1.5)
    phase = (bent.x * np.cos(turn) + bent.y * np.sin(turn)) * per_unit + rng.random()
    height = np.sin(2 * np.pi * phase) - rng.uniform(-0.1, 0.2)
    mask: Plane = np.clip(0.5 + height / (2 * np.pi * per_unit * frame.pixel), 0, 1)
    return mask


def spots(frame: Frame, rng: np.random.Generator, *, per_unit: float) -> Plane:
    """Mask of irregular dots on a bent lattice."""
    bent = frame.moved(0, 0, turn=rng.uniform(0, np.pi)).bent(rng, 0.15, waves=1.8)
    fx, fy = 2 * np.pi * per_unit * bent.x / 1.41, 2 * np.pi * per_unit * bent.y / 1.41
    height = np.sin(fx + rng.random() * 6.3) * np.sin(fy + rng.random() * 6.3)
    height = np.abs(height) - rng.uniform(0.50, 0.62)
    mask: Plane = np.clip(0.5 + height / (4 * per_unit * frame.pixel), 0, 1)
    return mask


def patches(frame: Frame, rng: np.random.Generator) -> Plane:
    """Mask of a few large blotches."""
    height = noise(frame, rng, 1.6) - rng.uniform(0.45, 0.55)
    return np.clip(0.5 + height / (3 * frame.pixel), 0, 1)


def shag(frame: Frame, rng: np.random.Generator) -> Plane:
    """Mask of long hair: short upright strokes."""
    height = noise(frame, rng, 11.0, stretch=3.5) - 0.5
    mask: Plane = np.clip(0.5 + 3.0 * height, 0, 1)
    return mask


def checks(frame: Frame, rng: np.random.Generator, *, per_unit: float) -> Plane:
    """Mask of a chequered cloth."""
    part = frame.moved(rng.random(), rng.random(), turn=rng.uniform(0.5, 1.1))
    height = np.sin(2 * np.pi * per_unit * part.x) * np.sin(2 * np.pi * per_unit * part.y)
    return np.clip(0.5 + height / (4 * per_unit * frame.pixel), 0, 1)


FURS = tuple(
    np.array(colour)
    for colour in (
        (0.20, 0.17, 0.16), (0.45, 0.44, 0.45), (0.76, 0.47, 0.22), (0.90, 0.82, 0.68),
        (0.46, 0.30, 0.19), (0.93, 0.91, 0.88), (0.60, 0.54, 0.49), (0.66, 0.52, 0.36), (0.38, 0.40, 0.46),
    )
)  # fmt: skip
"""Coat colours, from black to white; which one says nothing about the class."""


def fur(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """A coat colour, and one for its markings that stands out from it, lighter or darker."""
    base = FURS[int(rng.integers(len(FURS)))] + rng.uniform(-0.05, 0.05, 3)
    light = float(base.mean())
    darker = rng.random() < (0.15 if light < 0.32 else 0.85 if light > 0.7 else 0.5)
    share = rng.uniform(0.55, 0.75)
    marks = base * (1 - share) if darker else base + (1 - base) * share
    return base, marks * rng.uniform(0.94, 1.06, 3)


def any_colour(rng: np.random.Generator) -> Colour:
    """Any colour that is neither black nor white."""
    return rng.uniform(0.08, 0.95, 3)


def background(canvas: Canvas, rng: np.random.Generator, *, clutter: int) -> None:
    """A blurred room or meadow: two colours that blend, a texture, and up to `clutter` things in the way."""
    frame = whole(canvas)
    first, second = any_colour(rng), any_colour(rng)
    turn = rng.uniform(0, 2 * np.pi)
    blend = np.clip(0.5 + 0.4 * (frame.x * np.cos(turn) + frame.y * np.sin(turn)), 0, 1)
    canvas.pixels[:] = first + blend[..., None] * (second - first)
    texture = noise(frame, rng, rng.uniform(1.5, 9), stretch=rng.uniform(0.4, 2.5)) - 0.5
    canvas.pixels += rng.uniform(0.05, 0.35) * texture[..., None] * rng.uniform(0.6, 1.0, 3)
    for _ in range(int(rng.integers(clutter + 1))):
        thing = frame.moved(
            *rng.uniform(-1.2, 1.2, 2), turn=rng.uniform(0, np.pi), size=rng.uniform(0.15, 0.5)
        )
        kind = int(rng.integers(3))
        if kind == 0:
            mask = ellipse(thing, 0, 0, 1, rng.uniform(0.4, 1))
        elif kind == 1:
            mask = soft(np.maximum(np.abs(thing.x) - 1, np.abs(thing.y) - rng.uniform(0.2, 1)), thing.pixel)
        else:
            mask = line(thing, [(-2, 0), (2, rng.uniform(-1, 1))], rng.uniform(0.1, 0.4))
        canvas.paint(mask * rng.uniform(0.4, 0.9), any_colour(rng))


def light(canvas: Canvas, rng: np.random.Generator) -> None:
    """Light from one side, exposure, a cast of colour, and the grain of a sensor."""
    frame = whole(canvas)
    turn = rng.uniform(0, 2 * np.pi)
    shade = 1 + rng.uniform(0.05, 0.30) * (frame.x * np.cos(turn) + frame.y * np.sin(turn))
    canvas.pixels *= (shade * rng.uniform(0.75, 1.2))[..., None] * rng.uniform(0.9, 1.1, 3)
    canvas.pixels += rng.normal(0, rng.uniform(0.01, 0.035), canvas.pixels.shape)
