"""What the kinds that take images share: bytes or base64 in, pixels as in training, and the way back."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema
from PIL import Image

# relative, because that leads to the same file in the project and in the `code/` of an export
from .questions import cells, gather

BUNDLE = ("data/images/prepare.py", "tasks/predictors/images.py", "tasks/predictors/questions.py")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "torch")

Pixels = npt.NDArray[np.uint8]


class Picture(NamedTuple):
    """A row of the question, ready for the network."""

    pixels: Pixels
    """(H, W, C) as the network takes them."""
    width: int
    """Of the upright image as it came, like `height`."""
    height: int


class Images:
    """The shared half of a `Predictor`: a column `image` of encoded bytes; over HTTP base64 text."""

    SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
    USAGE = 'model.predict(pd.DataFrame({"image": [open("photo.jpg", "rb").read()]}))'

    COLUMNS: ClassVar[Sequence[ColSpec]]
    """Of the answer."""
    CHUNK: ClassVar[int]
    """Images that go through the network at once: bounds memory, however many rows are asked."""

    def __init__(self, described: Mapping[str, Any], bundle: Mapping[str, ModuleType]) -> None:
        preprocess = described["preprocess"]
        self.labels: list[str] = described["labels"]
        self.prepare = bundle["prepare"]
        self.options = {key: preprocess[key] for key in ("size", "channels", "resize") if key in preprocess}

    def signature(self) -> ModelSignature:
        return ModelSignature(
            inputs=Schema([ColSpec(DataType.binary, "image")]), outputs=Schema([*self.COLUMNS])
        )

    def receive(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> list[Picture]:
        """All rows as pictures, or one ValueError that names every row that is no image."""
        return gather(
            cells(rows, "image"), lambda value, name: self.read(as_bytes(value, name=name), name=name)
        )

    def read(self, encoded: bytes, *, name: str) -> Picture:
        """One row. ValueError where it cannot be read."""
        pixels = self.prepare.prepare(encoded, name=name, **self.options)
        width, height = self.prepare.decode(encoded, side=1, name=name)[1]
        return Picture(pixels, width, height)

    def run(self, program: Any, pictures: Sequence[Picture]) -> Iterator[tuple[Any, ...]]:
        """Each picture with the program's outputs for it."""
        for start in range(0, len(pictures), self.CHUNK):
            few = pictures[start : start + self.CHUNK]
            with torch.no_grad():
                outputs = program(as_tensor([picture.pixels for picture in few]))
            yield from zip(few, *((outputs,) if isinstance(outputs, torch.Tensor) else outputs), strict=True)

    def table(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """The answer from its rows; all columns are there for none."""
        return pd.DataFrame(rows, columns=[column.name for column in self.COLUMNS])

    def example(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
        """(N, C, H, W) in [0, 1] -> as PNG."""
        ((name, images),) = tensors.items()
        pixels = as_pixels(images)
        encoded = [as_png(image) for image in pixels]
        files = {f"{row}.png": data for row, data in enumerate(encoded)}
        return pd.DataFrame({"image": encoded}), {name: as_tensor(pixels)}, files

    def rows_of(self, files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
        return pd.DataFrame({"image": [file.read_bytes() for file in files]}), list(files)


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


def as_pixels(images: torch.Tensor) -> list[Pixels]:
    """(N, C, H, W) in [0, 1] -> uint8 (H, W, C) each."""
    return list(images.mul(255).round().byte().permute(0, 2, 3, 1).numpy())


def as_png(pixels: Pixels) -> bytes:
    """uint8 (H, W), or (H, W, C) with one channel or three, as a PNG, grey or RGB."""
    buffer = io.BytesIO()
    grey = pixels.ndim == 3 and pixels.shape[-1] == 1
    Image.fromarray(pixels.squeeze(-1) if grey else pixels).save(buffer, "PNG")
    return buffer.getvalue()
