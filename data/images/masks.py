"""How the mask of an image is found, and what its values mean: settings, and the classes that they name."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from data.archives import Raw
from data.images.cleaning import Group, Part
from data.images.reading import MAX_PIXELS

VOID = 255
"""In a cleaned mask: a pixel that is neither learned nor counted."""

STEM = "{stem}"
FOLDER = "{folder}"
ANY_ENDING = ".*"

Value = int | Annotated[tuple[int, int, int], Field(strict=False)]
"""What stands in a published mask: a number, or a colour as (red, green, blue)."""


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What the numbers 0, 1, 2, ... of a cleaned mask mean."""

    classes: tuple[str, ...]
    """Names of the classes that count, in the order of their numbers."""
    values: tuple[Value, ...]
    """What stood for each in the published masks."""
    void: tuple[Value, ...]
    """What stood there for no class; VOID in a cleaned mask."""

    def text(self) -> str:
        """As JSON, for the column `legend`."""
        return json.dumps(asdict(self), ensure_ascii=False)


def legend_of(text: str) -> Legend:
    """The legend of a row."""
    raw = json.loads(text)
    values, void = ([tuple(v) if isinstance(v, list) else v for v in raw[key]] for key in ("values", "void"))
    return Legend(classes=tuple(raw["classes"]), values=tuple(values), void=tuple(void))


class MaskPlace(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Where the mask of an image stands."""

    folder: str = Field(min_length=1)
    """Folder of the masks. What lies below `clean.images` in subfolders is looked for in the same subfolders
    here. `{folder}` stands for the image's own folder: `{folder}annot`."""
    pattern: str = "{stem}.*"
    """Name of the mask; `{stem}` is the image's name without its ending, a final `.*` any ending
    (CamVid: `{stem}_P.png`, Carvana: `{stem}_mask.gif`)."""

    @model_validator(mode="after")
    def _names_the_image(self) -> Self:
        if self.pattern.count(STEM) != 1 or "/" in self.pattern:
            raise ValueError(f"pattern {self.pattern!r} must be one file name with {STEM} in it")
        return self


class Classes(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """What the pixels of a mask mean."""

    names: Annotated[tuple[str, ...], Field(strict=False, max_length=254)] = ()
    """Names in the order of the ids, which count from 0."""
    file: str = ""
    """The names as a text file, one a line, inside the archive (CamVid: `codes.txt`)."""
    values: Annotated[tuple[Value, ...], Field(strict=False)] = ()
    """Values of the classes where they are not 0, 1, 2, ...: numbers, or colours `[red, green, blue]`."""
    threshold: int | None = Field(default=None, ge=1, le=255)
    """Two classes: grey values from here on are the second (Carvana: 128)."""
    void: Annotated[tuple[str | Value, ...], Field(strict=False)] = ()
    """Classes (by name), and values that are no class, which are neither learned nor counted: CamVid
    `[Void]`, the borders of VOC `[255]`."""

    @model_validator(mode="after")
    def _only_what_has_an_effect(self) -> Self:
        if bool(self.names) == bool(self.file):
            raise ValueError("give either names or file")
        if self.values and self.names and len(self.values) != len(self.names):
            raise ValueError(f"{len(self.values)} values for {len(self.names)} names")
        if self.threshold is not None and (self.values or self.void):
            raise ValueError("values and void have no effect with threshold")
        if self.threshold is not None and self.names and len(self.names) != 2:
            raise ValueError(f"threshold makes two classes, names has {len(self.names)}")
        return self


class MaskCleaning(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block of a problem whose examples are images with a mask each."""

    images: str = ""
    """Folder (`camvid/images`) or glob (`*/photos/*.jpg`; `*` also crosses folders) with the images; other
    files that are no masks are ignored and counted. Empty: everything."""
    mask: MaskPlace
    """Where the mask of an image stands."""
    classes: Classes
    """What its pixels mean."""
    parts: dict[str, Part] = {}
    """Published parts by folder of the images: `{train: train, val: valid}`; at any depth of the path."""
    lists: dict[Part, str] = {}
    """Published parts as text files that name images, one a line; without a list for train, the rest is
    train."""
    group: Group | None = None
    """`{pattern: ...}`, searched in the image's path: pictures of one group (a car, a street) belong together
    in a split by group, and the gate compares groups."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, le=89_478_485)
    """Pixels above which an image or mask is rejected before it is decoded."""

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Self:
        if self.group and self.group.column:
            raise ValueError("group.column needs a table of labels, which masks have not; give group.pattern")
        same = self.mask.folder.strip("/") == self.images.strip("/") or self.mask.folder == FOLDER
        if same and self.mask.pattern == STEM + ANY_ENDING:
            raise ValueError("with images and masks in one folder, mask.pattern must tell them apart")
        return self


def read_legend(raw: Raw, classes: Classes) -> Legend:
    """Names and values of the classes that count. ValueError names what is wrong with them."""
    names = classes.names
    if classes.file:
        text = raw.find(classes.file).decode("utf-8-sig", "replace")
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    where = classes.file or "clean.classes.names"
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{where} has the class {twice!r} twice")
    values: tuple[Value, ...] = classes.values or tuple(range(len(names)))
    if classes.threshold is not None:
        values = (0, 255)
    if len(values) != len(names):
        raise ValueError(f"{where} has {len(names)} classes, clean.classes.values {len(values)} values")
    void = {name for name in classes.void if isinstance(name, str)}
    if unknown := sorted(void - set(names)):
        raise ValueError(f"clean.classes.void names {unknown[0]!r}, which is no class of {where}")
    ignored = [value for name, value in zip(names, values, strict=True) if name in void]
    kept = [(name, value) for name, value in zip(names, values, strict=True) if name not in void]
    if not 2 <= len(kept) <= VOID:
        raise ValueError(f"{where}: {len(kept)} classes that count; 2 to {VOID} can be told apart")
    return Legend(
        classes=tuple(name for name, _ in kept),
        values=tuple(value for _, value in kept),
        void=(*ignored, *(value for value in classes.void if not isinstance(value, str))),
    )
