"""Encoded images (JPEG, PNG, ...) in, class and box of the largest object out: code of an MLflow model.

Input: a column `image` of bytes; over HTTP base64 text. Output, a row per image in the same order: `label`,
its `probability`, `box` as x_min, y_min, x_max, y_max in pixels of the upright image, and `probabilities` of
every class in the order of `labels` in `signature.json`. An image that cannot be read stops the call, and the
message names every such row.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types.schema import Array, ColSpec, DataType, Schema
from PIL import Image

BUNDLE = {"prepare": "data/images/prepare.py"}
"""Files of the project that travel with this one, by the name under which they are loaded."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "torch")
"""Distributions that this file and its bundle import."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files that `predict` takes from a folder; a file that is named itself is tried whatever its name."""

USAGE = 'model.predict(pd.DataFrame({"image": [open("photo.jpg", "rb").read()]}))'
"""For the card."""

INPUTS_AND_OUTPUTS = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, "image")]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(Array(DataType.double), "box"),
            ColSpec(Array(DataType.double), "probabilities"),
        ]
    ),
)

Pixels = npt.NDArray[np.uint8]
Sides = tuple[int, int]
"""Width and height of an upright image in pixels."""

CHUNK = 16
"""Images that go through the network at once: bounds memory, however many rows are asked."""


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the program, the signature and the preprocessing from beside this file."""
        described = json.loads(Path(context.artifacts["signature"]).read_text())
        self.labels: list[str] = described["labels"]
        preprocess = described["preprocess"]
        self.options = {key: preprocess[key] for key in ("size", "channels", "resize")}
        self.prepare = load_module(Path(context.artifacts["prepare"]))
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names the rows that are no images."""
        images, sides = self.receive(model_input)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(images), CHUNK):
            boxes, probabilities = self.program(as_tensor(images[start : start + CHUNK]))
            few = zip(boxes.detach(), probabilities.detach(), sides[start : start + CHUNK], strict=True)
            for box, given, (width, height) in few:
                scale = torch.tensor([width, height, width, height])
                rows.append(
                    {
                        "label": self.labels[int(given.argmax())],
                        "probability": float(given.max()),
                        "box": (box.double() * scale).tolist(),
                        "probabilities": given.double().tolist(),
                    }
                )
        return pd.DataFrame(rows, columns=["label", "probability", "box", "probabilities"])

    def receive(self, model_input: pd.DataFrame) -> tuple[list[Pixels], list[Sides]]:
        """uint8 (S, S, C) of every row and its upright size, or one error that names all faulty rows."""
        images, sides, faults = [], [], []
        for row, value in enumerate(model_input["image"]):
            name = f"row {row} of column `image`"
            try:
                encoded = as_bytes(value, name=name)
                images.append(self.prepare.prepare(encoded, name=name, **self.options))
                sides.append(self.prepare.decode(encoded, name=name)[1])
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise MlflowException("; ".join(faults), error_code=INVALID_PARAMETER_VALUE)
        return images, sides


def load_module(path: Path) -> ModuleType:
    """A file as a module outside of `sys.modules`, so that two models in one process keep their own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_bytes(value: object, *, name: str) -> bytes:
    """Encoded bytes as they come, or of base64 text. ValueError for anything else."""
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{name}: text must be base64 ({error})") from None
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ValueError(f"{name}: encoded bytes are wanted, not {type(value).__name__}")
    return bytes(value)


def as_tensor(images: Sequence[Pixels]) -> torch.Tensor:
    """uint8 (S, S, C) each -> float32 (N, C, S, S) in [0, 1], as training made them."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float().div(255)


def signature_of(described: Mapping[str, Any]) -> ModelSignature:
    """Columns of the question and of the answer."""
    return INPUTS_AND_OUTPUTS


def example_of(
    example: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
    """(N, C, S, S) in [0, 1] -> rows as a user would send them, the tensors they become, files to store."""
    ((name, images),) = example.items()
    pixels = images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    encoded = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    files = {f"{row}.png": data for row, data in enumerate(encoded)}
    return pd.DataFrame({"image": encoded}), {name: as_tensor(list(pixels))}, files


def compare(
    answered: pd.DataFrame, outputs: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 4 + C) of the answer, its box in shares, and of the program: the example has the network's size."""
    size = described["preprocess"]["size"]
    boxes = torch.tensor(answered["box"].tolist(), dtype=torch.float64) / size
    given = torch.cat([boxes, torch.tensor(answered["probabilities"].tolist(), dtype=torch.float64)], 1)
    return given, torch.cat([outputs["box"], outputs["probabilities"]], 1).double()


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """What `predict` takes, from files, and the file of each row."""
    return pd.DataFrame({"image": [file.read_bytes() for file in files]}), list(files)


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    data = [[base64.b64encode(value).decode()] for value in rows["image"]]
    return {"dataframe_split": {"columns": ["image"], "data": data}}


mlflow.models.set_model(Predictor())
