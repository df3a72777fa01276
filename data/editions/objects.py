"""Editions of pictures with several things in each, and a box around every one: VOC's XML or COCO's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from data.editions import drawing, faults
from data.editions.archives import write_archive
from data.editions.drawing import Canvas
from data.editions.looks import Head, Thing, paint_head, paint_thing

SEED = 20180409
"""Of every drawing (the week in which lesson 8 of the 2018 course was taught)."""

Kind = Literal[
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)
"""VOC's classes in the order of their ids: categories and lists name all of them, drawn or not."""

TRIES = 30
"""Places that are tried for an object before the picture does without it."""

APART = 0.1
"""Share of the smaller of two boxes that both may have in common."""

Look = Annotated[Head | Thing, Field(discriminator="draw")]
Corners = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels from 0; the last two are behind the object."""


class Objects(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Drawn pictures of several things."""

    file: str
    """Name of the archive."""
    layout: Literal["voc", "coco"]
    """VOC's folders with an XML per picture, or fastai's with a JSON per part."""
    folder: str
    """What all names begin with, e.g. `VOCdevkit/VOC2007`."""
    classes: Annotated[dict[Kind, Look], Field(min_length=2)]
    """What each class looks like."""
    parts: Annotated[
        dict[Literal["train", "valid", "test"], Annotated[int, Field(ge=1)]], Field(min_length=1)
    ]
    """Pictures of each part."""
    side: Annotated[tuple[int, int], Field(strict=False)] = (72, 96)
    """Smallest and largest shorter side in pixels."""
    aspect: float = Field(default=1.3, ge=1, le=2)
    """Largest ratio of the sides, in both directions."""
    most: int = Field(default=3, ge=1, le=8)
    """Most objects in a picture."""
    size: Annotated[tuple[float, float], Field(strict=False)] = (0.22, 0.5)
    """Smallest and largest radius of an object, as a share of half the shorter side."""
    clutter: int = Field(default=3, ge=0, le=20)
    """Most things in the background that are no objects."""
    faults: bool = True
    """Whether faults are planted, one of every kind that cleaning knows."""
    seed: int = Field(default=SEED, ge=0)
    """Of the drawing."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One picture of the archive with what its publisher says about it."""

    number: int
    part: str
    content: bytes | None
    """None: annotated, but not there."""
    width: int
    height: int
    objects: tuple[tuple[str, Corners], ...]
    annotated: bool = True
    twist: str = ""
    """A fault of the annotation's form that the layouts write each in its own way."""


def scene(settings: Objects, rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[tuple[str, Corners]]]:
    """(height, width, 3) uint8, and the objects in it: at least one, none of them hidden by another."""
    side = int(rng.integers(settings.side[0], settings.side[1] + 1))
    longer = round(side * rng.uniform(1, settings.aspect))
    canvas = Canvas(longer, side) if rng.random() < 0.4 else Canvas(side, longer)
    drawing.background(canvas, rng, clutter=settings.clutter)
    frame = drawing.whole(canvas)
    reach = canvas.width / side, canvas.height / side
    found: list[tuple[str, Corners]] = []
    wanted = int(rng.integers(1, settings.most + 1))
    for _ in range(TRIES * wanted):
        name = list(settings.classes)[int(rng.integers(len(settings.classes)))]
        size = rng.uniform(*settings.size)
        at = [rng.uniform(size - limit, limit - size) if limit > size else 0.0 for limit in reach]
        middle = [(place + limit) / 2 * side for place, limit in zip(at, reach, strict=True)]
        if any(box[0] < middle[0] < box[2] and box[1] < middle[1] < box[3] for _, box in found):
            continue  # it would be drawn in vain
        placed = frame.moved(at[0], at[1], turn=rng.uniform(-0.3, 0.3), size=size)
        trial = Canvas(canvas.height, canvas.width)
        trial.pixels[:] = canvas.pixels
        look = settings.classes[name]
        if isinstance(look, Head):
            paint_head(trial, placed.bent(rng, 0.05), look, rng)
        else:
            paint_thing(trial, placed.bent(rng, 0.05), look, rng)
        rows, columns = np.nonzero(trial.covered > 0.5)
        if len(rows) < 30:
            continue
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        if any(_common(box, other) > APART for _, other in found):
            continue
        canvas.pixels[:] = trial.pixels
        found.append((name, box))
        if len(found) == wanted:
            break
    drawing.light(canvas, rng)
    return canvas.finish(), found


