"""The archive of a classification problem to rows: where examples lie, and how they are labelled."""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
from pydantic import BaseModel, Field, model_validator

from data.archives import Member, Raw
from data.examples import INDEX, Reject
from data.images.decoders import decoders
from data.images.reading import MAX_PIXELS, Fault, Picture, read_image
from data.images.tables import LabelTable, Listed, read_list

Part = Literal["train", "valid", "test"]
T = TypeVar("T")

SIDECARS = (".csv", ".tsv", ".txt", ".md", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf", ".pth", ".pkl")
"""Files that a publisher puts beside the images; in the top folder they are no rejects but ignored."""

HANDFUL, HANDFUL_BYTES = 32, 64 * 2**10
"""Images, or published bytes, that a decoder is handed at once: handing over a small image alone costs more
than it saves."""

PENDING_BYTES = 64 * 2**20
"""Published bytes that may wait for a decoder."""


class Labels(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Where the label of an image stands."""

    from_: Literal["folder", "name", "csv", "none"] = Field(default="folder", alias="from")
    """`folder`: the name of the image's folder; `name`: part of its file name; `csv`: a row of a table;
    `none`: no image has one."""
    level: int = Field(default=1, ge=1)
    """With `folder`: 1 is the folder that holds the image, 2 the one above, and so on."""
    pattern: str = ""
    """With `name`: regular expression with one group, searched in the file name, e.g. `^(.+)_\\d+\\.jpg$`."""
    file: str = ""
    """With `csv`: the table, inside the archive or beside it; leading folders may be left out."""
    name: str = ""
    """With `csv`: column that names the image; empty: the first."""
    label: str = ""
    """With `csv`: column of the label; empty: the second."""
    suffix: str = ""
    """With `csv`: what the table leaves out at the end of a name, e.g. `.jpg`."""

    @model_validator(mode="after")
    def _only_what_has_an_effect(self) -> "Labels":
        used = {
            "folder": {"level"}, "name": {"pattern"}, "csv": {"file", "name", "label", "suffix"},
            "none": set(),
        }[self.from_]  # fmt: skip
        for setting in sorted(self.model_fields_set - used - {"from_"}):
            raise ValueError(f"{setting} has no effect with `from: {self.from_}`")
        if self.from_ == "name":
            _check_pattern("pattern", self.pattern)
        if self.from_ == "csv" and not self.file:
            raise ValueError("`from: csv` needs `file`")
        return self


class Group(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """What ties examples together that a split by group must not separate (person, scene, camera)."""

    pattern: str = ""
    """Regular expression with one group, searched in the image's path."""
    column: str = ""
    """Column of the table of labels."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "Group":
        if bool(self.pattern) == bool(self.column):
            raise ValueError("give either pattern or column")
        if self.pattern:
            _check_pattern("pattern", self.pattern)
        return self


class ImageCleaning(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block of a problem whose examples are single images."""

    images: str = ""
    """Folder (`oxford-iiit-pet/images/`) or glob (`*/train/*.png`; `*` also crosses folders) with the
    examples; other files are ignored and counted. Empty: everything."""
    labels: Labels = Labels()
    """Where the label stands."""
    parts: dict[str, Part] = {}
    """Published parts by folder, e.g. `{train: train, valid: valid}`; a folder at any depth of the path."""
    lists: dict[Part, str] = {}
    """Published parts as text files that name images, one a line; without a list for train, the
    rest is train."""
    unlabelled: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Folders whose images carry no label (`test1`): they become the test part."""
    group: Group | None = None
    """For splits by group, and for the gate that compares groups."""
    time: str = ""
    """Column of the table of labels with a date or time, for splits by time."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, le=89_478_485)
    """Pixels above which an image is rejected before it is decoded (upper end: Pillow's own guard)."""

    @model_validator(mode="after")
    def _columns_need_a_table(self) -> "ImageCleaning":
        table = self.labels.from_ == "csv"
        if self.time and not table:
            raise ValueError("time is a column and has no effect without `labels: {from: csv}`")
        if self.group and self.group.column and not table:
            raise ValueError("group.column has no effect without `labels: {from: csv}`")
        return self


def image_schema() -> pa.Schema:
    """Columns of an image example."""
    return pa.schema(
        [
            *INDEX,
            pa.field("image", pa.binary(), nullable=False),  # upright RGB, encoded
            pa.field("width", pa.int32(), nullable=False),  # pixels
            pa.field("height", pa.int32(), nullable=False),  # pixels
            pa.field("reencoded", pa.bool_(), nullable=False),  # published in another mode or orientation
            pa.field("phash", pa.int64(), nullable=False),  # the 64 bits of imagehash.phash
        ]
    )


def clean_images(
    raw: Raw, block: ImageCleaning, *, labelled: bool = True, workers: int | None = None
) -> Iterator[dict[str, Any] | Reject]:
    """Rows of `image_schema` and rejects, in the archive's order whatever the number of threads.

    Beside the reasons of `read_image`: `no label`, `above the byte limit`, and `listed, but not in the
    archive` for rows of a table or list without a file. Files outside `images` are counted in
    `raw.ignored` by folder. `labelled`: ValueError where images are found, but none with a label.
    """
    places = _Places(raw, block)
    found = ((place, member) for member in raw.members() if (place := places.find(member)) is not None)
    images = with_label = 0
    for place, result in decode_in_order(found, max_pixels=block.max_pixels, workers=workers):
        if isinstance(result, Fault):
            yield Reject(place.item_id, result.reason, result.detail)
        elif isinstance(place, Reject):
            yield place
        else:
            images += 1
            with_label += place.label is not None
            yield place.row(result)
    yield from places.missing()
    if images and labelled and not with_label:
        raise ValueError(
            f"none of the {images} images has a label; look at clean.labels and clean.unlabelled"
        )


def decode_in_order(
    found: Iterable[tuple[T, Member]], *, max_pixels: int, workers: int | None = None
) -> Iterator[tuple[T, Picture | Fault]]:
    """Every member read and decoded, beside what it was found with, in the order of `found`.

    Beside the reasons of `read_image`: `above the byte limit`. At most 64 MiB of published bytes wait.
    """
    workers = workers or min(8, os.cpu_count() or 1)
    waiting: deque[tuple[list[T], Future[list[Picture | Fault]], int]] = deque()
    pending = 0

    def finish() -> Iterator[tuple[T, Picture | Fault]]:
        nonlocal pending
        places, answers, size = waiting.popleft()
        pending -= size
        return zip(places, answers.result(), strict=True)

    with decoders(workers) as pools:
        for places, contents in _handfuls(found, max_pixels):
            size = sum(len(content) for content in contents if isinstance(content, bytes))
            task = pools.pool_for(len(contents)).submit(_read_all, contents, max_pixels)
            waiting.append((places, task, size))
            pending += size
            while len(waiting) > 8 * workers or pending > PENDING_BYTES:
                yield from finish()
        while waiting:
            yield from finish()


def _handfuls(
    found: Iterable[tuple[T, Member]], max_pixels: int
) -> Iterator[tuple[list[T], list[bytes | Fault]]]:
    """Members with their bytes, as many as make a task that is worth a thread; too large ones as a fault."""
    limit = 8 * max_pixels + 2**20  # 16 bits in four channels, uncompressed
    places: list[T] = []
    contents: list[bytes | Fault] = []
    size = 0
    for place, member in found:
        places.append(place)
        if member.size > limit:
            detail = f"{member.size:,} bytes, limit {limit:,} for {max_pixels:,} pixels"
            contents.append(Fault(reason="above the byte limit", detail=detail))
        else:
            contents.append(member.read())
            size += member.size
        if size >= HANDFUL_BYTES or len(places) >= HANDFUL:
            yield places, contents
            places, contents, size = [], [], 0
    if places:
        yield places, contents


def _read_all(contents: list[bytes | Fault], max_pixels: int) -> list[Picture | Fault]:
    return [
        content if isinstance(content, Fault) else read_image(content, max_pixels=max_pixels)
        for content in contents
    ]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What the position of an image in the archive says about it."""

    item_id: str
    label: str | None
    part: str | None
    group: str | None
    time: Any

    def row(self, picture: Picture) -> dict[str, Any]:
        return {
            "item_id": self.item_id,
            "label": self.label,
            "part": self.part,
            "group": self.group,
            "time": self.time,
            "digest": picture.digest,
            "image": picture.encoded,
            "width": picture.width,
            "height": picture.height,
            "reencoded": picture.reencoded,
            "phash": picture.phash,
        }


class _Places:
    """Decides by name what each file of the archive is."""

    def __init__(self, raw: Raw, block: ImageCleaning) -> None:
        self.raw, self.block = raw, block
        labels = block.labels
        self.files = sorted({*block.lists.values(), *([labels.file] if labels.file else [])})
        contents = raw.find_all(self.files) if self.files else {}
        self.table: LabelTable | None = None
        if labels.from_ == "csv":
            columns = (block.group.column if block.group else "", block.time)
            self.table = LabelTable(
                contents[labels.file], file=labels.file, name=labels.name, label=labels.label,
                suffix=labels.suffix, group=columns[0], time=columns[1],
            )  # fmt: skip
        self.lists = {part: read_list(contents[file], file=file) for part, file in block.lists.items()}

    def find(self, member: Member) -> _Place | Reject | None:
        """The place of an example, a reject, or None for a file that is ignored (and counted)."""
        path = PurePosixPath(member.name)
        folder = str(path.parent) if path.parent.name else "top folder"
        if not is_within(self.block.images, member.name):
            self.raw.ignore(
                f"outside clean.images: {'/'.join(path.parts[:2][: len(path.parts) - 1]) or folder}"
            )
            return None
        if any(member.name == file or member.name.endswith(f"/{file}") for file in self.files):
            self.raw.ignore("tables and lists of the clean block")
            return None
        if not self.block.images and len(path.parts) <= 2 and path.suffix.lower() in SIDECARS:
            self.raw.ignore(f"beside the images: *{path.suffix.lower()} in {folder}")
            return None
        return self._label(member.name, path)

    def missing(self) -> Iterator[Reject]:
        """Rows of tables and lists whose image never came."""
        if self.table is not None:
            yield from self.table.missing()
        for listed in self.lists.values():
            yield from listed.missing()

    def _label(self, name: str, path: PurePosixPath) -> _Place | Reject:
        block = self.block
        inside = f"/{path.parent}/"
        unlabelled = any(f"/{folder.strip('/')}/" in inside for folder in block.unlabelled)
        part = "test" if unlabelled else published_part(name, self.block.parts, self.lists)
        row = self.table.find(name) if self.table is not None and not unlabelled else None
        group = row.group if row is not None else None
        if block.group and block.group.pattern:
            match = re.search(block.group.pattern, name)
            group = match.group(1) if match else None
        label: str | None = None
        if not unlabelled:
            if row is not None and len(row.labels) > 1:
                return Reject(name, "two labels", f"{block.labels.file} says {' and '.join(row.labels)}")
            label = row.labels[0] if row is not None and row.labels else self._from_path(path)
            if not label and block.labels.from_ != "none":
                return Reject(name, "no label", self._why_no_label(path))
        return _Place(
            item_id=name, label=label or None, part=part, group=group, time=row.time if row else None
        )

    def _from_path(self, path: PurePosixPath) -> str:
        labels = self.block.labels
        if labels.from_ == "folder":
            folders = path.parent.parts
            return folders[-labels.level] if len(folders) >= labels.level else ""
        if labels.from_ == "name":
            match = re.search(labels.pattern, path.name)
            return (match.group(1) or "") if match else ""
        return ""

    def _why_no_label(self, path: PurePosixPath) -> str:
        labels = self.block.labels
        if labels.from_ == "folder":
            return f"{len(path.parent.parts)} folders above it, labels.level is {labels.level}"
        if labels.from_ == "name":
            return f"{path.name!r} does not match {labels.pattern!r}"
        return f"no label in {labels.file}"


def is_within(images: str, name: str) -> bool:
    """Does `images`, a folder or a glob, hold the file? Empty holds all."""
    if not images:
        return True
    if any(sign in images for sign in "*?["):
        return fnmatchcase(name, images)
    return name.startswith(images.rstrip("/") + "/")


def published_part(name: str, parts: Mapping[str, Part], lists: Mapping[Part, Listed]) -> Part | None:
    """The part that lists, or else the uppermost folder of `parts`, give the image."""
    for part, listed in lists.items():
        if listed.find(name):
            return part
    inside = f"/{PurePosixPath(name).parent}/"
    places = [(inside.find(f"/{folder.strip('/')}/"), part) for folder, part in parts.items()]
    found = [place for place in places if place[0] >= 0]
    if found:
        return min(found)[1]
    return "train" if lists and "train" not in lists else None


def _check_pattern(setting: str, pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{setting} {pattern!r} is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"{setting} {pattern!r} needs exactly one group in parentheses, it has {groups}")
