"""What can be seen in a generated picture: heads of animals made of parts, and things with an outline."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field

from data.editions import drawing
from data.editions.drawing import Canvas, Colour, Frame, Plane, ellipse, line, polygon

Shape = Literal["round", "long", "wide"]
Ears = Literal["pointed", "round", "floppy", "long", "tufted", "folded", "antlers", "bulging", "none"]
Muzzle = Literal["short", "long", "broad"]
Coat = Literal["plain", "stripes", "spots", "patches", "mask", "blaze", "shaggy", "checks"]
Outline = Literal[
    "disc", "square", "triangle", "star", "cross", "ring", "crescent", "plane", "car", "truck", "ship", "bird"
]


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Head(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The head of an animal. Where several parts are named, each picture takes one at random."""

    draw: Literal["head"] = "head"
    shape: Annotated[tuple[Shape, ...], Field(strict=False), BeforeValidator(_several)] = (
        "round",
        "long",
        "wide",
    )
    """Proportions of the skull."""
    ears: Annotated[tuple[Ears, ...], Field(strict=False), BeforeValidator(_several)]
    """What stands or hangs on it."""
    muzzle: Annotated[tuple[Muzzle, ...], Field(strict=False), BeforeValidator(_several)] = (
        "short",
        "long",
        "broad",
    )
    """The part with nose and mouth."""
    coat: Annotated[tuple[Coat, ...], Field(strict=False), BeforeValidator(_several)] = ("plain",)
    """Pattern of the fur."""


