"""Pictures without labels, as a network that makes pictures wants them: any folder of photographs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field

from data.archives import Raw
from data.examples import Reject
from data.images.cleaning import Group, ImageCleaning, Labels, Part, clean_images
from data.images.reading import MAX_PIXELS


class PictureCleaning(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block of a problem whose examples are pictures and nothing else."""

    images: str = ""
    """Folder (`photos/`) or glob (`*/train/*.png`; `*` also crosses folders) with the pictures; other files
    are ignored and counted. Empty: everything."""
    shortest: int = Field(default=1, ge=1)
    """Pixels of the shorter side below which a picture is rejected (course: 64, the size that is learned)."""
    parts: dict[str, Part] = {}
    """Published parts by folder, e.g. `{training: train, testing: valid}`."""
    lists: dict[Part, str] = {}
    """Published parts as text files that name pictures, one a line."""
    group: Group | None = None
    """What ties pictures together that a split by group must not separate; only `pattern` has an effect."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, le=89_478_485)
    """Pixels above which a picture is rejected before it is decoded."""


def clean_pictures(raw: Raw, block: PictureCleaning) -> Iterator[dict[str, Any] | Reject]:
    """Rows of `image_schema` without a label, and rejects: those of `clean_images`, and `too small`."""
    images = ImageCleaning(
        images=block.images,
        labels=Labels.model_validate({"from": "none"}),
        parts=block.parts,
        lists=block.lists,
        group=block.group,
        max_pixels=block.max_pixels,
    )
    for row in clean_images(raw, images, labelled=False):
        if not isinstance(row, Reject) and min(row["width"], row["height"]) < block.shortest:
            detail = (
                f"{row['width']} x {row['height']} pixels; clean.shortest asks for {block.shortest} a side"
            )
            yield Reject(row["item_id"], "too small", detail)
        else:
            yield row
