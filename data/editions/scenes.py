"""Drawn streets with a mask each: shape, surface and place say what a pixel shows, never its colour.

Every scene has its own colours. A wall is known by its windows, a tree by its leaves, a road by where it
runs; poles are thin, walkers rare, and the frame of the window through which one looks is nobody's class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from data.editions import drawing, faults
from data.editions.archives import write_archive
from data.editions.drawing import Canvas, Frame, Plane, ellipse, line, polygon
from data.editions.pictures import SEED

Thing = Literal["sky", "wall", "tree", "ground", "path", "vehicle", "pole", "walker", "mark", "frame"]
FRAME_SHARE = 0.03
"""Width of the frame around a picture, as a share of its height: the border that is void."""
DRIVE = 0.012
"""How far the camera goes between two frames of one drive."""

Pixels = NDArray[np.uint8]


class Scenes(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """An archive of street scenes in the layout of CamVid."""

    file: str
    """Name of the archive."""
    folder: str
    """Top folder inside: `FOLDER/images/NAME.png`, `FOLDER/labels/NAME_P.png`, `FOLDER/codes.txt`."""
    codes: Annotated[tuple[str, ...], Field(strict=False, min_length=2)]
    """Names of the classes in the order of their numbers, as published; most never occur."""
    things: dict[Thing, str]
    """Which class each thing that is drawn belongs to."""
    drives: int = Field(ge=2)
    """Sequences; each has a street and colours of its own."""
    frames: int = Field(default=1, ge=1)
    """Frames of one drive: nearly the same picture again."""
    valid: int = Field(default=0, ge=0)
    """Drives at the end whose frames `valid.txt` lists; 0 writes no list."""
    height: int = Field(default=48, ge=24)
    """Pixels."""
    width: int = Field(default=64, ge=24)
    """Pixels."""
    faults: bool = False
    """Plant a fault for each reason that cleaning knows."""
    seed: int = Field(default=SEED, ge=0)
    """Of the drawing."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if unknown := sorted(set(self.things.values()) - set(self.codes)):
            raise ValueError(f"things has {unknown[0]!r}, which is none of the codes")
        if self.valid >= self.drives:
            raise ValueError(f"{self.valid} drives to validate on of {self.drives} leave none to train on")
        return self


