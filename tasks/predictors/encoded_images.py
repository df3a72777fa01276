"""Encoded images (JPEG, PNG, ...) in, label and probabilities out: the code of an exported MLflow model.

Input: a column `image` of bytes; over HTTP base64 text. Output, a row per image in the same order: `label`,
its `probability`, and `probabilities` of every class in the order of `labels` in `signature.json`. An image
that cannot be read stops the call, and the message names every such row: no row is ever answered by guess.
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
            ColSpec(Array(DataType.double), "probabilities"),
        ]
    ),
)

Pixels = npt.NDArray[np.uint8]

CHUNK = 32
"""Images that go through the network at once: bounds memory, however many rows are asked."""


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the program, the signature and the preprocessing from beside this file."""
        described = json.loads(Path(context.artifacts["signature"]).read_text())
        self.labels: list[str] = described["labels"]
        self.options = {key: value for key, value in described["preprocess"].items() if key != "kind"}
        self.prepare = load_module(Path(context.artifacts["prepare"]))
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names the rows that are no images."""
        images = self.receive(model_input)
        answers = [
            self.program(as_tensor(images[start : start + CHUNK])).detach().numpy()
            for start in range(0, len(images), CHUNK)
        ]
        table = np.concatenate(answers) if answers else np.empty((0, len(self.labels)), np.float32)
        return pd.DataFrame(
            {
                "label": [self.labels[index] for index in table.argmax(axis=1)],
                "probability": table.max(axis=1).astype(float),
                "probabilities": table.astype(float).tolist(),
            }
        )

    def receive(self, model_input: pd.DataFrame) -> list[Pixels]:
        """uint8 (H, W, C) of every row, all of one size, or one error that names all faulty rows."""
        images, faults = [], []
        for row, value in enumerate(model_input["image"]):
            name = f"row {row} of column `image`"
            try:
                image = self.prepare.prepare(as_bytes(value, name=name), name=name, **self.options)
            except ValueError as error:
                faults.append(str(error))
                continue
            (height, width), size = image.shape[:2], self.options["size"]
            if height == width == size:
                images.append(image)
            else:  # only where the preprocessing leaves images as they are
                faults.append(f"{name}: {width} x {height} pixels, but the network takes {size} x {size}")
        if faults:
            raise MlflowException("; ".join(faults), error_code=INVALID_PARAMETER_VALUE)
        return images


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
    """uint8 (H, W, C) each -> float32 (N, C, H, W) in [0, 1], as training made them."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float().div(255)


def signature_of(described: Mapping[str, Any]) -> ModelSignature:
    """Columns of the question and of the answer."""
    return INPUTS_AND_OUTPUTS


def example_of(
    example: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
    """(N, C, H, W) in [0, 1] -> rows as a user would send them, the tensors they become, files to store."""
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
    answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer's probabilities beside the program's."""
    return torch.tensor(answer["probabilities"].tolist()), outputs["probabilities"]


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """What `predict` takes, from files, and the file of each row."""
    return pd.DataFrame({"image": [file.read_bytes() for file in files]}), list(files)


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    data = [[base64.b64encode(value).decode()] for value in rows["image"]]
    return {"dataframe_split": {"columns": ["image"], "data": data}}


mlflow.models.set_model(Predictor())
