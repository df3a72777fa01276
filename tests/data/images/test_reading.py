"""Any published file becomes one upright RGB image, or a reason."""

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image

from data.images.reading import Fault, Picture, read_image
from tests.jobs import encode, raw_of, scene


def picture(content: bytes, **options: Any) -> Picture:
    answer = read_image(content, **options)
    assert isinstance(answer, Picture), answer
    return answer


def fault(content: bytes, **options: Any) -> Fault:
    answer = read_image(content, **options)
    assert isinstance(answer, Fault), answer
    return answer


def pixels(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 90}), ("PNG", {})])
def test_an_upright_rgb_image_keeps_its_bytes(kind: str, options: dict[str, Any]) -> None:
    content = encode(scene(1), kind, **options)
    read = picture(content)
    assert read.encoded == content
    assert (read.width, read.height, read.reencoded) == (96, 80, False)
    shown = pixels(content)
    assert read.digest == hashlib.sha256(b"96x80:" + shown.tobytes()).hexdigest()
    bits = imagehash.phash(Image.fromarray(shown)).hash.ravel()
    assert f"{read.phash & (2**64 - 1):064b}" == "".join(str(int(bit)) for bit in bits)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int) -> None:
    upright = scene(2, width=40, height=24)
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that undoes each orientation
    stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = picture(encode(stored, "PNG", exif=exif))
    assert read.reencoded == (orientation > 1)
    assert (read.width, read.height) == (40, 24)
    assert np.array_equal(pixels(read.encoded), np.asarray(upright))
    assert read.digest == picture(encode(upright)).digest
    assert 0x0112 not in Image.open(io.BytesIO(read.encoded)).getexif() or orientation == 1


def deep(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 0x80FF, dtype=np.uint16)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (9, 7), 130), "PNG", (130, 130, 130)),
        (Image.new("1", (9, 7), 1), "PNG", (255, 255, 255)),
        (Image.new("LA", (9, 7), (10, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (9, 7), (200, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (9, 7), (200, 0, 0, 255)), "PNG", (200, 0, 0)),
        (Image.new("RGB", (9, 7), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE), "PNG", (1, 2, 3)),
        (Image.new("CMYK", (9, 7), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
        (Image.new("CMYK", (9, 7), (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
        (Image.fromarray(deep((7, 9))), "PNG", (128, 128, 128)),
        (Image.fromarray(deep((7, 9))), "TIFF", (128, 128, 128)),
        (Image.new("RGB", (9, 7), (4, 5, 6)), "BMP", (4, 5, 6)),
        (Image.new("RGB", (9, 7), (4, 5, 6)), "TIFF", (4, 5, 6)),
        (Image.new("L", (9, 7), 77), "JPEG", (77, 77, 77)),
    ],
)
def test_every_mode_becomes_rgb_without_loss(
    image: Image.Image, kind: str, expected: tuple[int, ...]
) -> None:
    read = picture(encode(image, kind))
    assert read.reencoded
    assert np.array_equal(pixels(read.encoded), np.full((7, 9, 3), expected, dtype=np.uint8))


def test_transparent_palettes_and_colours_turn_white() -> None:
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([200, 0, 0, 0, 200, 0])
    read = picture(encode(palette, "PNG", transparency=0))
    assert np.array_equal(pixels(read.encoded), np.full((8, 8, 3), 255))
    keyed = picture(encode(Image.new("RGB", (8, 8), (9, 9, 9)), "PNG", transparency=(9, 9, 9)))
    assert keyed.reencoded
    assert np.array_equal(pixels(keyed.encoded), np.full((8, 8, 3), 255))


def test_of_an_animation_the_first_frame_stays() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    read = picture(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert read.reencoded
    assert np.array_equal(pixels(read.encoded), np.full((8, 8, 3), (255, 0, 0)))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, *, bits: int = 8) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))


def test_a_png_of_16_bits_a_colour_is_reencoded() -> None:
    row = b"\x00" + struct.pack(">3H", 0x12FF, 0x34FF, 0x56FF)
    read = picture(png_header(1, 1, bits=16) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b""))
    assert read.reencoded
    assert pixels(read.encoded).tolist() == [[[0x12, 0x34, 0x56]]]


def pixelless(width: int, height: int) -> bytes:
    """A PNG whose header promises pixels that are not there."""
    return png_header(width, height) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


JPEG = encode(scene(3), "JPEG", quality=90)
PNG = encode(scene(3))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>404</html>", "not an image"),
        (bytes(5000), "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # never to Ghostscript
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:40], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:20], "truncated"),
        (encode(scene(3), "GIF")[:300], "truncated"),
        (encode(scene(3), "BMP")[:300], "truncated"),
        (pixelless(30_000, 30_000), "above the pixel limit"),
        (pixelless(8_000, 7_000), "above the pixel limit"),
        (encode(Image.new("F", (8, 8), 0.5), "TIFF"), "unsupported mode"),
    ],
)
def test_what_is_no_example_has_a_reason(content: bytes, reason: str) -> None:
    found = fault(content)
    assert found.reason == reason
    assert found.detail


def test_the_limit_is_compared_before_anything_is_decoded() -> None:
    # There are no pixels behind the header: decoding would say truncated.
    assert fault(pixelless(101, 100), max_pixels=10_000).detail == "101 x 100 = 10,100 pixels, limit 10,000"
    assert fault(pixelless(100, 100), max_pixels=10_000).reason == "truncated"
    assert picture(encode(scene(1, width=100, height=100)), max_pixels=10_000).width == 100


def test_a_flipped_byte_never_raises() -> None:
    random = np.random.default_rng(0)
    for content in (JPEG, PNG, encode(scene(3), "GIF"), encode(scene(3), "TIFF"), encode(scene(3), "WEBP")):
        for _ in range(60):
            changed = bytearray(content)
            for at in random.integers(0, len(content), 3):
                changed[at] = int(random.integers(0, 256))
            assert isinstance(read_image(bytes(changed)), Picture | Fault)


def test_the_pets_photographs_keep_their_bytes(datasets: Path, tmp_path: Path) -> None:
    raw = raw_of(tmp_path, {"pets.tgz": datasets / "oxford-iiit-pet.tgz"})
    photographs = [
        (member.name, member.read())
        for member in raw.members()
        if member.name.startswith("oxford-iiit-pet/images/")
    ]
    answers = {name: read_image(content) for name, content in photographs}
    assert [name for name, answer in answers.items() if isinstance(answer, Fault)] == [
        "oxford-iiit-pet/images/Abyssinian_101.mat"
    ]
    kept = [
        answer.encoded == content
        for (_, content), answer in zip(photographs, answers.values(), strict=True)
        if isinstance(answer, Picture)
    ]
    assert kept == [True] * 124
