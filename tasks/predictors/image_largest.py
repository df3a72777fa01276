"""Encoded images (JPEG, PNG, ...) in, class and box of the largest object out.

Input: a column `image` of bytes; over HTTP base64 text. Output, a row per image in the same order: `label`,
its `probability`, `box` as x_min, y_min, x_max, y_max in pixels of the upright image, and `probabilities` of
every class in the order of `labels` in `signature.json`. An image that cannot be read stops the call, and the
message names every such row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.types.schema import Array, ColSpec, DataType

from . import classes, images
from .images import Images, Picture

BUNDLE = (*images.BUNDLE, "tasks/predictors/classes.py")
REQUIREMENTS = images.REQUIREMENTS

PLACE = 2
"""Of `box` among the columns of a class."""


class Predictor(Images):
    """Of a network that finds the largest object."""

    COLUMNS = (
        *classes.COLUMNS[:PLACE], ColSpec(Array(DataType.double), "box"), *classes.COLUMNS[PLACE:],
    )  # fmt: skip
    CHUNK = 16

    def answer(self, program: Any, received: Sequence[Picture]) -> pd.DataFrame:
        boxes, table = [], []
        for picture, box, probabilities in self.run(program, received):
            scale = torch.tensor([picture.width, picture.height] * 2)
            boxes.append((box.double() * scale).tolist())
            table.append(probabilities.numpy())
        answer = classes.labelled(np.array(table).reshape(-1, len(self.labels)), self.labels)
        answer.insert(PLACE, "box", boxes)
        return answer

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 4 + C) of the answer, its box in shares, and of the program: the example has the network's
        size."""
        boxes = torch.tensor(answer["box"].tolist(), dtype=torch.float64) / self.options["size"]
        given, expected = classes.compare(answer, outputs)
        return (
            torch.cat([boxes, given.double()], dim=1),
            torch.cat([outputs["box"], expected], dim=1).double(),
        )
