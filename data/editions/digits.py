"""Handwritten digits as strokes: the same figure is never written twice in the same way."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from data.editions.drawing import Canvas, Frame, Point, line, whole


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Points of an elliptic arc; degrees clockwise from the right."""
    angles = [math.radians(start + (end - start) * step / 16) for step in range(17)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


STROKES: dict[int, list[list[Point]]] = {
    0: [_arc(0, 0, 0.55, 0.9, -90, 270)],
    1: [[(-0.25, -0.6), (0.1, -0.9), (0.1, 0.9)]],
    2: [[*_arc(0, -0.45, 0.5, 0.45, -170, 40), (-0.5, 0.85), (0.6, 0.85)]],
    3: [[*_arc(0, -0.45, 0.45, 0.42, -150, 80), *_arc(0, 0.42, 0.52, 0.46, -80, 150)]],
    4: [[(0.15, -0.9), (-0.55, 0.3), (0.6, 0.3)], [(0.25, -0.3), (0.25, 0.9)]],
    5: [[(0.5, -0.85), (-0.35, -0.85), (-0.42, -0.05), *_arc(0, 0.35, 0.5, 0.48, -120, 140)]],
    6: [[(0.35, -0.85), (-0.3, -0.2), *_arc(0, 0.4, 0.48, 0.46, 180, -180)]],
    7: [[(-0.5, -0.8), (0.55, -0.8), (-0.1, 0.9)]],
    8: [_arc(0, -0.45, 0.4, 0.42, 90, 450), _arc(0, 0.45, 0.5, 0.45, -90, 270)],
    9: [_arc(0, -0.4, 0.45, 0.45, 0, 360), [(0.45, -0.4), (0.3, 0.9)]],
}
"""Each digit between -1 and 1, y downwards."""


def write_digit(digit: int, rng: np.random.Generator, *, side: int) -> NDArray[np.uint8]:
    """(side, side, 1) uint8: white on black, as MNIST, with another slant, size, place and pen each time."""
    canvas = Canvas(side, side)
    page = whole(canvas).moved(
        *rng.uniform(-0.16, 0.16, 2), turn=rng.uniform(-0.3, 0.3), size=rng.uniform(0.5, 0.78)
    )
    slant, narrow = rng.uniform(-0.3, 0.3), rng.uniform(0.75, 1.15)
    frame = Frame((page.x + slant * page.y) / narrow, page.y, page.pixel).bent(rng, 0.13, waves=1.4)
    pen = rng.uniform(0.16, 0.34)
    ink = np.zeros((side, side))
    for stroke in STROKES[digit]:
        ink = np.maximum(ink, line(frame, stroke, pen))
    grey = np.clip(ink * rng.uniform(0.8, 1.0) + rng.normal(0, 0.02, ink.shape) * (ink > 0), 0, 1)
    return np.rint(grey * 255).astype(np.uint8)[..., None]
