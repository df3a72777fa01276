"""The archive of a segmentation problem to rows: pairs of image and mask, and a reason for all others."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Any

import pyarrow as pa

from data.archives import Raw
from data.examples import Reject
from data.images.cleaning import SIDECARS, image_schema, is_within, published_part
from data.images.masks import ANY_ENDING, FOLDER, STEM, Legend, MaskCleaning, read_legend
from data.images.masks_reading import Pair, read_pair
from data.images.tables import read_list

PENDING = 4
"""Pairs that may wait for each decoder."""

Waiting = deque[tuple[str, Reject | Future[Pair | Reject]]]


def mask_schema() -> pa.Schema:
    """Columns of an image with its mask."""
    return pa.schema(
        [
            *image_schema(),
            pa.field("mask", pa.binary(), nullable=False),  # grey PNG: places in the legend, or VOID
            pa.field("legend", pa.string(), nullable=False),  # `Legend` as JSON, the same in every row
        ]
    )


def clean_masks(
    raw: Raw, block: MaskCleaning, *, workers: int | None = None
) -> Iterator[dict[str, Any] | Reject]:
    """Rows of `mask_schema` and rejects, in the archive's order of the images whatever the threads.

    Beside the reasons of `read_image`: `no mask`, `mask without image`, `mask of another size`, `unreadable
    mask`, `mask in colour`, `unknown ids`, `nothing but void`, `two masks` (the image came before with
    another one), `above the byte limit`, and `listed, but not in the archive`. Files that are neither are
    counted in `raw.ignored`. Masks wait in a file on disk. ValueError where no image has a mask.
    """
    legend = read_legend(raw, block.classes)
    places = _Places(raw, block)
    workers = workers or min(8, os.cpu_count() or 1)
    limit = 8 * block.max_pixels + 2**20  # 16 bits in four channels, uncompressed
    waiting: Waiting = deque()
    first: dict[str, tuple[str, str]] = {}

    def finish() -> dict[str, Any] | Reject:
        name, answer = waiting.popleft()
        pair = answer if isinstance(answer, Reject) else answer.result()
        if isinstance(pair, Reject):
            return pair
        before, digest = first.setdefault(pair.picture.digest, (name, pair.digest))
        if digest != pair.digest:
            return Reject(name, "two masks", f"the same image as {before!r} with another mask")
        return _row(name, pair, legend, places)

    with TemporaryFile() as spool, ThreadPoolExecutor(workers) as pool:
        masks = _Masks(spool)
        for member in raw.members():
            if places.is_mask(member.name):
                masks.add(member.name, member.read() if member.size <= limit else b"")
        images = 0
        for member in raw.members():
            if not places.is_image(member.name):
                continue
            images += 1
            places.part(member.name)  # met, whatever becomes of it
            mask = masks.find(places.masks_of(member.name))
            if mask is None:
                wanted = " or ".join(places.masks_of(member.name))
                waiting.append((member.name, Reject(member.name, "no mask", f"looked for {wanted}")))
            elif member.size > limit:
                detail = f"{member.size:,} bytes, limit {limit:,} for {block.max_pixels:,} pixels"
                waiting.append((member.name, Reject(member.name, "above the byte limit", detail)))
            else:
                task = pool.submit(
                    read_pair, member.read(), masks.read(mask), name=member.name, mask_name=mask,
                    legend=legend, threshold=block.classes.threshold, max_pixels=block.max_pixels,
                )  # fmt: skip
                waiting.append((member.name, task))
            while len(waiting) > PENDING * workers:
                yield finish()
        while waiting:
            yield finish()
    if not any(masks.used.values()):
        there = f"{len(masks.used)} masks, the first {next(iter(masks.used))!r}" if masks.used else "no mask"
        raise ValueError(
            f"none of {images} images has a mask, and there is {there};"
            " look at clean.images, clean.mask.folder and clean.mask.pattern"
        )
    for path, used in masks.used.items():
        if not used:
            yield Reject(path, "mask without image", f"no image of {block.images or 'the archive'} has it")
    for listed in places.lists.values():
        yield from listed.missing()


class _Masks:
    """All masks as published, in a file, by their paths."""

    def __init__(self, spool: IO[bytes]) -> None:
        self.spool = spool
        self.used: dict[str, bool] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._paths: dict[str, str] = {}

    def add(self, path: str, content: bytes) -> None:
        self.used[path] = False
        self._spans[path] = (self.spool.tell(), len(content))
        self.spool.write(content)
        self._paths[path] = path
        self._paths.setdefault(str(PurePosixPath(path).with_suffix("")) + ANY_ENDING, path)

    def find(self, wanted: list[str]) -> str | None:
        """The path of the first that is there."""
        path = next((self._paths[each] for each in wanted if each in self._paths), None)
        if path is not None:
            self.used[path] = True
        return path

    def read(self, path: str) -> bytes:
        offset, size = self._spans[path]
        self.spool.seek(offset)
        return self.spool.read(size)


class _Places:
    """Decides by name what each file of the archive is."""

    def __init__(self, raw: Raw, block: MaskCleaning) -> None:
        self.raw, self.block = raw, block
        self.files = sorted({*block.lists.values(), *([block.classes.file] if block.classes.file else [])})
        contents = raw.find_all(sorted(block.lists.values())) if block.lists else {}
        self.lists = {part: read_list(contents[file], file=file) for part, file in block.lists.items()}
        before, after = map(re.escape, block.mask.pattern.removesuffix(ANY_ENDING).split(STEM))
        ending = r"\.[^./]+" if block.mask.pattern.endswith(ANY_ENDING) else ""
        folder = re.escape(block.mask.folder.strip("/")).replace(re.escape(FOLDER), ".*")
        inside = "(?:.*/)?" if block.mask.folder == FOLDER else f"{folder}(?:/.*)?/"
        self._mask = re.compile(f"{inside}{before}[^/]+{after}{ending}")

    def is_mask(self, name: str) -> bool:
        """Whether the name is one of a mask; its image may still be missing."""
        return self._mask.fullmatch(name) is not None

    def is_image(self, name: str) -> bool:
        """Whether the name is one of an image; other files than masks are counted as ignored."""
        if self.is_mask(name):
            return False
        path = PurePosixPath(name)
        if any(name == file or name.endswith(f"/{file}") for file in self.files):
            self.raw.ignore("tables and lists of the clean block")
        elif not is_within(self.block.images, name):
            folder = "/".join(path.parts[:2][: len(path.parts) - 1]) or "top folder"
            self.raw.ignore(f"outside clean.images: {folder}")
        elif not self.block.images and len(path.parts) <= 2 and path.suffix.lower() in SIDECARS:
            self.raw.ignore(f"beside the images: *{path.suffix.lower()}")
        else:
            return True
        return False

    def masks_of(self, name: str) -> list[str]:
        """Paths at which the mask of an image is looked for, first choice first."""
        path, images = PurePosixPath(name), self.block.images.strip("/")
        file = self.block.mask.pattern.replace(STEM, path.stem)
        below = path.parent
        folder = self.block.mask.folder.strip("/").replace(FOLDER, "" if str(below) == "." else str(below))
        if images and below.is_relative_to(images):
            below = below.relative_to(images)
        return list(dict.fromkeys(str(PurePosixPath(folder, *sub, file)) for sub in ((below,), ())))

    def part(self, name: str) -> str | None:
        """The published part of an image."""
        return published_part(name, self.block.parts, self.lists)

    def group(self, name: str) -> str | None:
        """What ties it to others."""
        match = re.search(self.block.group.pattern, name) if self.block.group else None
        return match.group(1) if match else None


def _row(name: str, pair: Pair, legend: Legend, places: _Places) -> dict[str, Any]:
    picture = pair.picture
    return {
        "item_id": name,
        "label": None,
        "part": places.part(name),
        "group": places.group(name),
        "time": None,
        "digest": pair.digest,
        "image": picture.encoded,
        "width": picture.width,
        "height": picture.height,
        "reencoded": picture.reencoded,
        "phash": picture.phash,
        "mask": pair.mask,
        "legend": legend.text(),
    }
