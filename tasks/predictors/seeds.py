"""Seeds in, pictures out: the code of an exported MLflow model that makes pictures from noise.

Input: a column `seed` of whole numbers, 0 or above. Output, a row per seed in the same order: `image`, the
bytes of a PNG; over HTTP base64 text. The same seed gives the same picture, beside whatever other rows. A row
that is no seed stops the call, and the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types.schema import ColSpec, DataType, Schema
from PIL import Image

BUNDLE: dict[str, str] = {}
"""Files of the project that travel with this one: none."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "torch")
"""Distributions that this file imports."""

SUFFIXES = frozenset({".csv", ".txt"})
"""Files that `predict` takes from a folder: one seed a line, below `seed` or nothing."""

USAGE = 'open("7.png", "wb").write(model.predict(pd.DataFrame({"seed": [7]}))["image"][0])'
"""For the card."""

LARGEST = 2**63 - 1
"""Seeds are 64-bit integers."""

HALF_LEVEL = 0.5 / 255
"""What rounding to a pixel's 256 values may change."""

CHUNK = 32
"""Pictures that are made at once: bounds memory, however many seeds are asked."""


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the program and the signature from beside this file."""
        described = json.loads(Path(context.artifacts["signature"]).read_text())
        self.noise: int = described["preprocess"]["noise"]
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names the rows that are no seeds."""
        seeds = checked(list(model_input["seed"]))
        images: list[bytes] = []
        for start in range(0, len(seeds), CHUNK):
            made = self.program(noise_of(seeds[start : start + CHUNK], self.noise)).detach()
            images += [as_png(picture) for picture in made]
        return pd.DataFrame({"image": pd.Series(images, dtype=object)})


def checked(values: Sequence[object]) -> list[int]:
    """The seeds, or one MlflowException that names all faulty rows."""
    faults = [
        f"row {row} of column `seed`: a whole number from 0 to {LARGEST} is wanted, not {value!r}"
        for row, value in enumerate(values)
        if isinstance(value, bool | np.bool_)
        or not isinstance(value, int | np.integer)
        or not 0 <= value <= LARGEST
    ]
    if faults:
        raise MlflowException("; ".join(faults), error_code=INVALID_PARAMETER_VALUE)
    return [int(value) for value in values]  # type: ignore[call-overload]


def noise_of(seeds: Sequence[int], width: int) -> torch.Tensor:
    """Standard normal noise (N, width), each row from its own seed alone."""
    rows = [torch.randn(width, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows) if rows else torch.empty(0, width)


def as_png(picture: torch.Tensor) -> bytes:
    """(C, H, W) in [0, 1] as the bytes of a PNG, grey or RGB."""
    pixels = picture.mul(255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def as_picture(encoded: bytes) -> torch.Tensor:
    """The PNG's pixels (C, H, W) in [0, 1]."""
    pixels = np.asarray(Image.open(io.BytesIO(encoded)), dtype=np.float32) / 255
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def signature_of(described: Mapping[str, Any]) -> ModelSignature:
    """Columns of the question and of the answer."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.long, "seed")]),
        outputs=Schema([ColSpec(DataType.binary, "image")]),
    )


def example_of(
    example: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
    """Seeds 0, 1, ... in the place of the example's noise, the noise that they become; no files."""
    ((name, noise),) = example.items()
    seeds = list(range(len(noise)))
    return pd.DataFrame({"seed": seeds}), {name: noise_of(seeds, described["preprocess"]["noise"])}, {}


def compare(
    answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer's pixels, and beside them the program's, moved towards them by half a level at most, which
    is what a PNG rounds away."""
    given = torch.stack([as_picture(each) for each in answer["image"]])
    (made,) = outputs.values()
    return given, torch.clamp(given, made - HALF_LEVEL, made + HALF_LEVEL)


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """The seeds of text files, one a line, and the file of each. ValueError names the file and the line."""
    seeds: list[int] = []
    origin: list[Path] = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
            text = line.strip()
            if not text or (number == 1 and text == "seed"):
                continue
            if not text.isascii() or not text.isdigit() or int(text) > LARGEST:
                raise ValueError(
                    f"{file}, line {number}: a whole number is wanted as seed, not {text[:40]!r}"
                )
            seeds.append(int(text))
            origin.append(file)
    return pd.DataFrame({"seed": pd.Series(seeds, dtype="int64")}), origin


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    return {"dataframe_split": {"columns": ["seed"], "data": [[int(value)] for value in rows["seed"]]}}


mlflow.models.set_model(Predictor())