class Thing(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """A thing that is known by its outline."""

    draw: Literal["thing"]
    outline: Annotated[tuple[Outline, ...], Field(strict=False), BeforeValidator(_several)]
    """Its silhouette."""
    coat: Annotated[tuple[Coat, ...], Field(strict=False), BeforeValidator(_several)] = ("plain",)
    """Pattern of its surface."""


Look = Head | Thing


class View(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How differently the same thing may appear."""

    size: Annotated[tuple[float, float], Field(strict=False)] = (0.45, 0.72)
    """Smallest and largest radius of the subject, as a share of half the shorter side."""
    turn: float = Field(default=0.35, ge=0, le=3.2)
    """Largest turn to either side, in radians."""
    shift: float = Field(default=0.3, ge=0, le=1)
    """Largest distance from the middle, as a share of half the shorter side."""
    clutter: int = Field(default=5, ge=0, le=20)
    """Most things in the background."""


def picture(
    look: Look, view: View, rng: np.random.Generator, *, height: int, width: int
) -> tuple[NDArray[np.uint8], Plane]:
    """(height, width, 3) uint8 of one subject on a background, and its coverage in [0, 1]."""
    canvas = Canvas(height, width)
    drawing.background(canvas, rng, clutter=view.clutter)
    frame = drawing.whole(canvas).moved(
        *rng.uniform(-view.shift, view.shift, 2),
        turn=rng.uniform(-view.turn, view.turn),
        size=rng.uniform(*view.size),
    )
    frame = frame.bent(rng, 0.09)
    if isinstance(look, Head):
        paint_head(canvas, frame, look, rng)
    else:
        paint_thing(canvas, frame, look, rng)
    drawing.light(canvas, rng)
    return canvas.finish(), canvas.covered


def _one(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def marking(frame: Frame, coat: str, rng: np.random.Generator) -> Plane:
    """Where a coat has the colour of its markings."""
    if coat == "stripes":
        return drawing.stripes(frame, rng, per_unit=rng.uniform(1.7, 2.4), turn=rng.uniform(-0.5, 0.5))
    if coat == "spots":
        return drawing.spots(frame, rng, per_unit=rng.uniform(1.4, 1.9))
    if coat == "patches":
        return drawing.patches(frame, rng)
    if coat == "mask":
        return np.clip(1.9 - 2.2 * np.sqrt(frame.x**2 + (frame.y - 0.25) ** 2), 0, 1)
    if coat == "blaze":
        return drawing.soft(np.abs(frame.x) - 0.20 - 0.12 * frame.y, 2 * frame.pixel)
    if coat == "shaggy":
        return drawing.shag(frame, rng)
    if coat == "checks":
        return drawing.checks(frame, rng, per_unit=rng.uniform(1.1, 1.5))
    return np.zeros(frame.x.shape)


def paint_head(canvas: Canvas, frame: Frame, look: Head, rng: np.random.Generator) -> None:
    """Shoulders, ears, skull with its coat, muzzle, eyes; turned a little to one side."""
    base, marks = drawing.fur(rng)
    coat, ears = _one(look.coat, rng), _one(look.ears, rng)
    rx, ry = {"round": (0.80, 0.80), "long": (0.68, 0.92), "wide": (0.94, 0.74)}[_one(look.shape, rng)]
    both = frame.mirrored()
    aside = frame.moved(rng.uniform(-0.16, 0.16), rng.uniform(-0.06, 0.06))
    face = aside.mirrored()

    pattern = marking(frame, coat, rng)[..., None]
    colours = base + pattern * (marks - base)
    shading = 1.06 - 0.22 * np.clip(frame.x**2 + (frame.y + 0.2) ** 2, 0, 1.6)
    colours = colours * shading[..., None]

    body = ellipse(frame, 0, ry + 0.75, 1.05, 1.0)
    canvas.paint(body, colours * 0.80)
    behind, before = _ears(both, ears, rx, ry, rng)
    inner = base * 0.55 + np.array((0.40, 0.22, 0.20))
    dark = marks if coat == "mask" else base
    for mask, tone in behind:
        canvas.paint(mask, {"coat": colours * 0.92, "inner": inner, "dark": dark * 0.72}[tone])
    skull = ellipse(frame, 0, 0, rx, ry)
    canvas.paint(ellipse(frame, 0, 0.03, rx + 0.05, ry + 0.05) * 0.55, base * 0.45)
    canvas.paint(skull, colours)
    _face(canvas, face, aside, look, base, rng, ry=ry)
    for mask, tone in before:
        canvas.paint(mask, {"coat": colours * 0.92, "inner": inner, "dark": dark * 0.72}[tone])
    for mask in (body, skull, *(mask for mask, _ in (*behind, *before))):
        canvas.covered = np.maximum(canvas.covered, mask)


def _ears(
    both: Frame, ears: str, rx: float, ry: float, rng: np.random.Generator
) -> tuple[list[tuple[Plane, str]], list[tuple[Plane, str]]]:
    """Masks with a tone, from back to front: those behind the skull, those before it."""
    reach = rng.uniform(0.9, 1.12)
    if ears == "pointed":
        tip = (rx * 0.95, -ry - 0.55 * reach)
        outer = polygon(both, [(rx * 0.98, -ry * 0.25), tip, (rx * 0.18, -ry * 0.85)])
        return [(outer, "coat"), (polygon(both, [(rx * 0.88, -ry * 0.45), (tip[0] * 0.97, tip[1] * 0.90),
                                                 (rx * 0.40, -ry * 0.85)]), "inner")], []  # fmt: skip
    if ears == "tufted":
        outer = polygon(
            both, [(rx * 1.05, -ry * 0.1), (rx * 1.55, -ry - 0.35 * reach), (rx * 0.3, -ry * 0.9)]
        )
        tuft = line(both, [(rx * 1.45, -ry - 0.25), (rx * 1.75, -ry - 0.62 * reach)], 0.12)
        return [(outer, "coat"), (tuft, "dark")], []
    if ears == "round":
        x, y, r = rx * 0.80, -ry * 0.80, 0.36 * reach
        return [(ellipse(both, x, y, r, r), "coat"), (ellipse(both, x, y, r * 0.58, r * 0.58), "inner")], []
    if ears == "long":
        x, y = rx * 0.42, -ry - 0.50 * reach
        outer = ellipse(both, x, y, 0.21, 0.72 * reach, turn=0.15)
        return [(outer, "coat"), (ellipse(both, x, y, 0.10, 0.52 * reach, turn=0.15), "inner")], []
    if ears == "floppy":
        return [], [(ellipse(both, rx * 1.02, -0.02, 0.25, 0.70 * reach, turn=-0.22), "dark")]
    if ears == "folded":
        flap = polygon(
            both, [(rx * 0.30, -ry * 0.98), (rx * 1.12, -ry * 0.62), (rx * 0.86, -ry * 0.22 * reach)]
        )
        return [(ellipse(both, rx * 0.66, -ry * 0.78, 0.30, 0.24), "coat")], [(flap, "dark")]
    if ears == "antlers":
        top = -ry - 0.85 * reach
        beam = line(both, [(rx * 0.35, -ry * 0.8), (rx * 0.75, -ry - 0.35), (rx * 0.8, top)], 0.13)
        tines = line(both, [(rx * 1.25, top + 0.2), (rx * 0.75, -ry - 0.3), (rx * 0.3, top + 0.1)], 0.10)
        leaf = ellipse(both, rx * 1.05, -ry * 0.55, 0.32, 0.15, turn=-0.4)
        return [(beam, "dark"), (tines, "dark"), (leaf, "coat")], []
    if ears == "bulging":
        x, y = rx * 0.62, -ry * 0.88
        return [], [
            (ellipse(both, x, y, 0.34, 0.34), "coat"),
            (ellipse(both, x, y - 0.03, 0.14, 0.18), "dark"),
        ]
    return [], []


def _face(
    canvas: Canvas,
    face: Frame,
    aside: Frame,
    look: Head,
    base: Colour,
    rng: np.random.Generator,
    *,
    ry: float,
) -> None:
    """Eyes, muzzle, nose and mouth; the colours are drawn at random."""
    pale = base + (1 - base) * rng.uniform(0.25, 0.55)
    black = rng.uniform(0.03, 0.16, 3)
    muzzle = _one(look.muzzle, rng)
    iris = drawing.any_colour(rng) * 0.6 + np.array((0.35, 0.33, 0.15))
    spread, high = rng.uniform(0.32, 0.40), rng.uniform(-0.20, -0.06)
    if muzzle == "long":
        canvas.paint(ellipse(aside, 0, ry * 0.62, 0.33, 0.56), pale)
        nose_y, nose = ry * 0.62 + 0.26, (0.21, 0.15)
    elif muzzle == "broad":
        canvas.paint(ellipse(face, 0.24, 0.42, 0.36, 0.34), pale)
        nose_y, nose = 0.26, (0.20, 0.13)
    else:
        canvas.paint(ellipse(face, 0.13, 0.40, 0.20, 0.16), pale)
        nose_y, nose = 0.27, (0.10, 0.07)
    if muzzle == "short":  # a cat's: whiskers, slit pupils
        for slope in (-0.10, 0.06):
            whisker = line(face, [(0.25, 0.40), (0.95, 0.36 + slope * 2)], max(0.025, face.pixel * 0.7))
            canvas.paint(whisker * 0.8, pale * 0.5 + 0.5)
    canvas.paint(ellipse(face, spread, high, 0.17, 0.14), black)
    canvas.paint(ellipse(face, spread, high, 0.14, 0.115), iris)
    canvas.paint(ellipse(face, spread, high, 0.05 if muzzle == "short" else 0.09, 0.105), black)
    canvas.paint(ellipse(face, spread - 0.04, high - 0.05, 0.035, 0.035), np.ones(3))
    canvas.paint(ellipse(aside, 0, nose_y, *nose), black + np.array((0.10, 0.02, 0.02)))
    mouth = [(0.0, nose_y + 0.05), (0.02, nose_y + 0.16), (0.20, nose_y + 0.20)]
    canvas.paint(line(face, mouth, 0.045) * 0.8, black)


def paint_thing(canvas: Canvas, frame: Frame, look: Thing, rng: np.random.Generator) -> None:
    """A silhouette with a surface, and the details that belong to it."""
    base = drawing.any_colour(rng)
    marks = base * 0.35 if base.mean() > 0.5 else base + (1 - base) * 0.65
    pattern = marking(frame, _one(look.coat, rng), rng)[..., None]
    colours = (base + pattern * (marks - base)) * (1.1 - 0.25 * np.clip(frame.y + 0.3, 0, 1))[..., None]
    body, details = _silhouette(frame, _one(look.outline, rng), rng)
    canvas.paint(body, colours)
    canvas.covered = np.maximum(canvas.covered, body)
    glass, dark = rng.uniform(0.55, 0.9) * np.array((0.8, 0.95, 1.0)), rng.uniform(0.04, 0.2, 3)
    for mask, tone in details:
        canvas.paint(mask, {"glass": glass, "dark": dark, "marks": marks}[tone])
        canvas.covered = np.maximum(canvas.covered, mask)


def _silhouette(
    frame: Frame, outline: str, rng: np.random.Generator
) -> tuple[Plane, list[tuple[Plane, str]]]:
    if rng.random() < 0.5:
        frame = Frame(-frame.x, frame.y, frame.pixel)
    a = rng.uniform(0.85, 1.15)
    if outline in _FLAT:
        return polygon(frame, [(x * a, y / a) for x, y in _FLAT[outline]]), []
    if outline == "disc":
        return ellipse(frame, 0, 0, 0.95 * a, 0.95 / a), []
    if outline in {"ring", "crescent"}:
        away, hole = (0.0, 0.5) if outline == "ring" else (0.45, 0.75)
        return ellipse(frame, 0, 0, 0.98, 0.98) * (1 - ellipse(frame, away, 0, hole * a, hole)), []
    if outline == "plane":
        hull = ellipse(frame, 0, 0, 1.15, 0.19 * a)
        wing = polygon(frame, [(0.25, 0), (-0.25, 0.95 * a), (-0.5, 0.95 * a), (-0.2, 0)])
        far = polygon(frame, [(0.25, -0.05), (-0.1, -0.6 * a), (-0.3, -0.6 * a), (-0.15, -0.05)])
        tail = polygon(frame, [(-0.75, 0), (-1.2, -0.55 * a), (-1.0, 0.08)])
        windows = line(frame, [(-0.5, -0.05), (0.7, -0.05)], 0.06)
        return np.max([hull, wing, far, tail], axis=0), [(windows, "glass")]
    if outline in {"car", "truck"}:
        both = [ellipse(frame, x, 0.45, 0.24, 0.24) for x in (-0.62, 0.62)]
        hubs = [ellipse(frame, x, 0.45, 0.10, 0.10) for x in (-0.62, 0.62)]
        if outline == "car":
            roof = [(-0.7, -0.05), (-0.4, -0.45 * a), (0.35, -0.45 * a), (0.65, -0.02)]
            hull = polygon(frame, [(-1.1, 0.45), (-1.1, 0.0), *roof, (1.1, 0.08), (1.1, 0.45)])
            panes = polygon(frame, [(-0.55, -0.05), (-0.33, -0.36 * a), (0.28, -0.36 * a), (0.5, -0.03)])
        else:
            load = [(-1.15, 0.45), (-1.15, -0.7 * a), (0.35, -0.7 * a), (0.35, -0.3)]
            hull = polygon(frame, [*load, (0.85, -0.3), (1.15, 0.1), (1.15, 0.45)])
            panes = polygon(frame, [(0.48, 0.05), (0.48, -0.2), (0.8, -0.2), (0.98, 0.05)])
        return hull, [(panes, "glass"), *((w, "dark") for w in both), *((h, "marks") for h in hubs)]
    if outline == "ship":
        hull = polygon(frame, [(-1.1, 0.15), (1.15, 0.15), (0.8, 0.65), (-0.85, 0.65)])
        house = polygon(frame, [(-0.6, 0.15), (-0.6, -0.25 * a), (0.2, -0.25 * a), (0.2, 0.15)])
        funnel = polygon(frame, [(-0.3, -0.2), (-0.3, -0.75 * a), (0.0, -0.75 * a), (0.0, -0.2)])
        return np.max([hull, funnel], axis=0), [
            (house, "glass"),
            (line(frame, [(0.7, 0.15), (0.7, -0.7)], 0.08), "dark"),
        ]
    body = ellipse(frame, 0, 0.05, 0.75, 0.42 * a, turn=-0.25)
    head = ellipse(frame, 0.68, -0.38, 0.28, 0.27)
    tail = polygon(frame, [(-0.5, 0.1), (-1.25, 0.15), (-1.15, 0.5), (-0.4, 0.35)])
    wing = ellipse(frame, -0.12, 0.02, 0.46, 0.22 * a, turn=0.35)
    beak = polygon(frame, [(0.9, -0.48), (1.28, -0.33), (0.9, -0.25)])
    legs = line(frame, [(-0.05, 0.4), (-0.05, 0.95)], 0.07) + line(frame, [(0.2, 0.35), (0.2, 0.95)], 0.07)
    details = [
        (np.clip(legs, 0, 1), "dark"),
        (wing, "marks"),
        (beak, "dark"),
        (ellipse(frame, 0.75, -0.42, 0.06, 0.06), "dark"),
    ]
    return np.max([body, head, tail], axis=0), details


def _rays(count: int, inner: float) -> list[drawing.Point]:
    angles = np.arange(2 * count) * np.pi / count - np.pi / 2
    radii = np.where(np.arange(2 * count) % 2 == 0, 1.05, inner)
    return [
        (float(r * np.cos(angle)), float(r * np.sin(angle))) for r, angle in zip(radii, angles, strict=True)
    ]


_FLAT: dict[str, list[drawing.Point]] = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0, -1), (0.95, 0.75), (-0.95, 0.75)],
    "star": _rays(5, 0.45),
    "cross": [(-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3), (0.3, 0.95),
              (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3)],
}  # fmt: skip
