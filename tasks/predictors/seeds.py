"""Seeds in, pictures out.

Input: a column `seed` of whole numbers, 0 or above. Output, a row per seed in the same order: `image`, the
bytes of a PNG; over HTTP base64 text. The same seed gives the same picture, beside whatever other rows. A row
that is no seed stops the call, and the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema
from PIL import Image

from .images import as_pixels, as_png
from .questions import cells, gather, read_text

BUNDLE = ("tasks/predictors/images.py", "tasks/predictors/questions.py")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "torch")

LARGEST = 2**63 - 1
"""Seeds are 64-bit integers."""

HALF_LEVEL = 0.5 / 255
"""What rounding to a pixel's 256 values may change."""

CHUNK = 32
"""Pictures that are made at once: bounds memory, however many seeds are asked."""


class Predictor:
    """Of a generator of pictures."""

    SUFFIXES = frozenset({".csv", ".txt"})
    USAGE = 'open("7.png", "wb").write(model.predict(pd.DataFrame({"seed": [7]}))["image"][0])'

    def __init__(self, described: Mapping[str, Any], bundle: Mapping[str, ModuleType]) -> None:
        self.noise: int = described["preprocess"]["noise"]

    def signature(self) -> ModelSignature:
        return ModelSignature(
            inputs=Schema([ColSpec(DataType.long, "seed")]),
            outputs=Schema([ColSpec(DataType.binary, "image")]),
        )

    def receive(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> list[int]:
        """The seeds, or one ValueError that names every row that is none."""
        return gather(cells(rows, "seed"), as_seed)

    def answer(self, program: Any, received: Sequence[int]) -> pd.DataFrame:
        images: list[bytes] = []
        for start in range(0, len(received), CHUNK):
            with torch.no_grad():
                made = program(noise_of(received[start : start + CHUNK], self.noise))
            images += map(as_png, as_pixels(made))
        return pd.DataFrame({"image": pd.Series(images, dtype=object)})

    def example(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
        """Seeds 0, 1, ... in the place of the example's noise, the noise that they become; no files."""
        ((name, noise),) = tensors.items()
        seeds = list(range(len(noise)))
        return pd.DataFrame({"seed": seeds}), {name: noise_of(seeds, self.noise)}, {}

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The answer's pixels, and beside them the program's, moved towards them by half a level at most,
        which is what a PNG rounds away."""
        given = torch.stack([as_picture(each) for each in answer["image"]])
        (made,) = outputs.values()
        return given, torch.clamp(given, made - HALF_LEVEL, made + HALF_LEVEL)

    def rows_of(self, files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
        """One seed a line, below `seed` or nothing. ValueError names the file and the line."""
        seeds: list[int] = []
        origin: list[Path] = []
        for file in files:
            for number, line in enumerate(read_text(file).splitlines(), start=1):
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


def as_seed(value: object, name: str) -> int:
    """ValueError for anything but a whole number from 0 to LARGEST."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        return int(value)
    raise ValueError(f"{name}: a whole number from 0 to {LARGEST} is wanted, not {value!r}")


def noise_of(seeds: Sequence[int], width: int) -> torch.Tensor:
    """Standard normal noise (N, width), each row from its own seed alone."""
    rows = [torch.randn(width, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows) if rows else torch.empty(0, width)


def as_picture(encoded: bytes) -> torch.Tensor:
    """The PNG's pixels (C, H, W) in [0, 1]."""
    pixels = np.asarray(Image.open(io.BytesIO(encoded)), dtype=np.float32) / 255
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())
