"""Editions of picture data sets: a path template and a look per class are the whole layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator, model_validator

from data.editions import faults, trimaps
from data.editions.archives import write_archive
from data.editions.digits import write_digit
from data.editions.drawing import Plane
from data.editions.looks import Head, Thing, View, picture
from data.editions.rooms import Room, furnish

SEED = 20181022
"""Of every drawing (the day on which lesson 1 of the 2019 course was taught)."""


class Digit(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """A handwritten digit, white on black."""

    draw: Literal["digit"]
    digit: int = Field(ge=0, le=9)
    """Which one."""


Look = Annotated[Head | Thing | Digit | Room, Field(discriminator="draw")]


class Edition(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Drawn pictures: what they show, how many, under which names."""

    file: str
    """Name of the archive."""
    path: str
    """Name of a picture inside, with `{part}`, `{label}`, `{stem}` and `{number}`."""
    classes: Annotated[dict[str, Look], Field(min_length=2)]
    """What each class looks like."""
    parts: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Pictures of each class, by the folder that stands for `{part}`."""
    encoding: Literal["jpeg", "png"] = "jpeg"
    """Format of the pictures."""
    side: Annotated[tuple[int, int], Field(strict=False)] = (64, 96)
    """Smallest and largest shorter side in pixels."""
    aspect: float = Field(default=1.0, ge=1, le=2)
    """Largest ratio of the sides, in both directions."""
    view: View = View()
    """How differently the same thing may appear."""
    seed: int = Field(default=SEED, ge=0)
    """Of the drawing."""

    @field_validator("path")
    @classmethod
    def _is_template(cls, path: str) -> str:
        try:
            path.format(part="", label="", stem="", number=1)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"only {{part}}, {{label}}, {{stem}} and {{number}} may stand in it: {error}"
            ) from None
        return path


class Pictures(Edition, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """An archive of pictures with the tables that its publisher adds."""

    stems: dict[str, str] = {}
    """`{stem}` of a class where it is not the class's name."""
    unlabelled: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Pictures of any class, by a path of their own with `{number}`."""
    faults: str = ""
    """Part in which faults are planted; empty: none."""
    thumbnail: int = Field(default=0, ge=0, le=64)
    """Pixels a side of one more planted picture, which is too small; 0: none."""
    annotations: str = ""
    """Folder for Oxford's lists, trimaps and boxes; empty: none."""
    labels_csv: str = ""
    """Path of a table `name,label` of all pictures; empty: none."""
    labels_txt: str = ""
    """Path of a list of the classes; empty: none."""

    @model_validator(mode="after")
    def _names_what_exists(self) -> Pictures:
        if self.faults and self.faults not in self.parts:
            raise ValueError(f"faults are planted in a part: {', '.join(self.parts)}; not in {self.faults!r}")
        if unknown := [label for label in self.stems if label not in self.classes]:
            raise ValueError(f"stems has {unknown[0]!r}, which is no class")
        return self


