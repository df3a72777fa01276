"""Texts in, label and probabilities out: the code of an exported MLflow model.

Input: a column `text`. Output, a row per text in the same order: `label`, its `probability`, and
`probabilities` of every class in the order of `labels` in `signature.json`. A row without anything to read
(empty, or nothing but markup), one that is no text, and one that is longer than the limit stop the call, and
the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
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
from mlflow.types.schema import Array, ColSpec, DataType, Schema

BUNDLE = {"rules": "data/text/rules.py"}
"""Files of the project that travel with this one, by the name under which they are loaded."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")
"""Distributions that this file and its bundle import."""

SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
"""Files that `predict` takes from a folder: a text each, or a table with a column `text`. A file that is
named itself is tried whatever its name."""

USAGE = 'model.predict(pd.DataFrame({"text": ["I would watch it again."]}))'
"""For the card."""

INPUTS_AND_OUTPUTS = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "text")]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(Array(DataType.double), "probabilities"),
        ]
    ),
)

CHUNK = 65_536
"""Tokens, padding included, that go through the network at once: bounds memory for any number of rows."""


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the program, the signature and the rules from beside this file."""
        described = json.loads(Path(context.artifacts["signature"]).read_text())
        self.labels: list[str] = described["labels"]
        self.prepare = described["preprocess"]
        self.places = {token: place for place, token in enumerate(self.prepare["vocabulary"])}
        self.rules = load_module(Path(context.artifacts["rules"]))
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names the rows that are no texts."""
        documents = self.receive(model_input)
        table = np.empty((len(documents), len(self.labels)), np.float64)
        with torch.no_grad():
            for chosen in side_by_side([len(each) for each in documents]):
                codes = padded([documents[row] for row in chosen], pad=self.prepare["pad"])
                table[chosen] = self.program(codes).double().numpy()
        return pd.DataFrame(
            {
                "label": [self.labels[index] for index in table.argmax(axis=1)],
                "probability": table.max(axis=1),
                "probabilities": table.tolist(),
            }
        )

    def receive(self, model_input: pd.DataFrame) -> list[list[int]]:
        """Codes of the tokens of every row, or one error that names all faulty rows."""
        if "text" not in model_input.columns:
            raise MlflowException(
                f"there is no column `text`; the columns are {', '.join(map(str, model_input.columns))}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        texts = model_input["text"].tolist()
        faults = [
            f"row {row} of column `text`: {fault}"
            for row, value in enumerate(texts)
            if (fault := self.fault_of(value))
        ]
        if faults:
            raise MlflowException("; ".join(faults), error_code=INVALID_PARAMETER_VALUE)
        unknown = self.places[self.rules.UNK]
        return [
            [self.places.get(token, unknown) for token in tokens]
            for tokens in self.rules.tokenise(map(self.rules.sound, texts), **self.prepare["tokenizer"])
        ]

    def fault_of(self, value: object) -> str:
        """What is wrong with a row; empty for nothing."""
        if not isinstance(value, str):
            return f"text is wanted, not {type(value).__name__}"
        if len(value) > self.prepare["most"]:
            return f"{len(value):,} characters, the limit is {self.prepare['most']:,}"
        if self.rules.is_blank(value):
            return f"there is nothing to read in {value[:40]!r}"
        return ""


def load_module(path: Path) -> ModuleType:
    """A file as a module outside of `sys.modules`, so that two models in one process keep their own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def side_by_side(lengths: Sequence[int]) -> list[list[int]]:
    """Rows of similar length together, at most `CHUNK` tokens with their padding (one row always)."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= CHUNK:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def padded(documents: Sequence[Sequence[int]], *, pad: int) -> torch.Tensor:
    """int64 (N, T), `pad` after each document's end."""
    codes = torch.full((len(documents), max(map(len, documents))), pad)
    for row, document in enumerate(documents):
        codes[row, : len(document)] = torch.tensor(document)
    return codes


def signature_of(described: Mapping[str, Any]) -> ModelSignature:
    """Columns in and out: the same for every classifier of texts."""
    return INPUTS_AND_OUTPUTS


def example_of(
    example: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
    """Rows as a user would send them, the codes that they become by the rules, and files to store."""
    from data.text import rules

    prepare = described["preprocess"]
    joint = {"words": " ", "characters": ""}.get(
        prepare["tokenizer"]["tokenizer"], prepare["tokenizer"]["separator"] or " "
    )
    places = {token: place for place, token in enumerate(prepare["vocabulary"])}
    tokens = [
        [prepare["vocabulary"][code] for code in row if code != prepare["pad"]]
        for row in next(iter(example.values())).tolist()
    ]
    texts = [joint.join(token for token in row if token not in rules.SPECIALS) or "a" for row in tokens]
    texts = [text if not rules.is_blank(text) else "a" for text in texts]
    codes = [
        [places.get(token, places[rules.UNK]) for token in row]
        for row in rules.tokenise(texts, **prepare["tokenizer"])
    ]
    files = {f"{row}.txt": text.encode() for row, text in enumerate(texts)}
    return pd.DataFrame({"text": texts}), {"codes": padded(codes, pad=prepare["pad"])}, files


def compare(
    answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The probabilities of the answer, and those of the program."""
    return torch.tensor(answer["probabilities"].tolist()), outputs["probabilities"]


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """What `predict` takes, from files, and the file of each row: a file is one text, a table has one a row.

    ValueError names a file that is not UTF-8, and a table without a column `text`.
    """
    texts: list[str] = []
    origin: list[Path] = []
    for file in files:
        try:
            content = file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
        found = [content]
        if file.suffix.lower() in (".csv", ".tsv"):
            csv.field_size_limit(sys.maxsize)
            separator = "\t" if file.suffix.lower() == ".tsv" else ","
            reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=separator)
            if "text" not in (reader.fieldnames or []):
                raise ValueError(
                    f"{file} has no column `text`; it has {', '.join(reader.fieldnames or []) or 'none'}"
                )
            found = [row["text"] or "" for row in reader]
        texts += found
        origin += [file] * len(found)
    return pd.DataFrame({"text": texts}), origin


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    return {"dataframe_split": {"columns": ["text"], "data": [[text] for text in rows["text"]]}}


mlflow.models.set_model(Predictor())
