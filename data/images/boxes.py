"""Images with boxes to rows: which annotation belongs to which image, and which of both are sound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

import pyarrow as pa
from pydantic import BaseModel, Field, model_validator

from data.archives import Member, Raw
from data.examples import Reject
from data.images.boxes_reading import Annotation, Marked, read_coco, read_voc
from data.images.cleaning import Part, decode_in_order, image_schema, is_within, published_part
from data.images.reading import MAX_PIXELS, Fault, Picture
from data.images.tables import MISSING, read_list

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
"""Files that are taken for images where `images` says nothing about it."""

ROUNDING = 0.01
"""Pixels outside of the image that are no cut worth counting."""

T = TypeVar("T")


class Annotations(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Where the boxes stand."""

    from_: Literal["voc", "coco"] = Field(default="voc", alias="from")
    """`voc`: an XML file per image, of the same name. `coco`: JSON files with `images`, `annotations` and
    `categories`."""
    folder: str = ""
    """With `voc`: folder or glob of the XML files; empty: every XML file."""
    file: str = ""
    """With `coco`: the JSON file, where no part is published; leading folders may be left out."""
    files: dict[Part, str] = {}
    """With `coco`: the JSON file of each published part."""

    @model_validator(mode="after")
    def _only_what_has_an_effect(self) -> Annotations:
        used = {"voc": {"folder"}, "coco": {"file", "files"}}[self.from_]
        for setting in sorted(self.model_fields_set - used - {"from_"}):
            raise ValueError(f"{setting} has no effect with `from: {self.from_}`")
        if self.from_ == "coco" and bool(self.file) == bool(self.files):
            raise ValueError("`from: coco` needs either `file`, or `files` by part")
        return self


