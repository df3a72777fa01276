"""Editions of picture data sets: a path template and a look per class are the whole layout."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from data.editions import faults
from data.editions.archives import EPOCH, write_archive
from data.editions.digits import write_digit
from data.editions.drawing import Plane
from data.editions.looks import Head, Thing, View, picture

SEED = 20181022
"""Of every drawing (the day on which lesson 1 of the 2019 course was taught)."""


class Digit(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """A handwritten digit, white on black."""

    draw: Literal["digit"]
    digit: int = Field(ge=0, le=9)
    """Which one."""


Look = Annotated[Head | Thing | Digit, Field(discriminator="draw")]


class Pictures(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One drawn edition of a data set of pictures."""

    file: str
    """Name of the archive."""
    path: str
    """Name of a picture inside, with `{part}`, `{label}`, `{stem}` and `{number}`."""
    classes: dict[str, Look]
    """What each class looks like."""
    parts: dict[str, int]
    """Pictures of each class, by the folder that stands for `{part}`."""
    stems: dict[str, str] = {}
    """`{stem}` of a class where it is not the class's name."""
    unlabelled: dict[str, int] = {}
    """Pictures of any class, by a path of their own with `{number}`."""
    encoding: Literal["jpeg", "png"] = "jpeg"
    """Format of the pictures."""
    side: Annotated[tuple[int, int], Field(strict=False)] = (64, 96)
    """Smallest and largest shorter side in pixels."""
    aspect: float = Field(default=1.0, ge=1, le=2)
    """Largest ratio of the sides, in both directions."""
    view: View = View()
    """How differently the same thing may appear."""
    faults: str = ""
    """Part in which faults are planted; empty: none."""
    annotations: str = ""
    """Folder for Oxford's lists, trimaps and boxes; empty: none."""
    labels_csv: str = ""
    """Path of a table `name,label` of all pictures; empty: none."""
    labels_txt: str = ""
    """Path of a list of the classes; empty: none."""
    seed: int = SEED
    """Of the drawing."""


