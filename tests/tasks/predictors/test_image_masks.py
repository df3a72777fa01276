"""The pyfunc of a segmentation: any picture in, a mask of its own size out, and no guess for a bad row."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.predict import without_bytes
from tasks.predictors import Predictor, find_predictor
from tasks.predictors.image_masks import decide, numbers_of
from tasks.predictors.images import as_png
from tests.data.images.written import encoded

DESCRIBED: dict[str, Any] = {
    "labels": ["dark", "bright"],
    "preprocess": {"kind": "image_masks", "size": [12, 16], "values": [7, 200]},
}


class Bright(torch.nn.Module):
    """Probabilities (N, 2, H, W): how dark and how bright a pixel is."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean(dim=1, keepdim=True)
        return torch.cat([1 - bright, bright], dim=1)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return find_predictor(DESCRIBED)


def halves(width: int, height: int) -> np.ndarray:
    """Dark above, bright below."""
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 :] = 255
    return image


def asked(predictor: Predictor, *values: Any) -> pd.DataFrame:
    rows = pd.DataFrame({"image": list(values)})
    return predictor.answer(Bright(), predictor.receive(rows, {}))


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("size", [(16, 12), (64, 48), (50, 90), (5, 4)])
def test_the_mask_has_the_picture_s_size_and_published_numbers(
    predictor: Predictor, size: tuple[int, int]
) -> None:
    answer = asked(predictor, encoded(halves(*size)))
    mask = opened(answer["mask"][0])
    assert mask.shape == size[::-1]
    assert (mask[0] == 7).all()
    assert (mask[-1] == 200).all()
    assert sum(answer["shares"][0]) == pytest.approx(1.0)
    assert (answer["width"][0], answer["height"][0]) == size


def test_a_photograph_on_its_side_is_answered_upright(predictor: Predictor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(np.rot90(halves(60, 40)).copy(), "JPEG", exif=exif)
    mask = opened(asked(predictor, content)["mask"][0])
    assert mask.shape == (40, 60)
    assert (mask[0] == 7).all()


def test_rows_of_many_sizes_and_base64_text_are_answered_in_order(predictor: Predictor) -> None:
    contents = [encoded(halves(20 + number, 16)) for number in range(11)]
    answer = asked(predictor, *contents[:-1], base64.b64encode(contents[-1]).decode())
    assert answer["width"].tolist() == list(range(20, 31))
    assert asked(predictor).columns.tolist() == ["mask", "shares", "probabilities", "width", "height"]


def test_all_faulty_rows_are_named_and_none_is_guessed(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="row 1") as error:
        asked(predictor, encoded(halves(20, 16)), b"text", "no base64!", 7, encoded(halves(20, 16))[:60])
    message = str(error.value)
    assert [f"row {row}" in message for row in range(5)] == [False, True, True, True, True]


def test_probabilities_are_compared_between_the_pixels_too(predictor: Predictor) -> None:
    rows, received, files = predictor.example({"images": torch.rand(2, 3, 12, 16)})
    outputs = {"probabilities": Bright()(received["images"])}
    numbers = numbers_of(DESCRIBED["preprocess"]["values"])
    masks = [numbers[decide(plane.numpy(), width=16, height=12)] for plane in outputs["probabilities"]]
    means = outputs["probabilities"].mean((2, 3)).double().tolist()
    answer = pd.DataFrame({"mask": [as_png(mask) for mask in masks], "probabilities": means})
    given, expected = predictor.compare(answer, outputs)
    assert torch.allclose(given, expected, atol=1e-6)
    turned = answer.assign(mask=[as_png(mask[::-1].copy()) for mask in masks])
    given, expected = predictor.compare(turned, outputs)
    assert (given - expected).abs().max() > 1, "the same classes at other places are another answer"
    assert len(rows) == len(files) == 2


def test_colours_are_answered_by_place() -> None:
    assert numbers_of([[0, 0, 0], [0, 255, 0]]).tolist() == [0, 1]


def test_masks_are_saved_beside_each_other(predictor: Predictor, tmp_path: Path) -> None:
    answer = asked(predictor, encoded(halves(20, 16)), encoded(halves(30, 16)))
    answer.insert(0, "file", ["a/x.jpg", "b/x.jpg"])
    saved = without_bytes(answer, tmp_path / "out")
    assert [Path(path).name for path in saved["mask"]] == ["mask-x.png", "mask-x-2.png"]
    assert [opened(Path(path).read_bytes()).shape for path in saved["mask"]] == [(16, 20), (16, 30)]
    assert base64.b64decode(without_bytes(answer)["mask"][1]) == answer["mask"][1]
