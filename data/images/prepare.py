"""Encoded bytes to the pixels that a network sees; exported models bundle it (Pillow and numpy only)."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

RESIZES = ("crop", "squish", "none")
"""fastai's ways to a square: shorter side to the size and centre crop; both sides to the size; as it is."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Raster formats only: Pillow hands others to outside programs. JPEG covers the MPO of phones."""

ORIENTATION = 0x0112
"""EXIF tag of the orientation, 1 to 8 (EXIF 2.3, 4.6.4 A)."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of that orientation upright; from 5 on, width and height change places."""

KEPT_DETAIL = 2
"""A JPEG may be decoded at half, a quarter or an eighth of its scale, never below this multiple of the wanted
side, which is up to 4 times as fast. Photographs of 400 pixels brought to 64 differ from a full decode by
1.3 of 255 levels in the mean; evaluation and serving do the same, so that it cannot come between them."""


Size = int | tuple[int, int] | list[int]
"""Pixels a side, or height and width (a list where it comes from JSON)."""


def prepare(
    encoded: bytes,
    *,
    size: Size,
    channels: int = 3,
    resize: str = "crop",
    name: str = "image",
    nearest: bool = False,
) -> npt.NDArray[np.uint8]:
    """The pixels of one image, the same in evaluation and in serving.

    Upright by its EXIF orientation; RGB, or grey for one channel. `crop`: the centred square of the shorter
    side, resized to (size, size) with an antialiased bilinear filter. `squish`: the whole image to `size`.
    `none`: as it is, `size` has no effect. An image that has the size keeps its exact pixels. `nearest`: no
    value is made that was not there, as masks need it.

    Returns (H, W, channels) uint8. Raises ValueError naming `name` where the bytes are no image that can be
    read.
    """
    check_settings(size=size, channels=channels, resize=resize)
    rows, columns = height_and_width(size)
    side = None if resize == "none" or nearest else max(rows, columns)
    image, _ = decode(encoded, channels=channels, side=side, name=name)
    if resize == "none":
        return pixels(image)
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    box = (left, top, left + short, top + short) if resize == "crop" else (0, 0, width, height)
    resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return pixels(image.resize((columns, rows), resample, box=box))


def height_and_width(size: Size) -> tuple[int, int]:
    """Both sides of a size."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check_settings(*, size: Size, channels: int, resize: str) -> None:
    """Raises ValueError naming the parameter whose value has no meaning."""
    if resize not in RESIZES:
        raise ValueError(f"resize: {resize!r} is none of {', '.join(RESIZES)}")
    if channels not in (1, 3):
        raise ValueError(f"channels: {channels} is neither 1 (grey) nor 3 (RGB)")
    rows, columns = height_and_width(size)
    if resize != "none" and min(rows, columns) < 1:
        raise ValueError(f"size: {size} is not a number of pixels above 0")
    if resize == "crop" and rows != columns:
        raise ValueError(f"size: {size} is no square, to which crop cuts; use squish")


def decode(
    encoded: bytes, *, channels: int = 3, side: int | None = None, name: str = "image"
) -> tuple[Image.Image, tuple[int, int]]:
    """The upright image in mode RGB or L, and its full (width, height).

    `side`: pixels of the shorter side that the caller will resize it to; a JPEG may then come smaller than it
    is.

    Raises ValueError naming `name` for bytes that are no image, a truncated one, or one of too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of EXIF and colour profiles; what cannot be read raises
            image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            width, height = image.size
            orientation = _orientation(image)
            if orientation >= 5:
                width, height = height, width
            if side is not None:
                image.draft(None, (KEPT_DETAIL * side, KEPT_DETAIL * side))  # has an effect on JPEG only
            image.load()
            if orientation in TURNS:
                image = image.transpose(TURNS[orientation])
            return _in_mode(image, "L" if channels == 1 else "RGB"), (width, height)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{name}: not an image that can be read ({len(encoded)} bytes): {reason}") from error


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """(H, W, channels) uint8 of an image in mode RGB or L."""
    values: npt.NDArray[np.uint8] = np.asarray(image, dtype=np.uint8)
    return values[:, :, None] if values.ndim == 2 else values


def _orientation(image: Image.Image) -> int:
    """1 where the EXIF block is missing or damaged: the pixels may still be sound."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """As in cleaning: transparent pixels turn white, deep grey keeps its upper eight bits (Pillow clips)."""
    if image.mode == "F":
        raise ValueError("mode F has no stated range of values")
    if image.mode.startswith("I"):
        values: npt.NDArray[Any] = np.asarray(image).astype(np.int64)
        image = Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
    elif {"A", "a"} & set(image.getbands()) or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    rgb = image if image.mode in ("RGB", "L") else image.convert("RGB")
    return rgb if rgb.mode == mode else rgb.convert(mode)