class AddressLists(Pictures, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Lists of addresses, one per class, and what stands behind them."""

    lists: str
    """Name of a list inside the archive, with `{label}`."""


def draw(
    look: Head | Thing | Digit, settings: Pictures, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Plane]:
    """One picture (H, W, C) uint8, and its subject's coverage."""
    side = int(rng.integers(settings.side[0], settings.side[1] + 1))
    if isinstance(look, Digit):
        pixels = write_digit(look.digit, rng, side=side)
        return pixels, pixels[..., 0] / 255
    longer = round(side * rng.uniform(1, settings.aspect))
    height, width = (longer, side) if rng.random() < 0.4 else (side, longer)
    return picture(look, settings.view, rng, height=height, width=width)


def files(settings: Pictures) -> Iterator[tuple[str, bytes]]:
    """Every file of the edition by its name, faults and tables included."""
    listed: list[tuple[str, str]] = []
    marked: list[tuple[str, str, Plane]] = []
    for place, (part, count) in enumerate(settings.parts.items()):
        for index, (label, look) in enumerate(settings.classes.items()):
            for number in range(1, count + 1):
                rng = np.random.default_rng([settings.seed, place, index, number])
                pixels, covered = draw(look, settings, rng)
                name = named(settings, part, label, number)
                listed.append((name, label))
                if settings.annotations:
                    marked.append((Path(name).stem, label, covered))
                yield name, faults.encode(pixels, settings.encoding)
    yield from _unlabelled(settings)
    if settings.faults:
        yield from planted(settings)
    if settings.annotations:
        yield from _annotations(settings.annotations, marked)
    if settings.labels_csv:
        root = f"{Path(settings.labels_csv).parent.as_posix()}/"
        numbers = {label: index for index, label in enumerate(settings.classes)}
        rows = [f"{name.removeprefix(root)},{numbers[label]}" for name, label in listed]
        yield settings.labels_csv, ("\n".join(["name,label", *rows]) + "\n").encode()
    if settings.labels_txt:
        yield settings.labels_txt, ("\n".join(settings.classes) + "\n").encode()


def named(settings: Pictures, part: str, label: str, number: int) -> str:
    """The path of one picture."""
    stem = settings.stems.get(label, label)
    return settings.path.format(part=part, label=label, stem=stem, number=number)


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
        yield named(settings, part, label, number), content
    beside = Path(named(settings, part, first, 914))
    yield beside.with_suffix(".mat").as_posix(), b"MATLAB 5.0 MAT-file\n"
    yield beside.with_name(f"nameless{beside.suffix}").as_posix(), faults.encode(pixels(9), settings.encoding)


def _annotations(folder: str, marked: list[tuple[str, str, Plane]]) -> Iterator[tuple[str, bytes]]:
    """Oxford's `list.txt`, `trainval.txt`, `test.txt`, trimaps and boxes. Capital initials are cats."""
    labels = sorted({label for _, label, _ in marked}, key=str.lower)
    species = {label: 1 if label[0].isupper() else 2 for label in labels}
    breed = {
        label: 1 + [each for each in labels if species[each] == species[label]].index(label)
        for label in labels
    }
    rows = [
        f"{stem} {labels.index(label) + 1} {species[label]} {breed[label]}"
        for stem, label, _ in sorted(marked, key=lambda entry: entry[0])
    ]
    head = ["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids", "#SPECIES: 1:Cat 2:Dog"]
    yield f"{folder}list.txt", ("\n".join([*head, *rows]) + "\n").encode()
    yield f"{folder}trainval.txt", ("\n".join(rows[::2]) + "\n").encode()
    yield f"{folder}test.txt", ("\n".join(rows[1::2]) + "\n").encode()
    for stem, _, covered in marked:
        trimap = np.where(covered > 0.9, 1, np.where(covered < 0.1, 2, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(trimap).save(buffer, "PNG")
        yield f"{folder}trimaps/{stem}.png", buffer.getvalue()
        yield f"{folder}xmls/{stem}.xml", _box(stem, covered)


def _box(stem: str, covered: Plane) -> bytes:
    rows, columns = np.nonzero(covered > 0.5)
    height, width = covered.shape
    corners = {
        "xmin": columns.min() + 1,
        "ymin": rows.min() + 1,
        "xmax": columns.max() + 1,
        "ymax": rows.max() + 1,
    }
    box = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
    return (
        f"<annotation><filename>{stem}.jpg</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size><object><bndbox>{box}</bndbox></object></annotation>\n"
    ).encode()


def draw_pictures(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive of pictures."""
    checked = Pictures.model_validate(dict(settings))
    return [write_archive(folder / checked.file, files(checked))]


def draw_address_lists(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """A zip of address lists, and below `served/` what a server answers: dead links and worse included."""
    checked = AddressLists.model_validate(dict(settings))
    lists: dict[str, list[str]] = {label: [] for label in checked.classes}
    served = folder / "served"
    for name, content in files(checked.model_copy(update={"faults": ""})):
        target = served / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        lists[Path(name).parent.name].append(name)
    for addresses in lists.values():
        whole = (served / addresses[0]).read_bytes()
        broken: dict[str, bytes | None] = {
            "gone": None,
            "page": faults.page(),
            "cut": whole[: len(whole) // 2],
        }
        for fault, answer in broken.items():
            name = f"{Path(addresses[0]).parent.as_posix()}/{fault}.jpg"
            if answer is not None:
                (served / name).write_bytes(answer)
            addresses.append(name)
        addresses.append(addresses[0])  # listed twice
        addresses.insert(1, "")  # a blank line, as the course's snippet leaves many
    path = folder / checked.file
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for label, addresses in lists.items():
            info = zipfile.ZipInfo(checked.lists.format(label=label), EPOCH)
            archive.writestr(info, "\n".join(addresses) + "\n", zipfile.ZIP_DEFLATED)
    return [path, served]
