"""Near duplicates among images: candidates by perceptual hash, confirmed by the pixels at full size.

A 64-bit hash alone calls a third of MNIST's validation digits copies. So a candidate pair is compared by
thumbnails first and then, in full size, after one image was searched for as a slightly cropped part of the
other; a pair counts by the correlation of its grey values, which brightness and contrast do not change.
"""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from data.shards import shard_paths

Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Grey = npt.NDArray[np.float32]

SMALL = 64
"""Pixels of the shorter side below which images have so little detail that different ones look alike."""
CONFIRMED_SMALL = 0.99
"""Correlation that confirms a pair of small images. Different digits of MNIST reach 0.988 when aligned."""
CONFIRMED = 0.96
"""The same for larger ones. Of pet photographs re-encoded at JPEG quality 30, 98 of 100 reach 0.98."""
THUMB = 24
"""Pixels of a side of the thumbnails."""
WORTH_SMALL, WORTH = 0.93, 0.79
"""Correlation of thumbnails from which a pair is compared in full size: a crop of 8 % leaves 0.79."""
HOPELESS, HOPELESS_STEP = 0.02, 0.02
"""The search for a crop is given up where it lacks so much when its steps are this share of a side."""
LARGEST_CROP = 0.15
"""Share of a side that the search for a crop cuts off at most."""
Cut = tuple[float, float, float, float]
"""Shares of an image's width and height cut off at its left, top, right and bottom."""
NOTHING: Cut = (0.0, 0.0, 0.0, 0.0)
MOVES = tuple(
    move
    for way in (1, -1)
    for move in (
        *((way, 0, 0, 0), (0, way, 0, 0), (0, 0, way, 0), (0, 0, 0, way)),
        *((way, 0, -way, 0), (0, way, 0, -way)),
    )
)
"""One side of a crop in or out, or two opposite ones the same way."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """A confirmed pair, by row numbers."""

    left: int
    right: int
    correlation: float
    """Of the grey values at full size, 1 at most."""
    bits: int
    """Bits by which the perceptual hashes differ (of the mirrored image's, where mirrored)."""
    mirrored: bool


def mirrored_hash(hashes: Hashes) -> Hashes:
    """The hash of the mirror image: the odd horizontal frequencies change their sign, and so their bit."""
    odd = np.zeros((8, 8), dtype=bool)
    odd[:, 1::2] = True
    flipped: Hashes = hashes ^ np.packbits(odd).view(">u8").astype(np.uint64)[0]
    return flipped


def near_hashes(left: Hashes, right: Hashes, *, distance: int) -> Iterator[tuple[Rows, Rows]]:
    """Positions in `left` and `right` of all pairs at most `distance` bits apart, each pair once, in blocks.

    Of four 16-bit bands one must differ by at most a quarter of the distance (pigeonhole; Norouzi, Punjani
    and Fleet 2012), so only hashes that share a band up to those few flips are compared.
    """
    radius = distance // 4
    flips = [
        sum(1 << bit for bit in bits)
        for count in range(radius + 1)
        for bits in combinations(range(16), count)
    ]
    for band in range(4):
        shift = np.uint64(16 * band)
        keys_right = ((right >> shift) & np.uint64(0xFFFF)).astype(np.int64)
        keys_left = ((left >> shift) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys_right, kind="stable")
        starts = np.searchsorted(keys_right[order], np.arange(2**16 + 1))
        for flip in flips:
            wanted = keys_left ^ flip
            yield from _expand(left, right, order, starts[wanted], starts[wanted + 1], band, distance, radius)


def _expand(
    left: Hashes, right: Hashes, order: Rows, starts: Rows, ends: Rows, band: int, distance: int, radius: int
) -> Iterator[tuple[Rows, Rows]]:
    """All pairs of one band and flip that are near, and were not near enough in an earlier band."""
    counts = ends - starts
    total = np.cumsum(counts)
    begin = 0
    while begin < len(left):
        before = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, before + 2**22, side="right")), begin + 1)
        here = counts[begin:end]
        first = np.repeat(np.arange(begin, end), here)
        offsets = np.arange(len(first)) - np.repeat(np.cumsum(here) - here, here)
        second = order[np.repeat(starts[begin:end], here) + offsets]
        begin = end
        difference = left[first] ^ right[second]
        near = np.bitwise_count(difference) <= distance
        first, second, difference = first[near], second[near], difference[near]
        new = np.ones(len(first), dtype=bool)
        for earlier in range(band):
            part = (difference >> np.uint64(16 * earlier)) & np.uint64(0xFFFF)
            new &= np.bitwise_count(part) > radius
        if new.any():
            yield first[new], second[new]


