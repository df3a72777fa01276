"""How does the exported model take what users have? One file per kind of input; `entry.py` serves them all.

The `kind` of `Program.preprocess` names the file: a module with a class `Predictor` as below, its `BUNDLE`
(files of the project that travel with it) and its `REQUIREMENTS` (distributions that they import). A kind and
what several kinds share may import installed packages only, and files of this folder relatively.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from pandas import DataFrame
    from torch import Tensor


class Predictor(Protocol):
    """Between what users have and one exported program: made by `Predictor(described, bundle)`.

    `described` is `signature.json`; `bundle` holds the modules of `BUNDLE` by stem.
    """

    SUFFIXES: frozenset[str]
    """Files that `predict` takes from a folder; a file that is named itself is tried whatever its name."""
    USAGE: str
    """For the card."""

    def signature(self) -> ModelSignature:
        """Columns of the question and of the answer."""

    def receive(self, rows: DataFrame, params: Mapping[str, Any]) -> Any:
        """What `answer` takes. One ValueError names everything that is wrong with the question."""

    def answer(self, program: Any, received: Any) -> DataFrame:
        """A row per row of the question, in the same order."""

    def example(self, tensors: Mapping[str, Tensor]) -> tuple[DataFrame, dict[str, Tensor], dict[str, bytes]]:
        """A program's example as rows that a user would send, the tensors they become, files to store."""

    def compare(self, answer: DataFrame, outputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The answer to the example, and the program's outputs for it, in one shape."""

    def rows_of(self, files: Sequence[Path]) -> tuple[DataFrame, list[Path]]:
        """What `receive` takes, from files, and the file of each row. ValueError for a file that does not
        fit."""


def find_kind(name: str) -> ModuleType:
    """The module of that kind."""
    return importlib.import_module(f"{__name__}.{name}")


def find_predictor(described: Mapping[str, Any]) -> Predictor:
    """The predictor of a model that is so described, on the project's own modules."""
    kind = find_kind(described["preprocess"]["kind"])
    bundle = {
        Path(file).stem: importlib.import_module(file.removesuffix(".py").replace("/", "."))
        for file in kind.BUNDLE
    }
    predictor: Predictor = kind.Predictor(described, bundle)
    return predictor