class AddressLists(Edition, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Lists of addresses, one per class, and what stands behind them."""

    lists: str
    """Name of a list inside the archive, with `{label}`."""


def draw(
    look: Head | Thing | Digit | Room, settings: Edition, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Plane]:
    """One picture (H, W, C) uint8, and its subject's coverage."""
    side = int(rng.integers(settings.side[0], settings.side[1] + 1))
    if isinstance(look, Digit):
        pixels = write_digit(look.digit, rng, side=side)
        return pixels, pixels[..., 0] / 255
    longer = round(side * rng.uniform(1, settings.aspect))
    height, width = (longer, side) if rng.random() < 0.4 else (side, longer)
    if isinstance(look, Room):
        return furnish(look, rng, height=height, width=width)
    return picture(look, settings.view, rng, height=height, width=width)


def drawings(settings: Edition, stems: Mapping[str, str]) -> Iterator[tuple[str, str, bytes, Plane]]:
    """Name, label, encoded picture and coverage of every sound picture."""
    for place, (part, count) in enumerate(settings.parts.items()):
        for index, (label, look) in enumerate(settings.classes.items()):
            for number in range(1, count + 1):
                rng = np.random.default_rng([settings.seed, place, index, number])
                pixels, covered = draw(look, settings, rng)
                name = settings.path.format(
                    part=part, label=label, stem=stems.get(label, label), number=number
                )
                yield name, label, faults.encode(pixels, settings.encoding), covered


def files(settings: Pictures) -> Iterator[tuple[str, bytes]]:
    """Every file of the edition by its name, faults and tables included."""
    listed: list[tuple[str, str]] = []
    marked: list[tuple[str, str, Plane]] = []
    for name, label, content, covered in drawings(settings, settings.stems):
        listed.append((name, label))
        if settings.annotations:
            marked.append((Path(name).stem, label, covered))
        yield name, content
    yield from _unlabelled(settings)
    if settings.faults:
        yield from planted(settings)
    if settings.annotations:
        yield from trimaps.tables(settings.annotations, marked)
    if settings.labels_csv:
        root = f"{Path(settings.labels_csv).parent.as_posix()}/"
        numbers = {label: index for index, label in enumerate(settings.classes)}
        rows = [f"{name.removeprefix(root)},{numbers[label]}" for name, label in listed]
        yield settings.labels_csv, ("\n".join(["name,label", *rows]) + "\n").encode()
    if settings.labels_txt:
        yield settings.labels_txt, ("\n".join(settings.classes) + "\n").encode()


def _unlabelled(settings: Pictures) -> Iterator[tuple[str, bytes]]:
    looks = list(settings.classes.values())
    for place, (path, count) in enumerate(settings.unlabelled.items()):
        for number in range(1, count + 1):
            rng = np.random.default_rng([settings.seed, 1000 + place, number])
            pixels, _ = draw(looks[int(rng.integers(len(looks)))], settings, rng)
            yield path.format(number=number), faults.encode(pixels, settings.encoding)


def planted(settings: Pictures) -> Iterator[tuple[str, bytes]]:
    """Broken files, copies and other modes, numbered from 901 in the first two classes."""
    (first, look), (second, _) = list(settings.classes.items())[:2]
    part = settings.faults

    def named(label: str, number: int) -> str:
        stem = settings.stems.get(label, label)
        return settings.path.format(part=part, label=label, stem=stem, number=number)

    def pixels(number: int) -> NDArray[np.uint8]:
        drawn = draw(look, settings, np.random.default_rng([settings.seed, 2000, number]))[0]
        return np.repeat(drawn, 3, axis=2) if drawn.shape[-1] == 1 else drawn

    whole = faults.encode(pixels(0), settings.encoding)
    again = faults.encode(pixels(1), settings.encoding)
    contents = [
        (first, b"This is a text that was saved under the name of a picture.\n"),
        (first, b""),
        (first, whole[: len(whole) * 2 // 3]),
        (first, faults.huge()),
        (first, whole),
        (first, whole),  # the same once more
        (first, again),
        (second, again),  # the same under another label
        (first, faults.lying(pixels(2))),
        *(
            (first, faults.in_mode(pixels(3 + place), mode))
            for place, mode in enumerate(("L", "P", "RGBA", "CMYK"))
        ),
    ]
    for number, (label, content) in enumerate(contents, start=901):
        yield named(label, number), content
    if settings.thumbnail:
        yield (
            named(first, 920),
            faults.encode(pixels(19)[: settings.thumbnail, : settings.thumbnail], settings.encoding),
        )
    beside = Path(named(first, 914))
    yield beside.with_suffix(".mat").as_posix(), b"MATLAB 5.0 MAT-file\n"
    yield beside.with_name(f"nameless{beside.suffix}").as_posix(), faults.encode(pixels(9), settings.encoding)


def draw_pictures(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive of pictures."""
    checked = Pictures.model_validate(dict(settings))
    return [write_archive(folder / checked.file, files(checked))]


def draw_address_lists(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """A zip of address lists, and below `served/` what a server answers: dead links and worse included."""
    checked = AddressLists.model_validate(dict(settings))
    lists: dict[str, list[str]] = {label: [] for label in checked.classes}
    answers: dict[str, bytes] = {}
    for name, label, content, _ in drawings(checked, {}):
        answers[name] = content
        lists[label].append(name)
    for addresses in lists.values():
        beside = Path(addresses[0])
        whole = answers[addresses[0]]
        gone, page, cut = (beside.with_stem(stem).as_posix() for stem in ("gone", "page", "cut"))
        answers |= {page: faults.page(), cut: whole[: len(whole) // 2]}  # nothing answers for `gone`
        addresses += [gone, page, cut, addresses[0]]  # the last stands twice
        addresses.insert(1, "")  # a blank line, as the course's snippet leaves many
    for name, content in answers.items():
        target = folder / "served" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    tables = [
        (checked.lists.format(label=label), ("\n".join(addresses) + "\n").encode())
        for label, addresses in lists.items()
    ]
    return [write_archive(folder / checked.file, tables), folder / "served"]
