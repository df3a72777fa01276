"""Rows of a table in, label and probabilities or a quantity out: the code of an exported MLflow model.

Input: the columns of the table as it was published (a date instead of its parts), text or numbers; other
columns are passed over. A missing value may be None, NaN or a cell that the table takes for missing; a name
that training never saw counts as missing. Output, a row per row in the same order: `label`, its
`probability`, and `probabilities` of every class in the order of `labels` in `signature.json`; or
`prediction`. A missing column or a cell that is no number or date stops the call, and the message names every
such column or cell.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Schema

BUNDLE = {"prepare": "data/tables/prepare.py"}
"""Files of the project that travel with this one, by the name under which they are loaded."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")
"""Distributions that this file and its bundle import."""

SUFFIXES = frozenset({".csv", ".tsv"})
"""Files that `predict` takes from a folder; a file that is named itself is tried whatever its name."""

USAGE = 'model.predict(pd.read_csv("rows.csv", dtype=str))'
"""For the card."""

CHUNK = 2**16
"""Rows that go through the network at once: bounds memory, however many are asked."""


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the program, the signature and the preprocessing from beside this file."""
        described = json.loads(Path(context.artifacts["signature"]).read_text())
        self.labels: list[str] = described["labels"]
        self.question: dict[str, Any] = described["preprocess"]
        self.prepare = load_module(Path(context.artifacts["prepare"]))
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names columns and cells that are
        wrong."""
        tensors = list(receive(model_input, self.question, self.prepare).values())
        with torch.no_grad():
            answers = [
                self.program(*(each[start : start + CHUNK] for each in tensors)).numpy()
                for start in range(0, len(model_input), CHUNK)
            ]
        if not self.labels:
            values = np.concatenate(answers).astype(float) if answers else np.empty(0)
            return pd.DataFrame({"prediction": np.exp(values) if self.question["log"] else values})
        table = np.concatenate(answers) if answers else np.empty((0, len(self.labels)), np.float32)
        return pd.DataFrame(
            {
                "label": [self.labels[index] for index in table.argmax(axis=1)],
                "probability": table.max(axis=1).astype(float),
                "probabilities": table.astype(float).tolist(),
            }
        )


def receive(rows: pd.DataFrame, question: Mapping[str, Any], prepare: ModuleType) -> dict[str, torch.Tensor]:
    """The program's inputs by name, or one error that names all that is wrong."""
    try:
        codes, numbers, faults = prepare.encode(rows, question)
    except ValueError as error:
        raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
    if faults:
        raise MlflowException("; ".join(faults), error_code=INVALID_PARAMETER_VALUE)
    inputs = {"codes": torch.from_numpy(codes), "numbers": torch.from_numpy(numbers)}
    return {name: tensor for name, tensor in inputs.items() if tensor.shape[1]}


def load_module(path: Path) -> ModuleType:
    """A file as a module outside of `sys.modules`, so that two models in one process keep their own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def signature_of(described: Mapping[str, Any]) -> ModelSignature:
    """Columns of the question, of any type (a whole number is as good as one with a fraction), and of the
    answer."""
    wanted = load_prepare().wanted_columns(described["preprocess"])
    answer: list[Any] = [ColSpec(DataType.double, "prediction")]
    if described["labels"]:
        answer = [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(Array(DataType.double), "probabilities"),
        ]
    asked: list[Any] = [ColSpec(AnyType(), name, required=False) for name in wanted]  # type: ignore[no-untyped-call]
    return ModelSignature(inputs=Schema(asked), outputs=Schema(answer))


def load_prepare() -> ModuleType:
    """The bundled file, in the project and beside this one in an export."""
    beside = Path(__file__).parent / Path(BUNDLE["prepare"]).name
    return load_module(beside if beside.is_file() else Path(__file__).parents[2] / BUNDLE["prepare"])


def example_of(
    example: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
    """Codes and numbers -> rows as a user would send them, the tensors they become, and the same rows as
    CSV."""
    question, prepare = described["preprocess"], load_prepare()
    columns: dict[str, list[Any]] = {}
    for place, each in enumerate(question["categories"]):
        words = [None, *each["vocabulary"]]
        columns[each["name"]] = [words[int(code)] for code in example["codes"][:, place]]
    for place, each in enumerate(question["numbers"]):
        values = example["numbers"][:, place].double() * each["std"] + each["mean"]
        columns[each["name"]] = [float(f"{value:.4g}") for value in values]
    for name, first in question["dates"].items():
        columns[name] = [first, None]
    wanted = prepare.wanted_columns(question)
    rows = pd.DataFrame({name: pd.Series(columns[name], dtype=object) for name in wanted})
    return rows, receive(rows, question, prepare), {"rows.csv": rows.to_csv(index=False).encode()}


def compare(
    answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer's probabilities, or its quantities on the program's scale, beside the program's."""
    if described["labels"]:
        return torch.tensor(answer["probabilities"].tolist()), outputs["probabilities"]
    given = torch.tensor(answer["prediction"].tolist())
    return (given.log() if described["preprocess"]["log"] else given), outputs["prediction"]


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """What `predict` takes, from files, and the file of each row. ValueError: no table, or other columns
    each."""
    tables = [read_rows(file) for file in files]
    if any(set(table.columns) != set(tables[0].columns) for table in tables):
        raise ValueError("the files have different columns; ask about one at a time")
    origin = [file for file, table in zip(files, tables, strict=True) for _ in range(len(table))]
    return pd.concat(tables, ignore_index=True), origin


def read_rows(file: Path) -> pd.DataFrame:
    """A table with a header as text. ValueError names the first row of another length."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    head = text.partition("\n")[0]
    rows = list(
        csv.reader(
            io.StringIO(text), delimiter=max(",;\t|", key=lambda each: (head.count(each), each == ","))
        )
    )
    rows = [row for row in rows if row]
    if not rows:
        raise ValueError("the file is empty")
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, the header has {len(header)}")
    return pd.DataFrame(rows[1:], columns=pd.Index(header), dtype=object)


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    data = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    return {"dataframe_split": {"columns": list(rows.columns), "data": data}}


mlflow.models.set_model(Predictor())
