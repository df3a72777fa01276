"""Encoded images (JPEG, PNG, ...) in, label and probabilities out.

Input: a column `image` of bytes; over HTTP base64 text. Output, a row per image in the same order: `label`,
its `probability`, and `probabilities` of every class in the order of `labels` in `signature.json`. An image
that cannot be read stops the call, and the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from . import classes, images
from .images import Images, Picture

BUNDLE = (*images.BUNDLE, "tasks/predictors/classes.py")
REQUIREMENTS = images.REQUIREMENTS


class Predictor(Images):
    """Of a classifier of images."""

    COLUMNS = classes.COLUMNS
    CHUNK = 32

    def read(self, encoded: bytes, *, name: str) -> Picture:
        """One row of the network's size, which preprocessing that leaves images as they are may miss; the
        size as it came is asked by no one."""
        pixels = self.prepare.prepare(encoded, name=name, **self.options)
        (height, width), size = pixels.shape[:2], self.options["size"]
        if not height == width == size:
            raise ValueError(f"{name}: {width} x {height} pixels, but the network takes {size} x {size}")
        return Picture(pixels, width, height)

    def answer(self, program: Any, received: Sequence[Picture]) -> pd.DataFrame:
        table = [probabilities.numpy() for _, probabilities in self.run(program, received)]
        return classes.labelled(np.array(table).reshape(-1, len(self.labels)), self.labels)

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return classes.compare(answer, outputs)
