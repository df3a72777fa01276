"""Texts in, label and probabilities out.

Input: a column `text`. Output, a row per text in the same order: `label`, its `probability`, and
`probabilities` of every class in the order of `labels` in `signature.json`. A row without anything to read
(empty, or nothing but markup), one that is no text, and one that is longer than the limit stop the call, and
the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema

from . import classes
from .questions import cells, gather, read_text

BUNDLE = ("data/text/rules.py", "tasks/predictors/classes.py", "tasks/predictors/questions.py")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")

CHUNK = 65_536
"""Tokens, padding included, that go through the network at once: bounds memory for any number of rows."""


class Predictor:
    """Of a classifier of texts."""

    SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
    USAGE = 'model.predict(pd.DataFrame({"text": ["I would watch it again."]}))'

    def __init__(self, described: Mapping[str, Any], bundle: Mapping[str, ModuleType]) -> None:
        self.labels: list[str] = described["labels"]
        self.prepare = described["preprocess"]
        self.places = {token: place for place, token in enumerate(self.prepare["vocabulary"])}
        self.rules = bundle["rules"]

    def signature(self) -> ModelSignature:
        return ModelSignature(
            inputs=Schema([ColSpec(DataType.string, "text")]), outputs=Schema([*classes.COLUMNS])
        )

    def receive(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> list[list[int]]:
        """Codes of the tokens of every row, or one ValueError that names every row that is no text."""
        return self.codes_of(gather(cells(rows, "text"), self.checked))

    def checked(self, value: object, name: str) -> str:
        """A text that can be answered."""
        if not isinstance(value, str):
            raise ValueError(f"{name}: text is wanted, not {type(value).__name__}")
        if len(value) > self.prepare["most"]:
            raise ValueError(f"{name}: {len(value):,} characters, the limit is {self.prepare['most']:,}")
        if self.rules.is_blank(value):
            raise ValueError(f"{name}: there is nothing to read in {value[:40]!r}")
        return str(self.rules.sound(value))

    def codes_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Of the tokens by the rules."""
        unknown = self.places[self.rules.UNK]
        return [
            [self.places.get(token, unknown) for token in tokens]
            for tokens in self.rules.tokenise(texts, **self.prepare["tokenizer"])
        ]

    def answer(self, program: Any, received: Sequence[Sequence[int]]) -> pd.DataFrame:
        table = np.empty((len(received), len(self.labels)), np.float64)
        with torch.no_grad():
            for chosen in side_by_side([len(each) for each in received]):
                codes = padded([received[row] for row in chosen], pad=self.prepare["pad"])
                table[chosen] = program(codes).double().numpy()
        return classes.labelled(table, self.labels)

    def example(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
        """The example's tokens as texts, and the codes that these become by the rules."""
        tokenizer, pad = self.prepare["tokenizer"], self.prepare["pad"]
        joint = {"words": " ", "characters": ""}.get(tokenizer["tokenizer"], tokenizer["separator"] or " ")
        tokens = [
            [self.prepare["vocabulary"][code] for code in row if code != pad]
            for row in next(iter(tensors.values())).tolist()
        ]
        texts = [joint.join(token for token in row if token not in self.rules.SPECIALS) for row in tokens]
        texts = [text if text and not self.rules.is_blank(text) else "a" for text in texts]
        files = {f"{row}.txt": text.encode() for row, text in enumerate(texts)}
        return pd.DataFrame({"text": texts}), {"codes": padded(self.codes_of(texts), pad=pad)}, files

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return classes.compare(answer, outputs)

    def rows_of(self, files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
        """A file is one text, a table has one a row. ValueError for a table without a column `text`."""
        texts: list[str] = []
        origin: list[Path] = []
        for file in files:
            found = [read_text(file)]
            if file.suffix.lower() in (".csv", ".tsv"):
                csv.field_size_limit(sys.maxsize)
                separator = "\t" if file.suffix.lower() == ".tsv" else ","
                reader = csv.DictReader(io.StringIO(found[0], newline=""), delimiter=separator)
                if "text" not in (reader.fieldnames or []):
                    raise ValueError(
                        f"{file} has no column `text`; it has {', '.join(reader.fieldnames or []) or 'none'}"
                    )
                found = [row["text"] or "" for row in reader]
            texts += found
            origin += [file] * len(found)
        return pd.DataFrame({"text": texts}), origin


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
