"""What kinds of images share: whatever size comes in is told, and what does not fit a network is named."""

import base64
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.predictors import Predictor, find_predictor
from tasks.predictors.images import as_pixels, as_png, as_tensor
from tests.data.images.written import encoded


def classifier(**preprocess: Any) -> Predictor:
    options = {"kind": "encoded_images", "size": 8, "channels": 3, **preprocess}
    return find_predictor({"labels": ["dark", "bright"], "preprocess": options})


def picture(width: int, height: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_an_image_that_is_left_as_it_is_must_have_the_network_s_size() -> None:
    rows = pd.DataFrame({"image": [encoded(picture(8, 8)), encoded(picture(9, 8)), b"text"]})
    with pytest.raises(ValueError, match=r"row 1 .*: 9 x 8 pixels, but the network takes 8 x 8; row 2 "):
        classifier(resize="none").receive(rows, {})


def test_the_size_is_that_of_the_upright_image() -> None:
    options = {"kind": "image_largest", "size": 8, "channels": 3, "resize": "squish"}
    predictor = find_predictor({"labels": ["thing"], "preprocess": options})
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = base64.b64encode(encoded(picture(60, 40), "JPEG", exif=exif)).decode()
    plain, upright = predictor.receive(pd.DataFrame({"image": [encoded(picture(60, 40)), turned]}), {})
    assert (plain.width, plain.height) == (60, 40)
    assert (upright.width, upright.height) == (40, 60)
    assert plain.pixels.shape == upright.pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_example_becomes_files_and_comes_back_exactly(channels: int) -> None:
    predictor = classifier(channels=channels)
    images = torch.randint(0, 256, (2, channels, 8, 8)).float() / 255
    rows, received, files = predictor.example({"images": images})
    assert list(files.values()) == rows["image"].tolist()
    again = as_tensor([each.pixels for each in predictor.receive(rows, {})])
    assert torch.equal(again, received["images"])
    assert torch.equal(again, images)


def test_pixels_survive_a_png() -> None:
    pixels = picture(5, 4, 1)
    assert (as_pixels(as_tensor([pixels]))[0] == pixels).all()
    assert as_png(pixels) == as_png(pixels[..., 0])
