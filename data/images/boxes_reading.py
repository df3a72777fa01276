"""Published annotations of objects, PASCAL VOC's XML and COCO's JSON, as one kind of record."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.images.reading import Fault

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the upright image; (0, 0) is its left top corner, (width, height)
the right bottom one, so that a box around one pixel has the side 1."""

MALFORMED = "malformed annotation"


@dataclass(frozen=True, kw_only=True)
class Marked:
    """One object that somebody put a box around."""

    box: Box
    name: str
    ignored: bool = False
    """Neither to be found nor to be missed (COCO: `ignore` or `iscrowd`)."""
    difficult: bool = False
    """Hard to recognise (VOC)."""
    truncated: bool = False
    """Reaches beyond its box: cut by the image's edge, or hidden (VOC)."""


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What a published file says about one image."""

    source: str
    """File, and entry in it, for messages."""
    image: str
    """The image's name as the file has it; may leave out folders."""
    size: tuple[int, int] | None = None
    """Width and height as annotated; None where it is not said."""
    part: str | None = None
    """The published part, where it follows from the file."""
    objects: tuple[Marked, ...] = ()
    fault: Fault | None = None
    """Why the record cannot be used."""


def read_voc(content: bytes, *, file: str) -> Annotation:
    """One XML file. Corners are counted from 1 and belong to the box, so xmin and ymin lose one.

    What cannot be read is an annotation with the fault `malformed annotation`.
    """
    try:
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise ValueError("it declares a document type or an entity, which VOC never does")
        root = ElementTree.fromstring(content)
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag}>, not <annotation>")
        size = root.find("size")
        return Annotation(
            source=file,
            image=(root.findtext("filename") or "").strip(),
            size=_size(size.findtext("width"), size.findtext("height")) if size is not None else None,
            objects=tuple(_voc_object(each, number) for number, each in enumerate(root.findall("object"), 1)),
        )
    except (ValueError, ElementTree.ParseError, LookupError) as error:  # LookupError: an unknown encoding
        return Annotation(source=file, image="", fault=Fault(reason=MALFORMED, detail=f"{file}: {error}"))


def _voc_object(element: ElementTree.Element, number: int) -> Marked:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"object {number} has no name")
    box = element.find("bndbox")
    if box is None:
        raise ValueError(f"object {number} ({name}) has no bndbox")
    corners = [
        _number(box.findtext(corner), f"{corner} of object {number} ({name})")
        for corner in ("xmin", "ymin", "xmax", "ymax")
    ]
    flags = {
        flag: (element.findtext(flag) or "0").strip() not in ("", "0", "False", "false", "Unspecified")
        for flag in ("difficult", "truncated")
    }
    return Marked(box=(corners[0] - 1, corners[1] - 1, corners[2], corners[3]), name=name, **flags)


@dataclass
class CocoFile:
    """One JSON file: its images with their objects, and what belongs to none of them."""

    annotations: list[Annotation] = field(default_factory=list)
    orphans: list[tuple[str, Fault]] = field(default_factory=list)
    """Entries that name no image of the file, by `FILE, annotation N`."""


def read_coco(content: bytes, *, file: str, part: str | None = None) -> CocoFile:
    """One JSON file with `images`, `annotations` and `categories`; boxes are [x, y, width, height] from 0.

    ValueError where the file as a whole cannot be used. An entry that cannot is a fault of its image:
    `malformed annotation`, or `unknown class` for a category that the file does not define.
    """
    images, entries, names = _coco_tables(content, file)
    found = CocoFile()
    objects: dict[Any, list[Marked]] = {number: [] for number in images}
    faults: dict[Any, Fault] = {}
    for index, entry in enumerate(entries):
        where = f"{file}, annotation {index}"
        owner = entry.get("image_id") if isinstance(entry, Mapping) else None
        if not _is_key(owner) or owner not in objects:
            detail = f"image_id {owner!r} is no image of the file"
            found.orphans.append((where, Fault(reason="unknown image", detail=f"{where}: {detail}")))
            continue
        try:
            category = entry.get("category_id")
            if not _is_key(category) or category not in names:
                raise LookupError(f"category_id {category!r} is none of the file's {len(names)} categories")
            objects[owner].append(_coco_object(entry, names[category]))
        except LookupError as error:
            faults.setdefault(owner, Fault(reason="unknown class", detail=f"{where}: {error.args[0]}"))
        except ValueError as error:
            faults.setdefault(owner, Fault(reason=MALFORMED, detail=f"{where}: {error}"))
    for number, image in images.items():
        source = f"{file}, image {number}"
        name, size = str(image["file_name"]).replace("\\", "/").removeprefix("./"), None
        try:
            size = _size(image.get("width"), image.get("height"))
        except ValueError as error:
            faults.setdefault(number, Fault(reason=MALFORMED, detail=f"{source}: {error}"))
        found.annotations.append(
            Annotation(
                source=source, image=name, size=size, part=part, objects=tuple(objects[number]),
                fault=faults.get(number),
            )
        )  # fmt: skip
    return found


def _coco_object(entry: Mapping[str, Any], name: str) -> Marked:
    values = entry.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        raise ValueError(f"bbox of {name} is {values!r}, not [x, y, width, height]")
    x, y, width, height = (_number(value, f"bbox of {name}") for value in values)
    ignored = bool(entry.get("ignore")) or bool(entry.get("iscrowd"))
    return Marked(box=(x, y, x + width, y + height), name=name, ignored=ignored)


def _coco_tables(content: bytes, file: str) -> tuple[dict[Any, Mapping[str, Any]], list[Any], dict[Any, str]]:
    """Images by id, annotations, names of the categories by id."""
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(table, Mapping):
        raise ValueError(f"{file} holds a {type(table).__name__}, not COCO's object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(table.get(key), list):
            raise ValueError(
                f"{file} has no list {key!r}; COCO's JSON has images, annotations and categories"
            )
    images = dict(_by_id(table["images"], "images", "file_name", file))
    names = {
        number: str(each["name"]) for number, each in _by_id(table["categories"], "categories", "name", file)
    }
    return images, table["annotations"], names


def _by_id(rows: list[Any], what: str, key: str, file: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    seen: set[Any] = set()
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or not _is_key(row.get("id")) or not isinstance(row.get(key), str):
            raise ValueError(f"{file}: entry {index} of {what!r} lacks an id or a {key!r}")
        if row["id"] in seen:
            raise ValueError(f"{file}: the id {row['id']!r} stands twice in {what!r}; ids must be unique")
        seen.add(row["id"])
        yield row["id"], row


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _number(value: Any, what: str) -> float:
    """A finite number. ValueError for anything else."""
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{what} is {value!r}, not a number")
    return number


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    """Annotated width and height; None where they are left out or 0, as some tools write."""
    if not width and not height:
        return None
    sides = round(_number(width, "width")), round(_number(height, "height"))
    return sides if min(sides) > 0 else None
