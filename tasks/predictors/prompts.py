"""A text in, its continuation and its surprise out: the code of an exported MLflow model.

Input: a column `text`. Output, a row per text in the same order: `continuation` (what the network makes up
after it), `tokens` and `losses` (what was read of the text, and how surprising each token was in nats, given
those before it; null for the first, which nothing stands before), their mean `loss` and its `perplexity`.
Parameters: `tokens` (how many are made up), `temperature` (0 takes the likeliest), `seed`.
The program carries the state, so that each further token costs one step whatever was read. A text that cannot
be read stops the call, and the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema
from torch.nn.functional import cross_entropy

BUNDLE = {"rules": "data/text/rules.py", "joining": "data/text/joining.py"}
"""Files of the project that travel with this one, by the name under which they are loaded."""

REQUIREMENTS = ("mlflow", "pandas", "torch")
"""Distributions that this file and its bundle import."""

SUFFIXES = frozenset({".txt", ".md", ".text"})
"""Files that `predict` takes from a folder; a file that is named itself is tried whatever its name."""

USAGE = 'model.predict(pd.DataFrame({"text": ["The truth is"]}), params={"tokens": 100})'
"""For the card."""

MOST = 200_000
"""Characters of a text. Longer ones are refused: no answer to them would be waited for."""

STRETCH = 512
"""Tokens that go through the network at once: bounds memory, whatever the length of a text."""

TOKENS = 100
"""Tokens that are made up unless `tokens` says otherwise."""


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the program, the vocabulary and the rules from beside this file."""
        described = json.loads(Path(context.artifacts["signature"]).read_text())
        preprocess = described["preprocess"]
        self.options: dict[str, Any] = preprocess["tokenizer"]
        self.vocabulary: list[str] = preprocess["vocabulary"]
        self.codes = {token: code for code, token in enumerate(self.vocabulary)}
        self.numbers: int = preprocess["state"]
        self.temperature: float = preprocess["temperature"]
        self.rules = load_module(Path(context.artifacts["rules"]))
        self.joining = load_module(Path(context.artifacts["joining"]))
        self.program = torch.export.load(context.artifacts["program"]).module()

    @torch.no_grad()
    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names the rows that are no texts."""
        wanted = {"tokens": TOKENS, "temperature": self.temperature, "seed": 0, **(params or {})}
        if not 0 <= wanted["tokens"] <= 10_000 or not 0 <= wanted["temperature"] <= 5:
            raise MlflowException(
                "tokens must be from 0 to 10000 and temperature from 0 to 5",
                error_code=INVALID_PARAMETER_VALUE,
            )
        texts = self.receive(model_input)
        return pd.DataFrame(
            [self.answer(tokens, wanted) for tokens in texts],
            columns=["continuation", "tokens", "losses", "loss", "perplexity"],
            dtype=object,  # so that a loss that there is not stays None, which JSON can say
        )

    def answer(self, tokens: list[str], wanted: Mapping[str, Any]) -> list[Any]:
        """One row of the answer."""
        codes = [self.codes.get(token, 0) for token in tokens]
        losses, state, scores = self.read(codes)
        made = self.go_on(
            scores, state, count=wanted["tokens"], temperature=wanted["temperature"], seed=wanted["seed"]
        )
        text = self.joining.join([self.vocabulary[code] for code in made], **self.options)
        loss = sum(losses) / len(losses) if losses else None
        perplexity = None if loss is None else math.exp(min(loss, 700.0))
        return [text, tokens, [None, *losses], loss, perplexity]

    def read(self, codes: list[int]) -> tuple[list[float], torch.Tensor, torch.Tensor]:
        """Loss of every code but the first, the state after the last, and the scores of what comes next."""
        state, losses, scores = torch.zeros(1, self.numbers), [], torch.zeros(0)
        for start in range(0, len(codes), STRETCH):
            stretch = codes[start : start + STRETCH]
            output, state = self.program(torch.tensor([stretch]), state)
            following = torch.tensor(codes[start + 1 : start + STRETCH + 1])
            losses += cross_entropy(output[0, : len(following)], following, reduction="none").tolist()
            scores = output[0, -1]
        return losses, state, scores

    def go_on(
        self, scores: torch.Tensor, state: torch.Tensor, *, count: int, temperature: float, seed: int
    ) -> list[int]:
        """Codes drawn one after the other; unknown and padding are never drawn."""
        random = torch.Generator().manual_seed(seed)
        never = [self.codes[token] for token in (self.rules.UNK, self.rules.PAD) if token in self.codes]
        made: list[int] = []
        for _ in range(count):
            scores = scores.clone()
            scores[never] = -torch.inf
            if temperature == 0:
                made.append(int(scores.argmax()))
            else:
                chances = (scores / temperature).softmax(0)
                made.append(int(torch.multinomial(chances, 1, generator=random)))
            if len(made) < count:
                output, state = self.program(torch.tensor([made[-1:]]), state)
                scores = output[0, -1]
        return made

    def receive(self, model_input: pd.DataFrame) -> list[list[str]]:
        """Tokens of every row, or one error that names all faulty rows."""
        texts, faults = [], []
        for row, value in enumerate(model_input["text"]):
            try:
                texts.append(self.tokens_of(value))
            except ValueError as error:
                faults.append(f"row {row} of column `text`: {error}")
        if faults:
            raise MlflowException("; ".join(faults), error_code=INVALID_PARAMETER_VALUE)
        return texts

    def tokens_of(self, value: object) -> list[str]:
        """One text as tokens. ValueError where it is none, empty or too long, or has nothing known in it."""
        if not isinstance(value, str):
            raise ValueError(f"text is wanted, not {type(value).__name__}")
        if len(value) > MOST:
            raise ValueError(f"{len(value):,} characters, at most {MOST:,} are read; give a part of it")
        text = value.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        tokens: list[str] = next(self.rules.tokenise([text], **self.options))
        if not any(token != self.rules.BOS for token in tokens):
            raise ValueError("there is no token in it")
        if not any(token in self.codes for token in tokens if token != self.rules.BOS):
            raise ValueError(f"none of its tokens is known, e.g. {tokens[-1]!r}")
        return tokens


def signature_of(described: Mapping[str, Any]) -> ModelSignature:
    """What goes in and comes out, for MLflow."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "text")]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "continuation"),
                ColSpec(Array(DataType.string), "tokens"),
                ColSpec(Array(DataType.double), "losses"),
                ColSpec(DataType.double, "loss", required=False),
                ColSpec(DataType.double, "perplexity", required=False),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("tokens", DataType.long, TOKENS),
                ParamSpec("temperature", DataType.double, float(described["preprocess"]["temperature"])),
                ParamSpec("seed", DataType.long, 0),
            ]
        ),
    )


