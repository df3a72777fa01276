"""Images decoded once into memory-mapped pixels, or on the fly with the same pixels where they do not fit."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from PIL import Image

from data.examples import Items
from data.images.prepare import Size, check_settings, decode, height_and_width, pixels, prepare

Bytes = npt.NDArray[np.uint8]

VERSION = 1
"""Raised when the same settings give other pixels than before."""
LONGEST = 2.0
"""Longer side over shorter side of a training image at most; what is beyond is cut equally at both ends."""
SPARE = 1 << 30
"""Bytes of the disk that a cache leaves free."""
HELD = 1 << 30
"""Bytes of encoded images held in memory where images are decoded on the fly."""
ROWS = 32
"""Rows decoded between two reads of the Parquet file: bounds the memory while a cache is built."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Which pixels of an image are kept."""

    size: Size
    """Pixels a side that the network sees, or height and width."""
    channels: int = 3
    """3 for RGB, 1 for grey."""
    resize: str = "crop"
    """One of `prepare.RESIZES`."""
    margin: float | None = None
    """None: exactly the pixels of `prepare`. Otherwise a training image: its shorter side is `side`, and its
    aspect ratio is kept, for random windows."""
    side: int = 0
    """Pixels of a training image's shorter side; `training_geometry` sets it."""
    column: str = "image"
    """Which column of the items holds the encoded bytes."""
    nearest: bool = False
    """Resize without making new values, as masks need it."""

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of what is kept of an upright image of that size."""
        if self.resize == "none":
            return height, width
        if self.margin is None:
            return height_and_width(self.size)
        if self.resize == "squish":
            return self.side, self.side
        shape = self._scaled(height, width), self._scaled(width, height)
        longest = round(LONGEST * self.side)
        return min(shape[0], longest), min(shape[1], longest)

    def _scaled(self, length: int, other: int) -> int:
        return max(self.side, round(length * self.side / min(length, other)))

    def keep(self, encoded: bytes, name: str) -> Bytes:
        """The pixels (H, W, channels) of an image; ValueError naming it where it cannot be read."""
        if self.margin is None or self.resize == "none":
            return prepare(
                encoded, size=self.size, channels=self.channels, resize=self.resize, name=name,
                nearest=self.nearest,
            )  # fmt: skip
        image, full = decode(encoded, channels=self.channels, side=self.side, name=name)
        width, height = image.size
        if self.resize == "squish":
            box: tuple[float, float, float, float] = (0, 0, width, height)
        else:
            wide, high = min(width, LONGEST * height), min(height, LONGEST * width)
            left, top = (width - wide) // 2, (height - high) // 2
            box = (left, top, left + wide, top + high)
        rows, columns = self.shape(*full)
        return pixels(image.resize((columns, rows), Image.Resampling.BILINEAR, box=box))


def training_geometry(
    widths: Sequence[int], heights: Sequence[int], *, size: int, channels: int, resize: str, margin: float
) -> Geometry:
    """Shorter sides of round(size * margin), but never more than any image of the part has, so that images
    which have the size already keep their exact pixels."""
    if not margin >= 1:
        raise ValueError(f"margin: {margin} is below 1, which would enlarge what was reduced")
    shorts = [min(pair) for pair in zip(widths, heights, strict=True)]
    side = min(round(size * margin), max([size, *shorts]))
    return Geometry(size=size, channels=channels, resize=resize, margin=margin, side=side)


class Pixels(Protocol):
    """The images of some parts, in the order of the items."""

    @property
    def shapes(self) -> npt.NDArray[np.int64]:
        """(N, 2): height and width of each."""

    @property
    def geometry(self) -> Geometry:
        """What was kept of each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Bytes:
        """(H, W, channels) uint8 of one image; not to be written to."""


class Cached:
    """Pixels of a memory-mapped file: one flat run of bytes, with an offset and a shape per image."""

    def __init__(self, folder: Path, shapes: npt.NDArray[np.int64], geometry: Geometry) -> None:
        self.folder, self.shapes, self.geometry = folder, shapes, geometry
        self.offsets = _offsets(shapes, geometry.channels)
        # An ordinary array over the map: each slice of a `memmap` would be one again, with all its set-up.
        self._flat = np.asarray(
            np.memmap(folder / "pixels.u8", np.uint8, "r", shape=(int(self.offsets[-1]),))
        )

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Bytes:
        run = self._flat[self.offsets[index] : self.offsets[index + 1]]
        return run.reshape(*self.shapes[index], self.geometry.channels)