def near_duplicates(
    folder: Path, hashes: Hashes, sides: list[tuple[Rows, Rows]], *, distance: int, per_row: int = 3
) -> tuple[list[Near], int]:
    """Confirmed pairs between the two sides of each entry (at most `per_row` per left row), and how many
    candidates there were. A side that is given twice is compared with itself.

    `folder`: item files with a column `image`; `hashes`: their perceptual hashes; rows are numbered over all
    shards. Holds a thumbnail (576 bytes) of each candidate in memory, and images one pair at a time.
    """
    marked = np.zeros(len(hashes), dtype=bool)
    candidates = 0
    for left, right, _ in _candidates(hashes, sides, distance):
        marked[left] = marked[right] = True
        candidates += len(left)
    place = np.cumsum(marked) - 1
    thumbs = np.empty((int(marked.sum()), THUMB, THUMB), dtype=np.uint8)
    small = np.empty(len(thumbs), dtype=bool)
    for row, content in _contents(folder, marked):
        image = _grey(content)
        small[place[row]] = min(image.size) < SMALL
        thumbs[place[row]] = np.asarray(image.resize((THUMB, THUMB), Image.Resampling.BICUBIC))
    worth: list[tuple[float, int, int, bool]] = []
    for left, right, mirrored in _candidates(hashes, sides, distance):
        for begin in range(0, len(left), 2**16):
            one, two = left[begin : begin + 2**16], right[begin : begin + 2**16]
            likeness = _likeness(thumbs[place[one]], thumbs[place[two]], mirrored)
            least = np.where(small[place[one]] | small[place[two]], WORTH_SMALL, WORTH)
            for at in np.flatnonzero(likeness >= least).tolist():
                worth.append((-float(likeness[at]), int(one[at]), int(two[at]), mirrored))
    return _confirmed(folder, hashes, sorted(worth), per_row), candidates


def correlation(left: Image.Image, right: Image.Image) -> float:
    """How alike two grey images are at full size, 1 at most.

    Both are brought to the size of the smaller one; where each may be a crop of the other, the best crop
    counts. Pixels saturated in either are left out where at least half remain.
    """
    best = _compared(left, right, NOTHING)
    if best >= needed(left, right):
        return best
    for whole, part in ((left, right), (right, left)):
        best = max(best, _compared(whole, part, _crop(whole, part)))
    return best


def needed(left: Image.Image, right: Image.Image) -> float:
    """The correlation from which two images of these sizes are near duplicates."""
    return CONFIRMED_SMALL if min(*left.size, *right.size) < SMALL else CONFIRMED


def _candidates(
    hashes: Hashes, sides: list[tuple[Rows, Rows]], distance: int
) -> Iterator[tuple[Rows, Rows, bool]]:
    for left, right in sides:
        for mirrored in (False, True):
            seen = mirrored_hash(hashes[left]) if mirrored else hashes[left]
            for first, second in near_hashes(seen, hashes[right], distance=distance):
                one, two = left[first], right[second]
                if left is right:
                    one, two = one[one < two], two[one < two]
                if len(one):
                    yield one, two, mirrored


def _likeness(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8], mirrored: bool) -> Grey:
    one = _normal((left[:, :, ::-1] if mirrored else left).reshape(len(left), -1))
    likeness: Grey = np.einsum("ij,ij->i", one, _normal(right.reshape(len(right), -1)))
    return likeness


def _normal(values: npt.NDArray[Any]) -> Grey:
    """Each row with mean 0 and length 1; a row without any contrast stays 0."""
    centred = values.astype(np.float32)
    centred -= centred.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    normal: Grey = centred / np.maximum(length, 1e-6)
    return normal