def load_module(path: Path) -> ModuleType:
    """A file as a module outside of `sys.modules`, so that two models in one process keep their own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def example_of(
    example: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
    """Codes (2, T) -> a text of so many tokens a row, the tensors that they become, files to store.

    The texts are made of tokens that every tokenizer takes for what they are, whatever stands beside them.
    """
    rules, joining = (load_module(Path(__file__).parents[2] / BUNDLE[name]) for name in ("rules", "joining"))
    preprocess = described["preprocess"]
    options, vocabulary = preprocess["tokenizer"], preprocess["vocabulary"]
    places = {token: code for code, token in enumerate(vocabulary)}

    def tokens_of(text: str) -> list[str]:
        return list(next(rules.tokenise([text], **options)))

    plain = [
        token
        for token in vocabulary
        if token not in rules.SPECIALS and token.strip() and tokens_of(token)[-1:] == [token]
    ]
    plain = [token for token in plain if token.isalpha()] or plain
    name, codes = next(iter(example.items()))
    chosen = [[plain[(row + step) % len(plain)] for step in range(codes.shape[1])] for row in (0, 1)]
    texts = [joining.join(tokens, **options) for tokens in chosen]
    received = torch.tensor([[places[token] for token in tokens_of(text)] for text in texts])
    files = {f"{row}.txt": text.encode() for row, text in enumerate(texts)}
    return pd.DataFrame({"text": texts}), {**example, name: received}, files


def compare(
    answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer's losses beside those of the program's scores."""
    places = {token: code for code, token in enumerate(described["preprocess"]["vocabulary"])}
    codes = torch.tensor([[places[token] for token in row] for row in answer["tokens"]])
    given = torch.tensor([row[1:] for row in answer["losses"]])
    scores = next(iter(outputs.values()))[:, :-1]
    return given, cross_entropy(scores.transpose(1, 2), codes[:, 1:], reduction="none")


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """What `predict` takes, from files, and the file of each row. ValueError for a file that is no UTF-8."""
    texts = []
    for file in files:
        try:
            texts.append(file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no UTF-8: {error.reason} at byte {error.start}") from None
    return pd.DataFrame({"text": texts}), list(files)


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    return {"dataframe_split": {"columns": ["text"], "data": [[text] for text in rows["text"]]}}


mlflow.models.set_model(Predictor())
