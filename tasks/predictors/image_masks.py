"""Encoded images in, a class for every pixel out: the code of an exported MLflow model.

Input: a column `image` of bytes; over HTTP base64 text. Output, a row per image in the same order: `mask`, a
PNG of the image's own size whose pixels are the class's published number (its place in `labels` where the
published masks are in colour); `shares`, for each class in the order of `labels` in `signature.json` its part
of those pixels; `probabilities`, the mean over the picture of each class's probability; `width` and `height`.
An image that cannot be read stops the call, and the message names every such row: no row is ever answered by
guess.
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

USAGE = 'answer = model.predict(pd.DataFrame({"image": [open("photo.jpg", "rb").read()]}))\n' + (
    'open("mask.png", "wb").write(answer["mask"][0])  # a class for every pixel, at the size of the photo'
)
"""For the card."""

INPUTS_AND_OUTPUTS = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, "image")]),
    outputs=Schema(
        [
            ColSpec(DataType.binary, "mask"),
            ColSpec(Array(DataType.double), "shares"),
            ColSpec(Array(DataType.double), "probabilities"),
            ColSpec(DataType.long, "width"),
            ColSpec(DataType.long, "height"),
        ]
    ),
)

CHUNK = 8
"""Images that go through the network at once: bounds memory, however many rows are asked."""

CLEAR = 1e-3
"""Lead of the most probable class from which two forms of a program must agree on it."""

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the program, the signature and the preprocessing from beside this file."""
        described = json.loads(Path(context.artifacts["signature"]).read_text())
        self.numbers = numbers_of(described)
        self.size = tuple(described["preprocess"]["size"])
        self.prepare = load_module(Path(context.artifacts["prepare"]))
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names the rows that are no images."""
        images, sizes = self.receive(model_input)
        rows = []
        for start in range(0, len(images), CHUNK):
            answers = self.program(as_tensor(images[start : start + CHUNK])).detach().numpy()
            for probabilities, (width, height) in zip(answers, sizes[start : start + CHUNK], strict=True):
                places = decide(probabilities, width=width, height=height)
                counts = np.bincount(places.ravel(), minlength=len(self.numbers))
                rows.append(
                    {
                        "mask": as_png(self.numbers[places]),
                        "shares": (counts / places.size).tolist(),
                        "probabilities": probabilities.mean(axis=(1, 2)).astype(float).tolist(),
                        "width": width,
                        "height": height,
                    }
                )
        return pd.DataFrame(rows, columns=["mask", "shares", "probabilities", "width", "height"])

    def receive(self, model_input: pd.DataFrame) -> tuple[list[Bytes], list[tuple[int, int]]]:
        """uint8 (H, W, 3) of every row and its own upright (width, height), or one error naming all faulty
        rows."""
        images, sizes, faults = [], [], []
        for row, value in enumerate(model_input["image"]):
            name = f"row {row} of column `image`"
            try:
                encoded = as_bytes(value, name=name)
                images.append(self.prepare.prepare(encoded, size=self.size, resize="squish", name=name))
                sizes.append(self.prepare.decode(encoded, side=1, name=name)[1])
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise MlflowException("; ".join(faults), error_code=INVALID_PARAMETER_VALUE)
        return images, sizes


def decide(probabilities: Floats, *, width: int, height: int) -> Bytes:
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


def numbers_of(described: Mapping[str, Any]) -> Bytes:
    """What stands in a mask for each class: its published number, or its place where that is no byte."""
    values = described["preprocess"]["values"]
    plain = all(isinstance(value, int) and 0 <= value <= 255 for value in values)
    return np.array(values if plain else range(len(values)), np.uint8)


def as_png(numbers: Bytes) -> bytes:
    """A grey PNG of these pixels."""
    buffer = io.BytesIO()
    Image.fromarray(numbers).save(buffer, "PNG")
    return buffer.getvalue()


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


def as_tensor(images: Sequence[Bytes]) -> torch.Tensor:
    """uint8 (H, W, C) each -> float32 (N, C, H, W) in [0, 1], as training made them."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float().div(255)


def signature_of(described: Mapping[str, Any]) -> ModelSignature:
    """Columns of the question and of the answer."""
    return INPUTS_AND_OUTPUTS


def example_of(
    example: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
    """(N, 3, H, W) in [0, 1] -> rows as a user would send them, the tensors they become, files to store."""
    ((name, images),) = example.items()
    pixels = images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    encoded = [as_png(image) for image in pixels]
    files = {f"{row}.png": data for row, data in enumerate(encoded)}
    return pd.DataFrame({"image": encoded}), {name: as_tensor(list(pixels))}, files


def compare(
    answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer's mean probabilities and its masks beside the program's: a pixel whose two best classes are
    as good as equal is compared with itself."""
    probabilities = outputs["probabilities"]
    numbers = torch.from_numpy(numbers_of(described)).float()
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


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """What `predict` takes, from files, and the file of each row."""
    return pd.DataFrame({"image": [file.read_bytes() for file in files]}), list(files)


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    data = [[base64.b64encode(value).decode()] for value in rows["image"]]
    return {"dataframe_split": {"columns": ["image"], "data": data}}


mlflow.models.set_model(Predictor())