def _confirmed(
    folder: Path, hashes: Hashes, worth: list[tuple[float, int, int, bool]], per_row: int
) -> list[Near]:
    needs = np.zeros(len(hashes), dtype=bool)
    for _, left, right, _ in worth:
        needs[[left, right]] = True
    found: list[Near] = []
    counts: dict[int, int] = {}
    with tempfile.TemporaryFile() as spool:  # on disk, as there may be many
        where: dict[int, tuple[int, int]] = {}
        for row, content in _contents(folder, needs):
            where[row] = (spool.tell(), len(content))
            spool.write(content)

        @lru_cache(maxsize=64)
        def load(row: int) -> Image.Image:
            spool.seek(where[row][0])
            return _grey(spool.read(where[row][1]))

        for _, left, right, mirrored in worth:
            if counts.get(left, 0) >= per_row:
                continue
            one = ImageOps.mirror(load(left)) if mirrored else load(left)
            value = correlation(one, load(right))
            if value >= needed(one, load(right)):
                counts[left] = counts.get(left, 0) + 1
                seen = mirrored_hash(hashes[[left]])[0] if mirrored else hashes[left]
                bits = int(np.bitwise_count(seen ^ hashes[right]))
                found.append(
                    Near(left=left, right=right, correlation=round(value, 4), bits=bits, mirrored=mirrored)
                )
    return found


def _contents(folder: Path, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[int, bytes]]:
    """Row number and encoded image of the wanted rows; row groups without one are not read."""
    start = 0
    for path in shard_paths(folder):
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                rows = np.flatnonzero(wanted[start : start + count])
                if len(rows):
                    column = file.read_row_group(number, columns=["image"])["image"].take(rows)
                    for row, content in zip(rows.tolist(), column, strict=True):
                        yield start + row, content.as_py()
                start += count


def _grey(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("L")


def _values(image: Image.Image, size: tuple[int, int], cut: Cut) -> Grey:
    """Grey values of the image without the shares `cut` at its left, top, right and bottom, at `size`."""
    width, height = image.size
    box = (cut[0] * width, cut[1] * height, (1 - cut[2]) * width, (1 - cut[3]) * height)
    resized = image.resize(size, Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized, dtype=np.float32).ravel()


def _compared(whole: Image.Image, part: Image.Image, cut: Cut) -> float:
    width = min(round(whole.width * (1 - cut[0] - cut[2])), part.width)
    height = min(round(whole.height * (1 - cut[1] - cut[3])), part.height)
    size = (max(width, 1), max(height, 1))
    one, two = _values(whole, size, cut), _values(part, size, NOTHING)
    clear = (np.minimum(one, two) > 3) & (np.maximum(one, two) < 252)
    if clear.mean() >= 0.5:
        one, two = one[clear], two[clear]
    return float(_normal(one) @ _normal(two))


def _crop(whole: Image.Image, part: Image.Image) -> Cut:
    """The cut of `whole` that looks most like `part`: a descent over its four sides, in halving steps."""
    side = min(48, *whole.size, *part.size)
    reduced = whole.copy()
    reduced.thumbnail((3 * side, 3 * side), Image.Resampling.BICUBIC)
    target = _normal(_values(part, (side, side), NOTHING))

    def likeness(cut: Cut) -> float:
        values = _values(reduced, (side, side), cut)
        values -= values.mean()
        return float(values @ target) / max(float(np.sqrt(values @ values)), 1e-6)

    cut, step = NOTHING, 0.04
    best = likeness(cut)
    while step >= 0.001:
        before = best
        for move in MOVES:
            left, top, right, bottom = (
                min(max(at + step * way, 0.0), LARGEST_CROP) for at, way in zip(cut, move, strict=True)
            )
            tried = (left, top, right, bottom)
            value = likeness(tried) if tried != cut else best
            if value > best:
                best, cut = value, tried
        if best == before:
            step /= 2
            if step < HOPELESS_STEP and best < needed(whole, part) - HOPELESS:
                break
    return cut
