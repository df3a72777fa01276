"""Bytes of an image and of its mask to one verified pair, or the reason why there is none."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from data.examples import Reject
from data.images.masks import VOID, Legend
from data.images.reading import FORMATS, MAX_PIXELS, Fault, Picture, read_image

Places = npt.NDArray[np.uint8]

SHOWN = 5
"""Unknown values that a reject names."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image and its mask, both verified, of one size."""

    picture: Picture
    mask: bytes
    """Grey PNG: for each pixel its class's place in the legend, or VOID."""
    digest: str
    """sha256 of the image's pixels and the mask's, hexadecimal."""


def read_pair(
    image: bytes,
    mask: bytes,
    *,
    name: str,
    mask_name: str,
    legend: Legend,
    threshold: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Pair | Reject:
    """Decode both once. The reasons are those of `read_image`, and those that `clean_masks` lists."""
    picture = read_image(image, max_pixels=max_pixels)
    if isinstance(picture, Fault):
        return Reject(name, picture.reason, picture.detail)
    places = read_mask(mask, legend=legend, threshold=threshold, max_pixels=max_pixels)
    if isinstance(places, Fault):
        return Reject(name, places.reason, f"{mask_name}: {places.detail}")
    height, width = places.shape
    if (width, height) != (picture.width, picture.height):
        detail = (
            f"{mask_name} has {width} x {height} pixels, the upright image {picture.width} x {picture.height}"
        )
        return Reject(name, "mask of another size", detail)
    if (places == VOID).all():
        return Reject(name, "nothing but void", f"{mask_name}: no pixel belongs to a class that counts")
    digest = hashlib.sha256(picture.digest.encode() + places.tobytes()).hexdigest()
    return Pair(picture=picture, mask=encode_mask(places), digest=digest)


def read_mask(
    content: bytes, *, legend: Legend, threshold: int | None = None, max_pixels: int = MAX_PIXELS
) -> Places | Fault:
    """(H, W) uint8: for each pixel the place of its class in the legend, or VOID.

    Numbers are taken as they are stored (of a palette its indices); with `threshold` the grey value decides.
    Colours are looked up where the legend has colours. Faults: `unreadable mask`, `above the pixel limit`,
    `mask in colour`, `unknown ids`.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > max_pixels:
            detail = f"{image.width} x {image.height} pixels, limit {max_pixels:,}"
            return Fault(reason="above the pixel limit", detail=detail)
        image.load()
        if threshold is not None:
            return (np.asarray(image.convert("L")) >= threshold).astype(np.uint8)
        coloured = any(isinstance(value, tuple) for value in legend.values)
        values = _colours(image) if coloured else _numbers(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything on broken bytes
        said = " ".join(str(error).split())[:150] or type(error).__name__
        return Fault(reason="unreadable mask", detail=f"{len(content)} bytes: {said}")
    if values is None:
        detail = f"mode {image.mode}: name the colours in clean.classes.values"
        return Fault(reason="mask in colour", detail=detail)
    return _places(values, legend)


def encode_mask(places: Places) -> bytes:
    """Grey PNG of numbers, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(places).save(buffer, "PNG")
    return buffer.getvalue()


def decode_mask(content: bytes) -> Places:
    """What `encode_mask` wrote."""
    places: Places = np.asarray(Image.open(io.BytesIO(content)))
    return places


def _numbers(image: Image.Image) -> npt.NDArray[np.int64] | None:
    """The values as stored; None where the channels of a colour image differ."""
    stored = np.asarray(image)
    if stored.ndim == 3:
        colours = stored[..., : 1 if image.mode == "LA" else 3]
        if (colours != colours[..., :1]).any():
            return None
        stored = colours[..., 0]
    return stored.astype(np.int64)


def _colours(image: Image.Image) -> npt.NDArray[np.int64]:
    """Red, green and blue as one number."""
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    return (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]


def _places(values: npt.NDArray[np.int64], legend: Legend) -> Places | Fault:
    known = {_number(value): place for place, value in enumerate(legend.values)}
    known |= dict.fromkeys(map(_number, legend.void), VOID)
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    unknown = [place for place, value in enumerate(distinct.tolist()) if value not in known]
    if unknown:
        coloured = any(isinstance(value, tuple) for value in legend.values)
        shown = ", ".join(
            f"{f'#{distinct[place]:06x}' if coloured else distinct[place]} ({counts[place]:,} pixels)"
            for place in unknown[:SHOWN]
        )
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        return Fault(reason="unknown ids", detail=f"{shown}{more}; {len(known)} values are named")
    table = np.array([known[value] for value in distinct.tolist()], dtype=np.uint8)
    return table[inverse.reshape(values.shape)]


def _number(value: int | tuple[int, int, int]) -> int:
    return value if isinstance(value, int) else value[0] << 16 | value[1] << 8 | value[2]