class Street:
    """One street with its colours; every frame is seen from a little further on."""

    def __init__(self, settings: Scenes, drive: int) -> None:
        self.settings = settings
        self.key = [settings.seed, drive]
        self.ids = {thing: settings.codes.index(name) for thing, name in settings.things.items()}

    def frame(self, number: int) -> tuple[Pixels, Pixels]:
        """(H, W, 3) of the picture and (H, W) of the classes' numbers."""
        rng = np.random.default_rng(self.key)  # the same things and light in every frame
        self.canvas = Canvas(self.settings.height, self.settings.width)
        self.mask = np.zeros((self.settings.height, self.settings.width), np.uint8)
        self.whole = drawing.whole(self.canvas).moved(0, 0, size=1 + DRIVE * number)
        self._draw(rng)
        drawing.light(self.canvas, rng)
        return self.canvas.finish(), self.mask

    def _paint(self, thing: Thing, cover: Plane, colour: NDArray[np.float64]) -> None:
        if thing in self.ids:
            self.canvas.paint(cover, colour)
            self.mask[cover > 0.5] = self.ids[thing]

    def _draw(self, rng: np.random.Generator) -> None:
        frame, side = self.whole, self.settings.width / self.settings.height
        horizon = rng.uniform(-0.45, 0.45)
        everywhere = np.ones(frame.x.shape)
        sky = drawing.any_colour(rng)
        glow = np.clip(0.5 + 0.4 * (frame.y + 1) / 2, 0, 1)[..., None]
        self._paint("sky", everywhere, sky + glow * (drawing.any_colour(rng) - sky) * 0.5)
        self._walls(rng, frame, horizon, side)
        self._trees(rng, frame, horizon, side)
        self._ground(rng, frame, horizon, side)
        self._vehicles(rng, frame, horizon)
        for _ in range(int(rng.integers(1, 4))):
            x = rng.uniform(-side, side)
            top, foot = horizon - rng.uniform(0.35, 0.8), horizon + rng.uniform(0.05, 0.3)
            pole = line(frame, [(x, foot), (x, top)], 0.08)
            self._paint("pole", pole, drawing.any_colour(rng))
        if rng.random() < 0.35:
            x, foot = rng.uniform(-side, side), horizon + rng.uniform(0.15, 0.4)
            body = ellipse(frame, x, foot - 0.16, 0.07, 0.17)
            head = ellipse(frame, x, foot - 0.38, 0.055, 0.06)
            self._paint("walker", np.maximum(body, head), drawing.any_colour(rng))
        rows, columns = np.mgrid[0 : self.settings.height, 0 : self.settings.width]
        edge = max(1, round(FRAME_SHARE * self.settings.height))
        away = np.minimum.reduce(
            [rows, columns, self.settings.height - 1 - rows, self.settings.width - 1 - columns]
        )
        self._paint("frame", (away < edge).astype(np.float64), rng.uniform(0.0, 0.25, 3))

    def _walls(self, rng: np.random.Generator, frame: Frame, horizon: float, side: float) -> None:
        x = -side - rng.uniform(0, 0.4)
        while x < side:
            wide, high = rng.uniform(0.35, 0.9), rng.uniform(0.25, 0.85)
            if rng.random() < 0.7:
                block = polygon(
                    frame, [(x, horizon + 0.1), (x, horizon - high), (x + wide, horizon - high),
                            (x + wide, horizon + 0.1)]
                )  # fmt: skip
                base, pane = drawing.any_colour(rng), drawing.any_colour(rng)
                size = rng.uniform(0.16, 0.24)
                across, down = (frame.x - x) / size % 1, (frame.y - horizon) / size % 1
                window = ((np.abs(across - 0.5) < 0.27) & (np.abs(down - 0.5) < 0.27)).astype(np.float64)
                self._paint("wall", block, base + window[..., None] * (pane - base))
            x += wide + rng.uniform(0, 0.15)

    def _trees(self, rng: np.random.Generator, frame: Frame, horizon: float, side: float) -> None:
        for _ in range(int(rng.integers(1, 5))):
            x, size = rng.uniform(-side, side), rng.uniform(0.22, 0.5)
            bent = frame.bent(rng, 0.12, waves=4)
            crown = ellipse(bent, x, horizon - size * 0.9, size, size * rng.uniform(0.7, 1.1))
            trunk = line(frame, [(x, horizon + 0.08), (x, horizon - size)], 0.1)
            leaves = drawing.noise(frame, rng, 9.0)[..., None]
            base = drawing.any_colour(rng)
            self._paint("tree", np.maximum(crown, trunk), base * (0.45 + 1.1 * leaves))

    def _ground(self, rng: np.random.Generator, frame: Frame, horizon: float, side: float) -> None:
        below = drawing.soft(horizon - frame.y, frame.pixel)
        paving = drawing.checks(frame, rng, per_unit=rng.uniform(4, 6))[..., None]
        base = drawing.any_colour(rng)
        self._paint("path", below, base * (0.85 + 0.25 * paving))
        far, near = rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.3)
        wide = rng.uniform(0.7, 1.0) * side
        corners = [(far - 0.12, horizon), (far + 0.12, horizon), (near + wide, 1.2), (near - wide, 1.2)]
        asphalt = drawing.any_colour(rng) + 0.06 * (drawing.noise(frame, rng, 14.0)[..., None] - 0.5)
        self._paint("ground", polygon(frame, corners), asphalt)
        middle = line(frame, [(far, horizon), (near, 1.2)], 0.05) * below
        dashed = middle * (np.sin(40 * np.sqrt(np.clip(frame.y - horizon, 0, None))) > 0)
        self._paint("mark", dashed, np.ones(3) * rng.uniform(0.75, 0.95))

    def _vehicles(self, rng: np.random.Generator, frame: Frame, horizon: float) -> None:
        for _ in range(int(rng.integers(0, 3))):
            near = rng.uniform(0.1, 0.5)
            part = frame.moved(rng.uniform(-0.7, 0.7), horizon + near, size=0.16 + 0.5 * near)
            a = rng.uniform(0.85, 1.15)
            hull = polygon(part, [(-1, 0.35), (-1, -0.2), (1, -0.2), (1, 0.35)])
            roof = polygon(part, [(-0.75, -0.15), (-0.5, -0.75 * a), (0.5, -0.75 * a), (0.75, -0.15)])
            wheels = [ellipse(part, x, 0.38, 0.24, 0.24) for x in (-0.6, 0.6)]
            pane = polygon(part, [(-0.55, -0.2), (-0.4, -0.62 * a), (0.4, -0.62 * a), (0.55, -0.2)])
            paint, dark, glass = drawing.any_colour(rng), rng.uniform(0.03, 0.15, 3), drawing.any_colour(rng)
            self._paint("vehicle", np.maximum(hull, roof), paint)
            self._paint("vehicle", np.maximum(*wheels), dark)
            self._paint("vehicle", pane, glass)