class Decoding:
    """The same pixels, decoded whenever they are asked for; encoded bytes are held in memory up to `held`."""

    def __init__(
        self,
        items: Items,
        parts: Sequence[str],
        shapes: npt.NDArray[np.int64],
        geometry: Geometry,
        *,
        held: int = HELD,
    ) -> None:
        self.shapes, self.geometry = shapes, geometry
        self._held, self._groups = held, OrderedDict[tuple[Path, int], pa.Table]()
        self._places = list(_places(items, parts))

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Bytes:
        path, group, row = self._places[index]
        table = self._group(path, group)
        encoded = table[self.geometry.column][row].as_py()
        kept = self.geometry.keep(encoded, table["item_id"][row].as_py())
        return _of_shape(kept, self.shapes[index], table["item_id"][row].as_py())

    def _group(self, path: Path, group: int) -> pa.Table:
        table = self._groups.pop((path, group), None)
        if table is None:
            with pq.ParquetFile(path) as file:
                table = file.read_row_group(group, columns=["item_id", self.geometry.column])
        self._groups[path, group] = table  # the last one is the one used last
        while len(self._groups) > 1 and sum(held.nbytes for held in self._groups.values()) > self._held:
            self._groups.popitem(last=False)
        return table


def open_pixels(
    items: Items,
    parts: Sequence[str],
    *,
    size: Size,
    channels: int = 3,
    resize: str = "crop",
    margin: float | None = None,
    column: str = "image",
    nearest: bool = False,
    folder: Path,
    limit: int | None = None,
    workers: int | None = None,
) -> Pixels:
    """The images of `parts`: a cache below `folder`, built at first use, or decoded on the fly where it would
    exceed `limit` bytes or the free disk less 1 GiB.

    `margin` None gives the pixels of `prepare`; otherwise larger ones, for random windows (see Geometry).
    `column`, `nearest`: other pictures than the image itself, such as its mask.
    `workers`: threads that decode; all cores by default. The key of a cache is made of the images' digests
    and all settings; a cache is written aside and renamed when whole, by one process at a time.
    """
    check_settings(size=size, channels=channels, resize=resize)
    table = items.table(parts, ["item_id", "digest", "width", "height"])
    if not table.num_rows:
        raise ValueError(f"no image belongs to {' or '.join(parts)} in {items.split / 'split.parquet'}")
    widths, heights = table["width"].to_pylist(), table["height"].to_pylist()
    geometry = Geometry(size=size, channels=channels, resize=resize, column=column, nearest=nearest)
    if margin is not None:
        if not isinstance(size, int):
            raise ValueError(f"size: {size} is no side of a square, which random windows have")
        geometry = training_geometry(
            widths, heights, size=size, channels=channels, resize=resize, margin=margin
        )
    shapes = np.array([geometry.shape(*pair) for pair in zip(widths, heights, strict=True)], dtype=np.int64)
    target = folder / _key(geometry, table["digest"].to_pylist())
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if _is_whole(target):
            return Cached(target, shapes, geometry)
        aside = target.with_suffix(".partial")
        shutil.rmtree(aside, ignore_errors=True)  # of a build that was killed
        shutil.rmtree(target, ignore_errors=True)  # damaged from outside
        needed = int(_offsets(shapes, channels)[-1])
        free = shutil.disk_usage(folder).free - SPARE
        if needed > (free if limit is None else min(free, limit)):
            log.warning("%.1f GB of pixels do not fit into %s: decoding on the fly", needed / 1e9, folder)
            return Decoding(items, parts, shapes, geometry)
        try:
            _build(items, parts, shapes, geometry, aside, workers=workers)
            aside.rename(target)
        except BaseException as error:
            shutil.rmtree(aside, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                log.warning("%s while %s was written: decoding on the fly", error, target)
                return Decoding(items, parts, shapes, geometry)
            raise
    return Cached(target, shapes, geometry)


def pixel_statistics(images: Pixels) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel in [0, 1] over all pixels of all images, from exact counts:
    what a network trained from scratch normalises by. A constant channel has the deviation 1."""
    counts = np.zeros((images.geometry.channels, 256), dtype=np.int64)
    for index in range(len(images)):
        image = images[index]
        for channel in range(images.geometry.channels):
            counts[channel] += np.bincount(image[:, :, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = counts.sum(1)
    mean = counts @ values / total
    deviation = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0))
    return {"mean": mean.tolist(), "std": np.where(deviation > 1e-6, deviation, 1.0).tolist()}


def _key(geometry: Geometry, digests: Sequence[str]) -> str:
    # The decoder's release belongs to the key: another libjpeg may round differently.
    made_of = [VERSION, PIL.__version__, repr(geometry), *digests]
    return hashlib.sha256("\n".join(map(str, made_of)).encode()).hexdigest()[:24]


def _offsets(shapes: npt.NDArray[np.int64], channels: int) -> npt.NDArray[np.int64]:
    """Where each image begins in the flat run, and where the last one ends."""
    ends = np.cumsum(shapes.prod(1) * channels)
    return np.concatenate([np.zeros(1, np.int64), ends])


def _is_whole(folder: Path) -> bool:
    """`whole.json` is in place before the folder gets its name; the size tells a file that was cut later."""
    try:
        expected = json.loads((folder / "whole.json").read_text())["bytes"]
        return bool((folder / "pixels.u8").stat().st_size == expected)
    except (OSError, ValueError, KeyError):
        return False


def _build(
    items: Items,
    parts: Sequence[str],
    shapes: npt.NDArray[np.int64],
    geometry: Geometry,
    folder: Path,
    *,
    workers: int | None,
) -> None:
    """Decode all images into `folder`, at most two record batches at a time in memory."""
    folder.mkdir(parents=True)
    offsets = _offsets(shapes, geometry.channels)
    with (folder / "pixels.u8").open("w+b") as file:
        # Blocks are claimed at once: a full disk is an error here, not a bus error inside the memory map.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, int(offsets[-1]))
        else:
            file.truncate(int(offsets[-1]))
        flat = np.memmap(file, np.uint8, "r+", shape=(int(offsets[-1]),))

        def fill(index: int, name: str, encoded: bytes) -> None:
            kept = _of_shape(geometry.keep(encoded, name), shapes[index], name)
            flat[offsets[index] : offsets[index + 1]] = kept.reshape(-1)

        threads = workers or os.cpu_count()
        with ThreadPoolExecutor(threads) as pool:
            position = 0
            before: list[Future[None]] = []
            for batch in items.batches(parts, ["item_id", geometry.column], rows=ROWS):
                names, images = batch["item_id"].to_pylist(), batch[geometry.column].to_pylist()
                now = [
                    pool.submit(fill, position + row, name, image)
                    for row, (name, image) in enumerate(zip(names, images, strict=True))
                ]
                position += len(now)
                _wait(before)
                before = now
            _wait(before)
        flat.flush()
        os.fsync(file.fileno())
    (folder / "whole.json").write_text(json.dumps({"bytes": int(offsets[-1]), "images": len(shapes)}))


def _wait(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        future.result()


def _of_shape(kept: Bytes, shape: npt.NDArray[np.int64], name: str) -> Bytes:
    if kept.shape[:2] != tuple(shape):
        raise ValueError(
            f"{name}: its columns width and height say {tuple(shape.tolist())} rows and columns of pixels, "
            f"its bytes {kept.shape[:2]}: clean the data again"
        )
    return kept


def _places(items: Items, parts: Sequence[str]) -> Iterator[tuple[Path, int, int]]:
    """Shard, row group and row of every image of `parts`, in the order of `items.batches`."""
    chosen = iter(items.chosen(parts).tolist())
    for shard in items.shards():
        with pq.ParquetFile(shard) as file:
            for group in range(file.num_row_groups):
                rows = range(file.metadata.row_group(group).num_rows)
                yield from ((shard, group, row) for row in rows if next(chosen))
