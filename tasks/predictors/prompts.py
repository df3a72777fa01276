"""A text in, its continuation and its surprise out.

Input: a column `text`. Output, a row per text in the same order: `continuation` (what the network makes up
after it), `tokens` and `losses` (what was read of the text, and how surprising each token was in nats, given
those before it; null for the first, which nothing stands before), their mean `loss` and its `perplexity`.
Parameters: `tokens` (how many are made up), `temperature` (0 takes the likeliest), `seed`.
The program carries the state, so that each further token costs one step whatever was read. A text that cannot
be read stops the call, and the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema
from torch.nn.functional import cross_entropy

from .questions import cells, gather, read_text

BUNDLE = ("data/text/joining.py", "data/text/rules.py", "tasks/predictors/questions.py")
REQUIREMENTS = ("mlflow", "pandas", "torch")

MOST = 200_000
"""Characters of a text. Longer ones are refused: no answer to them would be waited for."""

STRETCH = 512
"""Tokens that go through the network at once: bounds memory, whatever the length of a text."""

TOKENS = 100
"""Tokens that are made up unless `tokens` says otherwise."""

COLUMNS = (
    ColSpec(DataType.string, "continuation"),
    ColSpec(Array(DataType.string), "tokens"),
    ColSpec(Array(DataType.double), "losses"),
    ColSpec(DataType.double, "loss", required=False),
    ColSpec(DataType.double, "perplexity", required=False),
)
"""Of the answer."""

Question = tuple[list[list[str]], Mapping[str, Any]]
"""Tokens of every text, and the wishes: `tokens`, `temperature` and `seed`."""


class Predictor:
    """Of a language model."""

    SUFFIXES = frozenset({".txt", ".md", ".text"})
    USAGE = 'model.predict(pd.DataFrame({"text": ["The truth is"]}), params={"tokens": 100})'

    def __init__(self, described: Mapping[str, Any], bundle: Mapping[str, ModuleType]) -> None:
        preprocess = described["preprocess"]
        self.options: dict[str, Any] = preprocess["tokenizer"]
        self.vocabulary: list[str] = preprocess["vocabulary"]
        self.codes = {token: code for code, token in enumerate(self.vocabulary)}
        self.numbers: int = preprocess["state"]
        self.temperature: float = preprocess["temperature"]
        self.rules, self.joining = bundle["rules"], bundle["joining"]

    def signature(self) -> ModelSignature:
        return ModelSignature(
            inputs=Schema([ColSpec(DataType.string, "text")]),
            outputs=Schema([*COLUMNS]),
            params=ParamSchema(
                [
                    ParamSpec("tokens", DataType.long, TOKENS),
                    ParamSpec("temperature", DataType.double, float(self.temperature)),
                    ParamSpec("seed", DataType.long, 0),
                ]
            ),
        )

    def receive(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> Question:
        """All texts with the wishes, or one ValueError that names every row that is no text."""
        wanted = {"tokens": TOKENS, "temperature": self.temperature, "seed": 0, **params}
        if not 0 <= wanted["tokens"] <= 10_000 or not 0 <= wanted["temperature"] <= 5:
            raise ValueError("tokens must be from 0 to 10000 and temperature from 0 to 5")
        return gather(cells(rows, "text"), self.checked), wanted

    def checked(self, value: object, name: str) -> list[str]:
        """One text as tokens. ValueError where it is none, empty or too long, or has nothing known in it."""
        if not isinstance(value, str):
            raise ValueError(f"{name}: text is wanted, not {type(value).__name__}")
        if len(value) > MOST:
            raise ValueError(
                f"{name}: {len(value):,} characters, at most {MOST:,} are read; give a part of it"
            )
        tokens = self.tokens_of(self.rules.sound(value))
        said = [token for token in tokens if token != self.rules.BOS]
        if not said:
            raise ValueError(f"{name}: there is no token in it")
        if not any(token in self.codes for token in said):
            raise ValueError(f"{name}: none of its tokens is known, e.g. {tokens[-1]!r}")
        return tokens

    def tokens_of(self, text: str) -> list[str]:
        """By the rules that training read by."""
        return list(next(self.rules.tokenise([text], **self.options)))

    @torch.no_grad()
    def answer(self, program: Any, received: Question) -> pd.DataFrame:
        texts, wanted = received
        return pd.DataFrame(
            [self.answer_one(program, tokens, wanted) for tokens in texts],
            columns=[column.name for column in COLUMNS],
            dtype=object,  # so that a loss that there is not stays None, which JSON can say
        )

    def answer_one(self, program: Any, tokens: list[str], wanted: Mapping[str, Any]) -> list[Any]:
        """One row of the answer."""
        codes = [self.codes.get(token, 0) for token in tokens]
        losses, state, scores = self.read(program, codes)
        made = self.go_on(
            program, scores, state,
            count=wanted["tokens"], temperature=wanted["temperature"], seed=wanted["seed"],
        )  # fmt: skip
        text = self.joining.join([self.vocabulary[code] for code in made], **self.options)
        loss = sum(losses) / len(losses) if losses else None
        perplexity = None if loss is None else math.exp(min(loss, 700.0))
        return [text, tokens, [None, *losses], loss, perplexity]

    def read(self, program: Any, codes: list[int]) -> tuple[list[float], torch.Tensor, torch.Tensor]:
        """Loss of every code but the first, the state after the last, and the scores of what comes next."""
        state, losses, scores = torch.zeros(1, self.numbers), [], torch.zeros(0)
        for start in range(0, len(codes), STRETCH):
            stretch = codes[start : start + STRETCH]
            output, state = program(torch.tensor([stretch]), state)
            following = torch.tensor(codes[start + 1 : start + STRETCH + 1])
            losses += cross_entropy(output[0, : len(following)], following, reduction="none").tolist()
            scores = output[0, -1]
        return losses, state, scores

    def go_on(
        self, program: Any, scores: torch.Tensor, state: torch.Tensor, *,
        count: int, temperature: float, seed: int,
    ) -> list[int]:  # fmt: skip
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
                output, state = program(torch.tensor([made[-1:]]), state)
                scores = output[0, -1]
        return made

    def example(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
        """Codes (2, T) -> a text of so many tokens a row.

        The texts are made of tokens that every tokenizer takes for what they are, whatever stands beside
        them.
        """
        plain = [
            token
            for token in self.vocabulary
            if token not in self.rules.SPECIALS and token.strip() and self.tokens_of(token)[-1:] == [token]
        ]
        plain = [token for token in plain if token.isalpha()] or plain
        name, codes = next(iter(tensors.items()))
        chosen = [[plain[(row + step) % len(plain)] for step in range(codes.shape[1])] for row in (0, 1)]
        texts = [self.joining.join(tokens, **self.options) for tokens in chosen]
        received = torch.tensor([[self.codes[token] for token in self.tokens_of(text)] for text in texts])
        files = {f"{row}.txt": text.encode() for row, text in enumerate(texts)}
        return pd.DataFrame({"text": texts}), {**tensors, name: received}, files

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The answer's losses beside those of the program's scores."""
        codes = torch.tensor([[self.codes[token] for token in row] for row in answer["tokens"]])
        given = torch.tensor([row[1:] for row in answer["losses"]])
        scores = next(iter(outputs.values()))[:, :-1]
        return given, cross_entropy(scores.transpose(1, 2), codes[:, 1:], reduction="none")

    def rows_of(self, files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
        """A file is one text."""
        return pd.DataFrame({"text": [read_text(file) for file in files]}), list(files)
