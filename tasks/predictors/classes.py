"""A class for every row: the columns and the answer that classifiers of anything share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import pandas as pd
import torch
from mlflow.types.schema import Array, ColSpec, DataType

COLUMNS = (
    ColSpec(DataType.string, "label"),
    ColSpec(DataType.double, "probability"),
    ColSpec(Array(DataType.double), "probabilities"),
)


def labelled(probabilities: npt.NDArray[Any], labels: Sequence[str]) -> pd.DataFrame:
    """(N, C) -> the most probable label of each row, its probability, and those of all labels in order."""
    return pd.DataFrame(
        {
            "label": [labels[place] for place in probabilities.argmax(axis=1)],
            "probability": probabilities.max(axis=1).astype(float),
            "probabilities": probabilities.astype(float).tolist(),
        }
    )


def compare(answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer's probabilities beside the program's."""
    return torch.tensor(answer["probabilities"].tolist()), outputs["probabilities"]
