"""An exported model for MLflow: copied into every export as `predictor.py`, it serves whatever kind it is.

The code of the kind lies in `code/`, and is imported from there under a name of this model's own: any number
of exported models live in one process, each by its own code, and none needs the project.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE


class ExportedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the description, the code and the program from beside this file."""
        described = json.loads(Path(context.artifacts["signature"]).read_text())
        modules = import_folder(Path(context.artifacts["code"]))
        self.predictor = modules[described["preprocess"]["kind"]].Predictor(described, modules)
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names all that is wrong with them."""
        try:
            received = self.predictor.receive(model_input, params or {})
        except ValueError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        answer: pd.DataFrame = self.predictor.answer(self.program, received)
        return answer


def import_folder(folder: Path) -> dict[str, ModuleType]:
    """The modules of a folder by stem, as those of a package that nobody else has."""
    package = ModuleType(f"exported_{uuid4().hex}")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    importlib.invalidate_caches()  # the folder may be younger than what Python remembers of its path
    return {
        file.stem: importlib.import_module(f"{package.__name__}.{file.stem}")
        for file in sorted(folder.glob("*.py"))
    }


mlflow.models.set_model(ExportedModel())
