"""Rows of a table in, label and probabilities or a quantity out.

Input: the columns of the table as it was published (a date instead of its parts), text or numbers; other
columns are passed over. A missing value may be None, NaN or a cell that the table takes for missing; a name
that training never saw counts as missing. Output, a row per row in the same order: `label`, its
`probability`, and `probabilities` of every class in the order of `labels` in `signature.json`; or
`prediction`. A missing column or a cell that is no number or date stops the call, and the message names every
such column or cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

from . import classes

BUNDLE = ("data/tables/prepare.py", "tasks/predictors/classes.py")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")

CHUNK = 2**16
"""Rows that go through the network at once: bounds memory, however many are asked."""


class Predictor:
    """Of a network on tables."""

    SUFFIXES = frozenset({".csv", ".tsv"})
    USAGE = 'model.predict(pd.read_csv("rows.csv", dtype=str))'

    def __init__(self, described: Mapping[str, Any], bundle: Mapping[str, ModuleType]) -> None:
        self.labels: list[str] = described["labels"]
        self.question: Mapping[str, Any] = described["preprocess"]
        self.prepare = bundle["prepare"]

    def signature(self) -> ModelSignature:
        """Columns of the question are of any type: a whole number is as good as one with a fraction."""
        wanted = self.prepare.wanted_columns(self.question)
        asked: list[Any] = [ColSpec(AnyType(), name, required=False) for name in wanted]  # type: ignore[no-untyped-call]
        answer = classes.COLUMNS if self.labels else (ColSpec(DataType.double, "prediction"),)
        return ModelSignature(inputs=Schema(asked), outputs=Schema([*answer]))

    def receive(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The program's inputs by name, or one ValueError that names columns and cells that are wrong."""
        codes, numbers, faults = self.prepare.encode(rows, self.question)
        if faults:
            raise ValueError("; ".join(faults))
        inputs = {"codes": torch.from_numpy(codes), "numbers": torch.from_numpy(numbers)}
        return {name: tensor for name, tensor in inputs.items() if tensor.shape[1]}

    def answer(self, program: Any, received: Mapping[str, torch.Tensor]) -> pd.DataFrame:
        tensors = [*received.values()]
        with torch.no_grad():
            answers = [
                program(*(each[start : start + CHUNK] for each in tensors)).numpy()
                for start in range(0, len(tensors[0]), CHUNK)
            ]
        if self.labels:
            table = np.concatenate(answers) if answers else np.empty((0, len(self.labels)), np.float32)
            return classes.labelled(table, self.labels)
        values = np.concatenate(answers).astype(float) if answers else np.empty(0)
        return pd.DataFrame({"prediction": np.exp(values) if self.question["log"] else values})

    def example(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
        """Codes and numbers -> cells, and the same rows as CSV."""
        columns: dict[str, list[Any]] = {}
        for place, each in enumerate(self.question["categories"]):
            words = [None, *each["vocabulary"]]
            columns[each["name"]] = [words[int(code)] for code in tensors["codes"][:, place]]
        for place, each in enumerate(self.question["numbers"]):
            values = tensors["numbers"][:, place].double() * each["std"] + each["mean"]
            columns[each["name"]] = [float(f"{value:.4g}") for value in values]
        for name, first in self.question["dates"].items():
            columns[name] = [first, None]
        wanted = self.prepare.wanted_columns(self.question)
        rows = pd.DataFrame({name: pd.Series(columns[name], dtype=object) for name in wanted})
        return rows, self.receive(rows, {}), {"rows.csv": rows.to_csv(index=False).encode()}

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The answer's probabilities, or its quantities on the program's scale, beside the program's."""
        if self.labels:
            return classes.compare(answer, outputs)
        given = torch.tensor(answer["prediction"].tolist())
        return (given.log() if self.question["log"] else given), outputs["prediction"]

    def rows_of(self, files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
        """ValueError: no table, or other columns each."""
        tables = [read_table(file) for file in files]
        if any(set(table.columns) != set(tables[0].columns) for table in tables):
            raise ValueError("the files have different columns; ask about one at a time")
        origin = [file for file, table in zip(files, tables, strict=True) for _ in range(len(table))]
        return pd.concat(tables, ignore_index=True), origin


def read_table(file: Path) -> pd.DataFrame:
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
