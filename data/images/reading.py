"""Published bytes to one verified, upright RGB image, or the reason why there is none."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Raster formats only: Pillow hands others (EPS, PDF) to outside programs. JPEG covers MPO of phones."""

KEPT = ("JPEG", "MPO", "PNG")
"""Formats whose bytes are kept where the image is upright RGB of one frame: all decoders agree on them."""

MAX_PIXELS = 50_000_000
"""Default limit. The largest photograph of the course has 12 million pixels; 50 million decode to 150 MB."""

ORIENTATION = 0x0112
"""EXIF tag; 1 is upright."""

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
"""Openings of image files: bytes that begin so and cannot be opened are a cut or damaged image."""

# Of EXIF, palettes and size; what cannot be read raises. For the process, as threads share the filters.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A verified image."""

    encoded: bytes
    """Upright RGB: the published bytes, or a PNG of the same pixels."""
    width: int
    """Pixels, upright."""
    height: int
    """Pixels, upright."""
    reencoded: bool
    """The published bytes were of another mode, format or orientation, or had several frames."""
    digest: str
    """sha256 of width, height and the upright RGB pixels, hexadecimal."""
    phash: int
    """The 64 bits of imagehash.phash as a signed integer."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why bytes are no example."""

    reason: str
    detail: str


def read_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture | Fault:
    """Decode one file once and verify it.

    The limit is compared with the header before anything is decoded. Orientation is applied; transparent
    pixels turn white, deep grey keeps its upper eight bits, of an animation the first frame stays.
    Faults: `empty file`, `not an image`, `truncated`, `damaged`, `zero size`, `above the pixel limit`,
    `unsupported mode`.
    """
    if not content:
        return Fault(reason="empty file", detail="0 bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        return Fault(reason="above the pixel limit", detail=f"{error} (limit of this run: {max_pixels:,})")
    except Exception as error:  # Pillow's parsers raise nearly anything on broken bytes
        return _unopened(content, error)
    width, height = image.size
    if width < 1 or height < 1:
        return Fault(reason="zero size", detail=f"{width} x {height} pixels")
    if width * height > max_pixels:
        return Fault(
            reason="above the pixel limit",
            detail=f"{width} x {height} = {width * height:,} pixels, limit {max_pixels:,}",
        )
    try:
        published = image.format in KEPT and _plain(image, content)
        image.load()
        rgb = image if published else _rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        cut = any(
            word in text.lower() for word in ("truncated", "not enough", "unexpected end", "incomplete")
        )
        return Fault(reason="truncated" if cut else "damaged", detail=text)
    if rgb is None:
        return Fault(reason="unsupported mode", detail=f"mode {image.mode} has no stated range of values")
    return Picture(
        encoded=content if published else _png(rgb),
        width=rgb.width,
        height=rgb.height,
        reencoded=not published,
        digest=pixel_digest(rgb),
        phash=perceptual_hash(rgb),
    )


def pixel_digest(image: Image.Image) -> str:
    """sha256 over the size and the pixels of an RGB image, hexadecimal."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def perceptual_hash(image: Image.Image) -> int:
    """The 64 bits of imagehash.phash, first bit highest, as a signed 64-bit integer."""
    bits: npt.NDArray[np.bool_] = imagehash.phash(image).hash
    return int(np.packbits(bits).view(">i8")[0])


def _unopened(content: bytes, error: Exception) -> Fault:
    if content.startswith(SIGNATURES) and not content[:64].isascii():
        return Fault(
            reason="truncated", detail=f"begins like an image but ends in the header ({len(content)} bytes)"
        )
    start = content[:16].decode("ascii", "replace").encode("ascii", "backslashreplace").decode()
    kind = type(error).__name__
    return Fault(reason="not an image", detail=f"{len(content)} bytes beginning {start!r} ({kind})")


def _plain(image: Image.Image, content: bytes) -> bool:
    """Is the file upright 8-bit RGB of one frame, so that its bytes can stay? Reads the header only."""
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # JPEG decoders see MPO's first
    deep = image.format == "PNG" and content[24:25] == b"\x10"
    upright = image.getexif().get(ORIENTATION, 1) in (0, 1)
    return image.mode == "RGB" and frames == 1 and upright and not deep and "transparency" not in image.info


def _rgb(image: Image.Image) -> Image.Image | None:
    """Any mode to RGB; None where the values have no stated range."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # Pillow alone would clip deep grey to white
        values: npt.NDArray[Any] = np.asarray(image).astype(np.int64)
        return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return None
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image.convert("RGB")


def _png(image: Image.Image) -> bytes:
    clean = Image.frombytes("RGB", image.size, image.tobytes())  # without the published file's metadata
    buffer = io.BytesIO()
    clean.save(buffer, format="PNG")
    return buffer.getvalue()
