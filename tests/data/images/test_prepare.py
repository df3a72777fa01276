"""Bytes to pixels: exactness, orientation, modes, shapes, refusals."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import prepare as module
from data.images.prepare import TURNS, prepare
from data.images.reading import Picture, read_image
from tests.data.images.written import drawn, encoded, pets


@pytest.mark.parametrize("resize", ["crop", "squish", "none"])
@pytest.mark.parametrize("size", [28, 32])
def test_an_image_that_has_the_size_keeps_its_exact_pixels(resize: str, size: int) -> None:
    values = drawn(1, size, size)
    assert np.array_equal(prepare(encoded(values), size=size, resize=resize), values)


@pytest.mark.parametrize(("width", "height"), [(40, 28), (41, 28), (28, 45)])
def test_where_the_shorter_side_is_the_size_the_centre_is_cut_out_unblurred(width: int, height: int) -> None:
    values = drawn(2, width, height)
    left, top = (width - 28) // 2, (height - 28) // 2
    assert np.array_equal(prepare(encoded(values), size=28), values[top : top + 28, left : left + 28])


def test_crop_squish_and_none_differ_as_they_should() -> None:
    values = np.zeros((60, 120, 3), np.uint8)
    values[:, :30] = (255, 0, 0)  # the left quarter lies outside of the centred square
    red = {
        mode: (prepare(encoded(values), size=30, resize=mode)[:, :, 0] > 128).mean()
        for mode in module.RESIZES
    }
    assert red == {"crop": 0, "squish": pytest.approx(0.25, abs=0.04), "none": 0.25}
    assert prepare(encoded(values), size=30, resize="none").shape == (60, 120, 3)


def test_reduction_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(prepare(encoded(stripes), size=32).astype(int) - 127).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_every_orientation_comes_upright(orientation: int, form: str) -> None:
    upright = Image.fromarray(drawn(3, 64, 48))
    stored = upright
    if orientation > 1:
        inverse = {6: TURNS[8], 8: TURNS[6]}.get(orientation, TURNS.get(orientation))
        assert inverse is not None
        stored = upright.transpose(inverse)
    exif = Image.Exif()
    exif[module.ORIENTATION] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, form, exif=exif, **({"quality": 98, "subsampling": 0} if form == "JPEG" else {}))
    found = prepare(buffer.getvalue(), size=48, resize="none")
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - np.asarray(upright)).mean() < (3 if form == "JPEG" else 1e-9)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_gives_the_same_pixels_as_cleaning(mode: str) -> None:
    image = Image.fromarray(drawn(4, 40, 40))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(drawn(5, 40, 40)[:, :, 0]))
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    found = prepare(buffer.getvalue(), size=40)
    cleaned = read_image(buffer.getvalue())
    assert isinstance(cleaned, Picture)
    assert np.array_equal(found, prepare(cleaned.encoded, size=40))
    grey = prepare(buffer.getvalue(), size=40, channels=1)
    assert grey.shape == (40, 40, 1)
    assert grey.dtype == np.uint8


def test_grey_pixels_stay_exact() -> None:
    values = drawn(6, 28, 28)[:, :, 0]
    assert np.array_equal(prepare(encoded(values), size=28, channels=1)[:, :, 0], values)


def test_a_large_jpeg_decoded_at_a_lower_scale_looks_the_same(datasets: Path) -> None:
    """The mean difference from a full decode stays below 4 of 255 grey levels, in the mean of all below 2."""
    differences = []
    for content in pets(datasets):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        box = (left, top, left + short, top + short)
        full = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR, box=box)).astype(int)
        differences.append(np.abs(prepare(content, size=64) - full).mean())
    assert max(differences) < 4
    assert np.mean(differences) < 2


def test_a_damaged_exif_block_does_not_cost_the_image() -> None:
    content = encoded(drawn(7, 32, 32), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    assert prepare(content, size=32).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (b"<html>not found</html>", "not an image"),
        (encoded(drawn(8, 200, 200), "JPEG")[:1500], "truncated"),
        (encoded(drawn(8, 200, 200))[:3000], "not an image that can be read"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=rf"row 7: .*{says}"):
        prepare(content, size=32, name="row 7")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": 0}, "size: 0"),
        ({"size": 8, "channels": 2}, "channels: 2"),
        ({"size": 8, "resize": "pad"}, "pad"),
    ],
)
def test_a_setting_without_meaning_is_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        prepare(encoded(drawn(9, 8, 8)), **wrong)  # type: ignore[arg-type]


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="limit of 2000 pixels"):
        prepare(encoded(drawn(10, 64, 64)), size=32)


def test_the_file_stands_alone(tmp_path: Path) -> None:
    """Copied away from the checkout, without torch, it answers with the same pixels."""
    content = encoded(drawn(11, 90, 70), "JPEG")
    (tmp_path / "prepare.py").write_bytes(Path(module.__file__).read_bytes())
    (tmp_path / "image.jpg").write_bytes(content)
    program = (
        "import sys, pathlib, prepare\n"
        "values = prepare.prepare(pathlib.Path('image.jpg').read_bytes(), size=32)\n"
        "assert 'torch' not in sys.modules and 'data' not in sys.modules\n"
        "sys.stdout.buffer.write(values.tobytes())"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True)
    assert result.stdout == prepare(content, size=32).tobytes()