class BoxCleaning(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block of a problem whose examples are images with boxes around objects."""

    images: str = ""
    """Folder (`pascal_2007/train/`) or glob with the images; other files are ignored and counted. Empty:
    every file whose name ends like an image's."""
    annotations: Annotations = Annotations()
    """Where the boxes stand."""
    parts: dict[str, Part] = {}
    """Published parts by folder of the image, e.g. `{train: train, valid: valid}`."""
    lists: dict[Part, str] = {}
    """Published parts as text files that name images, one a line (VOC: `ImageSets/Main/train.txt`); without a
    list for train, the rest is train."""
    classes: tuple[str, ...] = Field(default=(), strict=False)
    """Names that may occur; an image with an object of another name is rejected. Empty: all names."""
    outside: float = Field(default=0.1, ge=0, le=1)
    """Share of a box's area that may lie outside of the image: such a box is cut at the edge, which the
    column `clipped` counts. A box that lies further out rejects its image: whoever drew it meant another
    image or other units."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, le=89_478_485)
    """Pixels above which an image is rejected before it is decoded (upper end: Pillow's own guard)."""

    @model_validator(mode="after")
    def _one_way_to_a_part(self) -> BoxCleaning:
        ways = {"annotations.files": self.annotations.files, "parts": self.parts, "lists": self.lists}
        given = [name for name, value in ways.items() if value]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both name published parts: give one of them")
        return self


def box_schema() -> pa.Schema:
    """Columns of an image with boxes; the lists have one value per object, in the published order."""
    box = pa.list_(pa.float32())
    return pa.schema(
        [
            *image_schema(),
            pa.field(
                "boxes", pa.list_(box), nullable=False
            ),  # x_min, y_min, x_max, y_max: see boxes_reading.Box
            pa.field("names", pa.list_(pa.string()), nullable=False),
            pa.field("ignored", pa.list_(pa.bool_()), nullable=False),  # neither to be found nor to be missed
            pa.field("difficult", pa.list_(pa.bool_()), nullable=False),
            pa.field("truncated", pa.list_(pa.bool_()), nullable=False),
            pa.field("clipped", pa.int32(), nullable=False),  # boxes that were cut at the image's edge
        ]
    )


def clean_largest(
    raw: Raw, block: BoxCleaning, *, workers: int | None = None
) -> Iterator[dict[str, Any] | Reject]:
    """As `clean_boxes`; the label of an image is the class of its largest object."""
    for row in clean_boxes(raw, block, workers=workers):
        yield row if isinstance(row, Reject) else row | {"label": row["names"][largest(row)]}


def largest(row: Mapping[str, Sequence[Any]]) -> int:
    """The place of the object with the largest box among those that count; the first of equal ones."""
    areas = {
        place: (box[2] - box[0]) * (box[3] - box[1])
        for place, (box, ignored) in enumerate(zip(row["boxes"], row["ignored"], strict=True))
        if not ignored
    }
    return max(areas, key=lambda place: areas[place])


def clean_boxes(
    raw: Raw, block: BoxCleaning, *, workers: int | None = None
) -> Iterator[dict[str, Any] | Reject]:
    """Rows of `box_schema` without a label, and rejects, in the archive's order.

    Beside the reasons of `read_image` and `above the byte limit`. Of annotations: `malformed annotation`,
    `no object` (nothing is marked, or only what is to be ignored), `unknown class`, `box without area`, `box
    outside the image`, `annotated at another size`. Of pairs: `no annotation`, `ambiguous annotation`,
    `unknown image` (an annotation of an id that its file does not define), and `listed, but not in the
    archive` for annotations without an image. ValueError where a JSON file is damaged as a whole, and where
    no image has an annotation.
    """
    names, annotations, orphans = _read(raw, block)
    pairs = Pairs(names, annotations, by_stem=block.annotations.from_ == "voc")
    if not pairs.found:
        raise ValueError(
            f"{len(names)} images and {len(annotations)} annotations, but no pair of both;"
            " look at clean.images and clean.annotations"
        )
    contents = raw.find_all(sorted(block.lists.values())) if block.lists else {}
    lists = {part: read_list(contents[file], file=file) for part, file in block.lists.items()}
    members = _wanted(raw, set(names))
    for name, picture in decode_in_order(members, max_pixels=block.max_pixels, workers=workers):
        part = published_part(name, block.parts, lists)
        said = pairs.of(name)
        if isinstance(picture, Fault):
            yield Reject(name, picture.reason, picture.detail)
        elif isinstance(said, Fault):
            yield Reject(name, said.reason, said.detail)
        elif isinstance(fitted := fit_objects(said, picture, block), Fault):
            yield Reject(name, fitted.reason, f"{said.source}: {fitted.detail}")
        else:
            yield _row(name, said.part or part, picture, *fitted)
    for item, fault in orphans:
        yield Reject(item, fault.reason, fault.detail)
    for said in pairs.left:
        detail = "no image that clean.images covers has this name"
        yield Reject(said.image or said.source, MISSING, f"{said.source}: {detail}")
    for listed in lists.values():
        yield from listed.missing()


def fit_objects(said: Annotation, picture: Picture, block: BoxCleaning) -> tuple[list[Marked], int] | Fault:
    """The objects of an annotation within their image, and how many boxes were cut; or the first fault."""
    if said.fault is not None:
        return Fault(reason=said.fault.reason, detail=said.fault.detail.removeprefix(f"{said.source}: "))
    if said.size is not None and said.size != (picture.width, picture.height):
        annotated, found = f"{said.size[0]} x {said.size[1]}", f"{picture.width} x {picture.height}"
        return Fault(reason="annotated at another size", detail=f"{annotated}, the image has {found} pixels")
    if not any(not each.ignored for each in said.objects):
        marked = f"{len(said.objects)} objects, all to be ignored" if said.objects else "no object is marked"
        return Fault(reason="no object", detail=marked)
    fitted, cut = [], 0
    for number, each in enumerate(said.objects, start=1):
        if block.classes and each.name not in block.classes:
            return Fault(reason="unknown class", detail=f"object {number} is a {each.name!r}")
        box = each.box
        told = f"object {number} ({each.name}) has x {box[0]:g} to {box[2]:g}, y {box[1]:g} to {box[3]:g}"
        if box[2] <= box[0] or box[3] <= box[1]:
            return Fault(reason="box without area", detail=told)
        inside = (
            max(box[0], 0.0), max(box[1], 0.0),
            min(box[2], float(picture.width)), min(box[3], float(picture.height)),
        )  # fmt: skip
        share = max(inside[2] - inside[0], 0) * max(inside[3] - inside[1], 0) / area(box)
        if share <= 0 or 1 - share > block.outside:
            size = f"{picture.width} x {picture.height} pixels"
            return Fault(reason="box outside the image", detail=f"{told}, the image has {size}")
        cut += max(abs(a - b) for a, b in zip(box, inside, strict=True)) > ROUNDING
        fitted.append(replace(each, box=inside))
    return fitted, cut


def area(box: Sequence[float]) -> float:
    """Square pixels of x_min, y_min, x_max, y_max."""
    return (box[2] - box[0]) * (box[3] - box[1])


class Pairs:
    """Which annotation belongs to which image: both must be the other's nearest of that name."""

    def __init__(self, images: Sequence[str], annotations: Sequence[Annotation], *, by_stem: bool) -> None:
        """`by_stem`: an annotation is known by its own file's name, or else by the image's that it states."""
        nearness = _beside if by_stem else _named
        candidates = _by_stem(images, annotations) if by_stem else _by_ending(images, annotations)
        best: dict[str, list[int]] = {}
        wanted: dict[int, list[str]] = defaultdict(list)
        for image, places in candidates.items():
            best[image] = _nearest(places, [nearness(image, annotations[place]) for place in places])
        for image, places in best.items():
            for place in places:
                wanted[place].append(image)
        self.found: dict[str, Annotation] = {}
        self.faults: dict[str, Fault] = {}
        for image, places in best.items():
            rivals = wanted[places[0]]
            first = _nearest(rivals, [nearness(each, annotations[places[0]]) for each in rivals])
            sources = " and ".join(annotations[place].source for place in places[:3])
            if len(places) > 1:
                self.faults[image] = Fault(reason="ambiguous annotation", detail=f"both {sources} fit")
            elif image in first and len(first) > 1:
                detail = f"{sources} fits {' and '.join(first[:3])}; give clean.images"
                self.faults[image] = Fault(reason="ambiguous annotation", detail=detail)
            elif image in first:
                self.found[image] = annotations[places[0]]
        fitting = {place for places in best.values() for place in places}
        self.left = [said for place, said in enumerate(annotations) if place not in fitting]
        """Annotations that fit no image."""

    def of(self, image: str) -> Annotation | Fault:
        """The annotation of an image, or why there is none."""
        none = Fault(reason="no annotation", detail="no annotation has this image's name")
        return self.found.get(image) or self.faults.get(image, none)


def _nearest(things: list[T], nearness: list[tuple[int, ...]]) -> list[T]:
    """All that are as near as the nearest."""
    most = max(nearness)
    return [thing for thing, near in zip(things, nearness, strict=True) if near == most]


def _by_stem(images: Sequence[str], annotations: Sequence[Annotation]) -> dict[str, list[int]]:
    own: dict[str, list[int]] = defaultdict(list)
    stated: dict[str, list[int]] = defaultdict(list)
    stems = {PurePosixPath(image).stem for image in images}
    for place, said in enumerate(annotations):
        stem = PurePosixPath(said.source).stem
        (own if stem in stems else stated)[stem if stem in stems else _basename(said.image)].append(place)
    found = {}
    for image in images:
        path = PurePosixPath(image)
        places = own.get(path.stem) or stated.get(path.name)
        if places:
            found[image] = places
    return found


def _by_ending(images: Sequence[str], annotations: Sequence[Annotation]) -> dict[str, list[int]]:
    stated: dict[str, list[int]] = defaultdict(list)
    for place, said in enumerate(annotations):
        stated[said.image].append(place)
    found = {}
    for image in images:
        parts = image.split("/")
        endings = ("/".join(parts[start:]) for start in range(len(parts)))
        places = next((stated[ending] for ending in endings if ending in stated), None)
        if places:
            found[image] = places
    return found


def _beside(image: str, said: Annotation) -> tuple[int, ...]:
    """Folders that an image and its XML file share from the top; whether the file states the image's name."""
    shared = zip(PurePosixPath(image).parts[:-1], PurePosixPath(said.source).parts[:-1], strict=False)
    depth = len(list(takewhile(lambda pair: pair[0] == pair[1], shared)))
    return depth, int(_basename(said.image) == PurePosixPath(image).name)


def _named(image: str, said: Annotation) -> tuple[int, ...]:
    """Whether a folder above the image is called as the JSON file or its part."""
    folders = PurePosixPath(image).parts[:-1]
    stem = PurePosixPath(said.source.rpartition(", image ")[0]).stem
    return (int(stem in folders or said.part in folders),)


def _basename(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _read(raw: Raw, block: BoxCleaning) -> tuple[list[str], list[Annotation], list[tuple[str, Fault]]]:
    """Names of the images, all annotations, and entries that belong to no image."""
    ways, names = block.annotations, []
    annotations: list[Annotation] = []
    orphans: list[tuple[str, Fault]] = []
    voc = ways.from_ == "voc"
    tables: dict[str, Part | None] = {file: part for part, file in ways.files.items()}
    tables |= {ways.file: None} if ways.file else {}
    for member in raw.members():
        suffix = PurePosixPath(member.name).suffix.lower()
        if voc and suffix == ".xml":
            if is_within(ways.folder, member.name):
                annotations.append(read_voc(member.read(), file=member.name))
        elif (
            suffix != ".json"
            and is_within(block.images, member.name)
            and (block.images or suffix in SUFFIXES)
        ):
            names.append(member.name)
    contents = raw.find_all(sorted(tables)) if tables else {}
    for file, part in tables.items():
        found = read_coco(contents[file], file=file, part=part)
        annotations += found.annotations
        orphans += found.orphans
    return names, annotations, orphans


def _wanted(raw: Raw, names: set[str]) -> Iterator[tuple[str, Member]]:
    """The images in the archive's order; what else there is, is counted by its kind."""
    for member in raw.members():
        if member.name in names:
            yield member.name, member
        else:
            raw.ignore(f"no images: *{PurePosixPath(member.name).suffix.lower()}")


def _row(
    name: str, part: str | None, picture: Picture, objects: Sequence[Marked], cut: int
) -> dict[str, Any]:
    return {
        "item_id": name,
        "label": None,
        "part": part,
        "group": None,
        "time": None,
        "digest": picture.digest,
        "image": picture.encoded,
        "width": picture.width,
        "height": picture.height,
        "reencoded": picture.reencoded,
        "phash": picture.phash,
        "boxes": [list(each.box) for each in objects],
        "names": [each.name for each in objects],
        "ignored": [each.ignored for each in objects],
        "difficult": [each.difficult for each in objects],
        "truncated": [each.truncated for each in objects],
        "clipped": cut,
    }
