"""Encoded images in, a class for every pixel out.

Input: a column `image` of bytes; over HTTP base64 text. Output, a row per image in the same order: `mask`, a
PNG of the image's own size whose pixels are the class's published number (its place in `labels` where the
published masks are in colour); `shares`, for each class in the order of `labels` in `signature.json` its part
of those pixels; `probabilities`, the mean over the picture of each class's probability; `width` and `height`.
An image that cannot be read stops the call, and the message names every such row: no row is ever answered by
guess.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.types.schema import Array, ColSpec, DataType
from PIL import Image

from . import images
from .images import Images, Picture, Pixels, as_png

BUNDLE = images.BUNDLE
REQUIREMENTS = images.REQUIREMENTS

CLEAR = 1e-3
"""Lead of the most probable class from which two forms of a program must agree on it."""

Floats = npt.NDArray[np.float32]


class Predictor(Images):
    """Of a segmentation."""

    USAGE = f"answer = {Images.USAGE}\n" + (
        'open("mask.png", "wb").write(answer["mask"][0])  # a class for every pixel, at the size of the photo'
    )
    COLUMNS = (
        ColSpec(DataType.binary, "mask"),
        ColSpec(Array(DataType.double), "shares"),
        ColSpec(Array(DataType.double), "probabilities"),
        ColSpec(DataType.long, "width"),
        ColSpec(DataType.long, "height"),
    )
    CHUNK = 8

    def __init__(self, described: Mapping[str, Any], bundle: Mapping[str, ModuleType]) -> None:
        super().__init__(described, bundle)
        self.options["resize"] = "squish"  # no part of a picture may be left without a class
        self.numbers = numbers_of(described["preprocess"]["values"])

    def answer(self, program: Any, received: Sequence[Picture]) -> pd.DataFrame:
        rows = []
        for picture, output in self.run(program, received):
            probabilities = output.numpy()
            places = decide(probabilities, width=picture.width, height=picture.height)
            counts = np.bincount(places.ravel(), minlength=len(self.numbers))
            rows.append(
                {
                    "mask": as_png(self.numbers[places]),
                    "shares": (counts / places.size).tolist(),
                    "probabilities": probabilities.mean(axis=(1, 2)).astype(float).tolist(),
                    "width": picture.width,
                    "height": picture.height,
                }
            )
        return self.table(rows)

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The answer's mean probabilities and its masks beside the program's: a pixel whose two best classes
        are as good as equal is compared with itself."""
        probabilities = outputs["probabilities"]
        numbers = torch.from_numpy(self.numbers).float()
        masks = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in answer["mask"]])
        given = torch.from_numpy(masks).float()
        best = probabilities.topk(2, dim=1)
        clear = best.values[:, 0] - best.values[:, 1] > CLEAR
        expected = torch.where(clear, numbers[best.indices[:, 0]], given)
        means = torch.tensor(answer["probabilities"].tolist())
        return (
            torch.cat([means.flatten(), given.flatten()]),
            torch.cat([probabilities.mean(dim=(2, 3)).flatten(), expected.flatten()]),
        )


def decide(probabilities: Floats, *, width: int, height: int) -> Pixels:
    """(height, width) uint8: the most probable class of every pixel of a picture of another size.

    Probabilities (C, H, W) are resized one class at a time, so that memory is that of three planes.
    """
    best = np.full((height, width), -1, np.float32)
    places = np.zeros((height, width), np.uint8)
    for place, plane in enumerate(probabilities):
        resized = plane
        if plane.shape != (height, width):
            resized = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        better = resized > best
        places[better] = place
        best[better] = resized[better]
    return places


def numbers_of(values: Sequence[Any]) -> Pixels:
    """What stands in a mask for each class: its published number, or its place where that is no byte."""
    plain = all(isinstance(value, int) and 0 <= value <= 255 for value in values)
    return np.array(values if plain else range(len(values)), np.uint8)