def _common(box: Corners, other: Corners) -> float:
    """What both have in common, as a share of the smaller one."""
    across = max(min(box[2], other[2]) - max(box[0], other[0]), 0)
    down = max(min(box[3], other[3]) - max(box[1], other[1]), 0)
    smaller = min((each[2] - each[0]) * (each[3] - each[1]) for each in (box, other))
    return across * down / smaller


def entries(settings: Objects) -> Iterator[Entry]:
    """All pictures, numbered from 1 through the parts; faults from 901 on, in the first part."""
    number = 0
    for place, (part, count) in enumerate(settings.parts.items()):
        for _ in range(count):
            number += 1
            yield _drawn(settings, part, number, place)
    if settings.faults:
        yield from _planted(settings, next(iter(settings.parts)))


def _drawn(settings: Objects, part: str, number: int, place: int) -> Entry:
    pixels, found = scene(settings, np.random.default_rng([settings.seed, place, number]))
    height, width = pixels.shape[:2]
    content = faults.encode(pixels, "jpeg")
    return Entry(number=number, part=part, content=content, width=width, height=height, objects=tuple(found))


def _planted(settings: Objects, part: str) -> Iterator[Entry]:
    def sound(number: int) -> Entry:
        return _drawn(settings, part, number, 2000)

    first = sound(901)
    assert first.content is not None
    yield replace(first, content=b"This is a text that was saved under the name of a picture.\n")
    yield replace(sound(902), content=b"")
    yield replace(first, number=903, content=first.content[: len(first.content) * 2 // 3])
    yield replace(sound(904), content=faults.huge())
    yield sound(905)
    yield replace(sound(905), number=906)  # the same once more
    yield replace(sound(907), annotated=False)
    yield replace(sound(908), content=None)
    yield replace(sound(909), objects=())
    wide, high = (other := sound(910)).width, other.height
    name = next(iter(settings.classes))
    boxes: list[Corners] = [
        (wide + 5, 2, wide + 25, 20),  # beyond the edge
        (4, 5, 4, 25),  # no width
        (-1, 4, wide // 2, high + 1),  # over the edge by a pixel: it is cut, the picture stays
    ]
    for box_number, box in enumerate(boxes, start=910):
        yield replace(
            sound(box_number), width=wide, height=high, content=other.content, objects=((name, box),)
        )
        other = sound(box_number + 1)
        wide, high = other.width, other.height
    yield replace(sound(913), objects=(("unicorn", (3, 3, 30, 30)),))
    yield replace(sound(914), width=high, height=wide + 7)
    for twisted, twist in enumerate(("malformed", "twice", "ignored"), start=915):
        yield replace(sound(twisted), twist=twist)


def voc_files(settings: Objects) -> Iterator[tuple[str, bytes]]:
    """VOC's folders: Annotations, ImageSets/Main, JPEGImages."""
    listed = list(entries(settings))
    for each in listed:
        if each.annotated:
            text = _xml(each)
            name = f"{settings.folder}/Annotations/{each.number:06}.xml"
            yield name, text[: len(text) // 2] if each.twist == "malformed" else text
            if each.twist == "twice":
                yield f"{settings.folder}/Annotations/again/{each.number:06}.xml", text
    names = {"train": ("train", "trainval"), "valid": ("val", "trainval"), "test": ("test",)}
    for file in dict.fromkeys(name for part in settings.parts for name in names[part]):
        named = [each for each in listed if file in names[each.part]]
        rows = "".join(f"{each.number:06}\n" for each in named)
        yield f"{settings.folder}/ImageSets/Main/{file}.txt", rows.encode()
        for kind in KINDS:
            shown = [(each.number, 1 if kind in {name for name, _ in each.objects} else -1) for each in named]
            rows = "".join(f"{number:06} {there:2}\n" for number, there in shown)
            yield f"{settings.folder}/ImageSets/Main/{kind}_{file}.txt", rows.encode()
    for each in listed:
        if each.content is not None:
            yield f"{settings.folder}/JPEGImages/{each.number:06}.jpg", each.content


def _xml(each: Entry) -> bytes:
    """Corners from 1, both inside the box."""
    marked = "".join(
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
        f"\t\t<difficult>{int(each.twist == 'ignored')}</difficult>\n\t\t<bndbox>\n"
        f"\t\t\t<xmin>{box[0] + 1}</xmin>\n\t\t\t<ymin>{box[1] + 1}</ymin>\n"
        f"\t\t\t<xmax>{box[2]}</xmax>\n\t\t\t<ymax>{box[3]}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for name, box in each.objects
    )
    return (
        f"<annotation>\n\t<folder>VOC2007</folder>\n\t<filename>{each.number:06}.jpg</filename>\n"
        f"\t<source>\n\t\t<database>drawn</database>\n\t</source>\n\t<size>\n\t\t<width>{each.width}</width>\n"
        f"\t\t<height>{each.height}</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n"
        f"{marked}</annotation>\n"
    ).encode()


def coco_files(settings: Objects) -> Iterator[tuple[str, bytes]]:
    """fastai's archive: a JSON per part, pictures of train and valid in one folder, those of test in another,
    and a table of the classes in each picture."""
    listed = list(entries(settings))
    for part in settings.parts:
        said = [each for each in listed if each.part == part and each.annotated]
        yield f"{settings.folder}/{part}.json", json.dumps(_json(said)).encode()
    for file in ("train", "test"):
        shown = [each for each in listed if each.annotated and each.number <= 900]
        shown = [each for each in shown if (each.part == "test") == (file == "test")]
        rows = [",".join(_cells(each)) for each in shown]
        head = "fname,labels" if file == "test" else "fname,labels,is_valid"
        if rows:
            yield f"{settings.folder}/{file}.csv", ("\n".join([head, *rows]) + "\n").encode()
    for each in listed:
        if each.content is not None:
            folder = "test" if each.part == "test" else "train"
            yield f"{settings.folder}/{folder}/{each.number:06}.jpg", each.content


def _cells(each: Entry) -> list[str]:
    """A row of fastai's tables of classes."""
    cells = [f"{each.number:06}.jpg", " ".join(sorted({name for name, _ in each.objects}))]
    return cells if each.part == "test" else [*cells, str(each.part == "valid")]


def _json(listed: list[Entry]) -> dict[str, Any]:
    """Boxes as [x, y, width, height] from 0. A class without a category gets an id that does not exist."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for each in listed:
        ids = [each.number, each.number + 5000] if each.twist == "twice" else [each.number]
        for number in ids:
            images.append(
                {
                    "file_name": f"{each.number:06}.jpg",
                    "height": each.height,
                    "width": each.width,
                    "id": number,
                }
            )
            for name, (left, top, right, bottom) in each.objects:
                box = [left, top, right - left, bottom - top]
                annotations.append(
                    {
                        "area": box[2] * box[3], "iscrowd": 0, "image_id": number,
                        "bbox": box[:3] if each.twist == "malformed" else box,
                        "category_id": KINDS.index(name) + 1 if name in KINDS else 99,
                        "id": len(annotations) + 1, "ignore": int(each.twist == "ignored"),
                    }
                )  # fmt: skip
    if any(each.twist for each in listed):  # an object of an image that is not listed
        annotations.append({**annotations[-1], "image_id": 9999, "id": len(annotations) + 1})
    categories = [
        {"supercategory": "none", "id": number, "name": name} for number, name in enumerate(KINDS, 1)
    ]
    return {"images": images, "type": "instances", "annotations": annotations, "categories": categories}


def draw_objects(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive of pictures with boxes."""
    checked = Objects.model_validate(dict(settings))
    files = voc_files(checked) if checked.layout == "voc" else coco_files(checked)
    return [write_archive(folder / checked.file, files)]
