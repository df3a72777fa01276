"""What is wrong with real archives, planted into drawn ones: a fault for each reason that `clean` knows."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

HUGE = (9_000, 8_000)
"""Width and height that a header claims: 72 million pixels in some hundred bytes."""


def encode(pixels: Pixels, kind: str, *, quality: int = 88) -> bytes:
    """(H, W, 3) or (H, W, 1) uint8 as `jpeg` or `png`."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if kind == "jpeg":
        image.save(buffer, "JPEG", quality=quality)
    else:
        save_png(image, buffer)
    return buffer.getvalue()


def save_png(image: Image.Image, buffer: io.BytesIO) -> None:
    """Runs only: what a compressor finds beyond them differs between its releases and processors."""
    image.save(buffer, "PNG", compress_type=zlib.Z_RLE)


def in_mode(pixels: Pixels, mode: str) -> bytes:
    """The picture in another mode than RGB: L, P, RGBA or LA as PNG, CMYK as JPEG."""
    image = Image.fromarray(pixels).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    buffer = io.BytesIO()
    if mode == "CMYK":
        image.save(buffer, "JPEG")
    else:
        save_png(image, buffer)
    return buffer.getvalue()


def lying(pixels: Pixels) -> bytes:
    """A JPEG that is stored on its side, with the EXIF tag that sets it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(pixels).copy()).save(buffer, "JPEG", quality=88, exif=exif)
    return buffer.getvalue()


def huge() -> bytes:
    """A PNG whose header claims more pixels than anyone should decode."""
    header = struct.pack(">IIBBBBB", *HUGE, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64, 0)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def page() -> bytes:
    """What a server answers instead of the picture that is gone."""
    return b"<!DOCTYPE html><html><head><title>Not here</title></head><body>It moved.</body></html>\n"