def files(settings: Scenes) -> Iterator[tuple[str, bytes]]:
    """Every file of the edition by its name, faults and lists included."""
    listed = []
    for drive in range(settings.drives):
        street = Street(settings, drive)
        for number in range(settings.frames):
            name = f"{drive:04d}TP_{30 * number + 6690:06d}"
            pixels, mask = street.frame(number)
            yield from _pair(settings, name, faults.encode(pixels, "png"), mask)
            if drive >= settings.drives - settings.valid:
                listed.append(f"{name}.png")
    if settings.valid and settings.faults:  # the frame after a held-out one is trained on
        pixels, mask = Street(settings, settings.drives - 1).frame(settings.frames)
        name = f"{settings.drives - 1:04d}TP_{30 * settings.frames + 6690:06d}"
        yield from _pair(settings, name, faults.encode(pixels, "png"), mask)
    if settings.faults:
        yield from planted(settings)
        listed.append("0999TP_009999.png")  # in the list, but nowhere else
    yield f"{settings.folder}/codes.txt", ("\n".join(settings.codes) + "\n").encode()
    if settings.valid:
        yield f"{settings.folder}/valid.txt", ("\n".join(listed) + "\n").encode()


def _pair(settings: Scenes, name: str, image: bytes, mask: Pixels | bytes) -> Iterator[tuple[str, bytes]]:
    content = mask if isinstance(mask, bytes) else faults.encode(mask[..., None], "png")
    yield f"{settings.folder}/images/{name}.png", image
    yield f"{settings.folder}/labels/{name}_P.png", content


def planted(settings: Scenes) -> Iterator[tuple[str, bytes]]:
    """A pair for each reason that cleaning knows, and an exact copy, as drives from 901 on."""
    pairs = [Street(settings, 9000 + number).frame(0) for number in range(9)]
    images = [faults.encode(pixels, "png") for pixels, _ in pairs]
    masks = [mask for _, mask in pairs]
    foreign, empty = masks[0].copy(), np.full_like(masks[3], settings.codes.index(settings.things["frame"]))
    foreign[:4, :4] = len(settings.codes) + 40
    whole = faults.encode(masks[2][..., None], "png")
    colour = np.stack([masks[4], masks[4] // 2, masks[4]], axis=-1)
    cases: list[tuple[bytes | None, Pixels | bytes | None]] = [
        (images[0], foreign),  # a number that no class has
        (images[1], masks[1][:-4]),  # of another size
        (images[2], whole[: len(whole) // 2]),  # cut
        (images[3], empty),  # nothing but void
        (images[4], faults.encode(colour, "png")),  # a picture of a mask
        (images[5], None),  # without a mask
        (None, masks[6]),  # without an image
        (b"", masks[6]),
        (b"This is a text under the name of a picture.\n", masks[6]),
        (images[6][: len(images[6]) // 2], masks[6]),
        (faults.huge(), masks[6]),
        (images[7], masks[7]),  # sound, but
        (images[7], masks[7]),  # once more, and
        (images[7], masks[8]),  # with another mask
    ]
    for number, (image, mask) in enumerate(cases, start=901):
        name = f"{number:04d}TP_006690"
        if image is not None:
            yield f"{settings.folder}/images/{name}.png", image
        if mask is not None:
            content = mask if isinstance(mask, bytes) else faults.encode(mask[..., None], "png")
            yield f"{settings.folder}/labels/{name}_P.png", content


def draw_scenes(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive of street scenes."""
    checked = Scenes.model_validate(dict(settings))
    return [write_archive(folder / checked.file, files(checked))]
