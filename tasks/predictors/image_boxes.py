"""Encoded images (JPEG, PNG, ...) in, boxes of objects out.

Input: a column `image` of bytes; over HTTP base64 text. Output, a row per image in the same order: `boxes`,
each as x_min, y_min, x_max, y_max in pixels of the upright image, their `labels` and `scores`, best first;
empty lists where nothing is found. The program answers for every anchor; the `choice` of `signature.json`
says which answers stay. An image that cannot be read stops the call, and the message names every such row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import pandas as pd
import torch
from mlflow.types.schema import Array, ColSpec, DataType

from . import images
from .images import Images, Picture

BUNDLE = (*images.BUNDLE, "models/vision/selection.py")
REQUIREMENTS = (*images.REQUIREMENTS, "torchvision")


class Predictor(Images):
    """Of a detector."""

    COLUMNS = (
        ColSpec(Array(Array(DataType.double)), "boxes"),
        ColSpec(Array(DataType.string), "labels"),
        ColSpec(Array(DataType.double), "scores"),
    )
    CHUNK = 16

    def __init__(self, described: Mapping[str, Any], bundle: Mapping[str, ModuleType]) -> None:
        super().__init__(described, bundle)
        self.choice: dict[str, Any] = described["preprocess"]["choice"]
        self.selection = bundle["selection"]

    def answer(self, program: Any, received: Sequence[Picture]) -> pd.DataFrame:
        return self.table(
            [
                self.chosen(boxes, scores, width=picture.width, height=picture.height)
                for picture, boxes, scores in self.run(program, received)
            ]
        )

    def chosen(self, boxes: torch.Tensor, scores: torch.Tensor, *, width: int, height: int) -> dict[str, Any]:
        """One row of the answer from boxes (A, 4) in shares of an image and scores (A, C)."""
        kept, found, kinds = self.selection.select(boxes, scores, **self.choice)
        return {
            "boxes": (kept.double() * torch.tensor([width, height] * 2)).tolist(),
            "labels": [self.labels[kind] for kind in kinds.tolist()],
            "scores": found.double().tolist(),
        }

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes in shares, and scores, as answered and as the same choice makes them of the program's
        outputs: one row per box (4 + 1 numbers), all images one after the other."""
        size = self.options["size"]
        expected = [
            self.chosen(boxes, scores, width=size, height=size)
            for boxes, scores in zip(outputs["boxes"], outputs["scores"], strict=True)
        ]
        return _table(answer.to_dict("records"), size), _table(expected, size)


def _table(rows: Sequence[Mapping[Any, Any]], size: int) -> torch.Tensor:
    found = [
        [*(side / size for side in box), score]
        for row in rows
        for box, score in zip(row["boxes"], row["scores"], strict=True)
    ]
    return torch.tensor(found, dtype=torch.float64).reshape(-1, 5)
