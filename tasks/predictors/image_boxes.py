"""Encoded images (JPEG, PNG, ...) in, boxes out: the code of an exported MLflow model that detects objects.

Input: a column `image` of bytes; over HTTP base64 text. Output, a row per image in the same order: `boxes`,
each as x_min, y_min, x_max, y_max in pixels of the upright image, their `labels` and `scores`, best first;
empty lists where nothing is found. The program answers for every anchor; the `choice` of `signature.json`
says which answers stay. An image that cannot be read stops the call, and the message names every such row.
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

BUNDLE = {"prepare": "data/images/prepare.py", "selection": "models/vision/selection.py"}
"""Files of the project that travel with this one, by the name under which they are loaded."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "torch", "torchvision")
"""Distributions that this file and its bundle import."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files that `predict` takes from a folder; a file that is named itself is tried whatever its name."""

USAGE = 'model.predict(pd.DataFrame({"image": [open("photo.jpg", "rb").read()]}))'
"""For the card."""

INPUTS_AND_OUTPUTS = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, "image")]),
    outputs=Schema(
        [
            ColSpec(Array(Array(DataType.double)), "boxes"),
            ColSpec(Array(DataType.string), "labels"),
            ColSpec(Array(DataType.double), "scores"),
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
        self.choice: dict[str, Any] = preprocess["choice"]
        self.prepare = load_module(Path(context.artifacts["prepare"]))
        self.selection = load_module(Path(context.artifacts["selection"]))
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names the rows that are no images."""
        images, sides = self.receive(model_input)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(images), CHUNK):
            boxes, scores = self.program(as_tensor(images[start : start + CHUNK]))
            few = zip(boxes.detach(), scores.detach(), sides[start : start + CHUNK], strict=True)
            rows += [answer(self.selection, *each, self.labels, self.choice) for each in few]
        return pd.DataFrame(rows, columns=["boxes", "labels", "scores"])

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


def answer(
    selection: ModuleType, boxes: torch.Tensor, scores: torch.Tensor, sides: Sides, labels: Sequence[str],
    choice: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """One row of the answer from boxes (A, 4) in shares of an image and scores (A, C)."""
    kept, found, kinds = selection.select(boxes, scores, **choice)
    return {
        "boxes": (kept.double() * torch.tensor([*sides, *sides])).tolist(),
        "labels": [labels[kind] for kind in kinds.tolist()],
        "scores": found.double().tolist(),
    }


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
    """Boxes in shares, and scores, as answered and as the same choice makes them of the program's outputs:
    one row per box (4 + 1 numbers), all images one after the other."""
    preprocess, size = described["preprocess"], described["preprocess"]["size"]
    selection = load_module(_beside("selection"))
    expected = [
        answer(selection, boxes, scores, (size, size), described["labels"], preprocess["choice"])
        for boxes, scores in zip(outputs["boxes"], outputs["scores"], strict=True)
    ]
    given = answered[["boxes", "scores"]].to_dict("records")
    return _table(given, size), _table(expected, size)


def _beside(name: str) -> Path:
    """A bundled file: beside this one in an export, in its own folder within the project."""
    here, source = Path(__file__).parent, Path(BUNDLE[name])
    return here / source.name if (here / source.name).exists() else here.parents[1] / source


def _table(rows: Sequence[Mapping[Any, Any]], size: int) -> torch.Tensor:
    found = [
        [*(side / size for side in box), score]
        for row in rows
        for box, score in zip(row["boxes"], row["scores"], strict=True)
    ]
    return torch.tensor(found, dtype=torch.float64).reshape(-1, 5)


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """What `predict` takes, from files, and the file of each row."""
    return pd.DataFrame({"image": [file.read_bytes() for file in files]}), list(files)


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    data = [[base64.b64encode(value).decode()] for value in rows["image"]]
    return {"dataframe_split": {"columns": ["image"], "data": data}}


mlflow.models.set_model(Predictor())
