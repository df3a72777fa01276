"""Users in, ratings or recommendations out: the code of an exported MLflow model.

Input: a column `user`, and one of two questions. With a column `item`: the rating that the user would give to
that item. Without it: what the user has not rated yet, best first; `count` says how many (10 where it is
empty). A user who is not known is the average user, unless a column `ratings` holds what they think of some
known items, as JSON: {"item": rating, ...}. Users and items are named as in the training data. A row that
cannot be answered stops the call, and the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types.schema import Array, ColSpec, DataType, Schema

BUNDLE = {"seen": "data/ratings/seen.py"}
"""Files of the project that travel with this one, by the name under which they are loaded."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")
"""Distributions that this file and its bundle import."""

SUFFIXES = frozenset({".csv"})
"""Files that `predict` takes from a folder: tables with the columns of the input."""

USAGE = 'model.predict(pd.DataFrame({"user": ["1", "somebody new"], "count": [10, 10]}))'
"""For the card."""

COLUMNS = ("user", "item", "count", "ratings")

COUNT = 10
"""Recommendations where nobody says how many."""

AT_ONCE = 65536
"""Pairs that go through the program at once: bounds memory."""

PEERS = 500
"""Known users, evenly spaced, whose predicted ratings tell which items are liked by the same people."""

UNEXPLAINED = 0.7
"""Share of the ratings' variance that is no taste but mood and chance: about what the course's networks leave
of it on MovieLens (a mean squared error of 0.75 at a variance of 1.09)."""

Codes = npt.NDArray[np.int64]
Rates = npt.NDArray[np.float64]


class Predictor(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """`mlflow.pyfunc.load_model` makes one of these from the files of the model's folder."""

    def load_context(self, context: Any) -> None:
        """Read the program and all names from beside this file."""
        known = json.loads(Path(context.artifacts["signature"]).read_text())["preprocess"]
        self.users, self.items = (
            {name: code for code, name in enumerate(known[key], 1)} for key in ("users", "items")
        )
        self.names, self.titles = [None, *known["items"]], [None, *known["titles"]]
        self.noise, self.range = UNEXPLAINED * float(known["variance"]), (known["lowest"], known["highest"])
        self.seen = load_module(Path(context.artifacts["seen"]))
        self.rated = self.seen.unpack(known["seen"])
        self.program = torch.export.load(context.artifacts["program"]).module()
        self.peers: Rates | None = None

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer every row of `model_input`; MlflowException (HTTP 400) names the rows that cannot be."""
        rows = model_input.reset_index(drop=True)
        rows = rows[[name for name in rows.columns if name == "user" or not rows[name].isna().all()]]
        if unknown := [str(name) for name in rows.columns if name not in COLUMNS]:
            raise refusal(f"there is no column {unknown[0]!r} in the question; it takes {', '.join(COLUMNS)}")
        if "user" not in rows.columns:
            raise refusal("the column `user` is missing")
        if "item" in rows.columns:
            return self.rate_pairs(rows)
        return self.recommend(rows)

    def rate_pairs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rating of each row's user for its item."""
        faults, users, items = [], [], []
        for other in ("count", "ratings"):
            if other in rows.columns:
                faults.append(f"`{other}` has no effect beside `item`; leave one of them out")
        for row, (user, item) in enumerate(zip(rows["user"], rows["item"], strict=True)):
            name, of = as_name(user), as_name(item)
            if name is None:
                faults.append(f"row {row}: the user is missing")
            if of is None:
                faults.append(f"row {row}: the item is missing")
            elif of not in self.items:
                faults.append(f"row {row}: no training rating is of item {of!r}")
            users.append(self.users.get(name or "", 0))
            items.append(self.items.get(of or "", 0))
        if faults:
            raise refusal("; ".join(faults))
        return pd.DataFrame(
            {
                "user": [as_name(each) for each in rows["user"]],
                "known": [code > 0 for code in users],
                "item": [self.names[code] for code in items],
                "title": [self.titles[code] for code in items],
                "rating": self.rate(np.array(users, np.int64), np.array(items, np.int64)),
            }
        )

    def recommend(self, rows: pd.DataFrame) -> pd.DataFrame:
        """For each row's user the items that they have not rated, best first."""
        faults, wanted = [], []
        for row, record in enumerate(rows.to_dict(orient="records")):
            try:
                wanted.append(self.receive(record))
            except ValueError as error:
                faults.append(f"row {row}: {error}")
        if faults:
            raise refusal("; ".join(faults))
        answers = []
        for user, count, own in wanted:
            code = self.users.get(user, 0)
            rates = self.fold_in(own) if own else self.rate_all(code)
            out = self.seen.of_user(*self.rated, code) if code else np.array([*own], np.int64)
            rates[out - 1] = -np.inf
            best = np.argsort(-rates, kind="stable")[: min(count, len(rates) - len(out))] + 1
            answers.append(
                {
                    "user": user,
                    "known": code > 0,
                    "items": [self.names[each] for each in best],
                    "titles": [self.titles[each] for each in best],
                    "ratings": rates[best - 1].tolist(),
                }
            )
        return pd.DataFrame(answers, columns=["user", "known", "items", "titles", "ratings"])

    def receive(self, record: Mapping[Any, Any]) -> tuple[str, int, dict[int, float]]:
        """User, number of recommendations, and own ratings by code. ValueError says what is wrong."""
        user = as_name(record["user"])
        if user is None:
            raise ValueError("the user is missing")
        told, count = record.get("ratings"), read_count(record.get("count"))
        own = {} if missing(told) else read_ratings(told)
        if own and user in self.users:
            raise ValueError(f"user {user!r} is known; `ratings` are for somebody who is not")
        low, high = self.range
        for item, rating in own.items():
            if item not in self.items:
                raise ValueError(f"no training rating is of item {item!r} of `ratings`")
            if not low <= rating <= high:
                raise ValueError(
                    f"`ratings` gives item {item!r} {rating:g}; ratings lie in {low:g} to {high:g}"
                )
        return user, count, {self.items[item]: rating for item, rating in own.items()}

    def rate(self, users: Codes, items: Codes) -> Rates:
        """The program's ratings (N,) of pairs of codes."""
        found = [np.empty(0)]
        for start in range(0, len(users), AT_ONCE):
            pair = (torch.from_numpy(each[start : start + AT_ONCE]) for each in (users, items))
            found.append(self.program(*pair).detach().double().numpy())
        return np.concatenate(found)

    def rate_all(self, code: int) -> Rates:
        """Ratings of all known items by one user."""
        count = len(self.items)
        return self.rate(np.full(count, code, np.int64), np.arange(1, count + 1))

    def fold_in(self, own: Mapping[int, float]) -> Rates:
        """Ratings of all items by somebody new who gave `own`: kernel ridge regression.

        What the program predicts for the known users says how ratings of two items go together; from the
        average user, the new one is moved along these covariances as far as their ratings ask for. So it
        works for every network, and one rating moves little.
        """
        count = len(self.items)
        if self.peers is None:
            chosen = np.unique(
                np.linspace(1, len(self.users), min(PEERS, len(self.users))).round().astype(np.int64)
            )
            rates = np.stack([self.rate_all(int(code)) for code in chosen])
            self.peers = (rates - rates.mean(axis=0)) / np.sqrt(max(len(chosen) - 1, 1))
        average, places = self.rate_all(0), np.array([*own], np.int64) - 1
        given = np.array([*own.values()], np.float64)
        across = self.peers.T @ self.peers[:, places]  # (items, own): covariances
        gram = across[places] + self.noise * np.eye(len(places))
        moved: Rates = average + across @ np.linalg.solve(gram, given - average[places])
        assert moved.shape == (count,)
        return moved


def refusal(message: str) -> MlflowException:
    """An error that a server answers with 400."""
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def missing(value: object) -> bool:
    """Nothing was given: none, not a number, or an empty text."""
    return value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA or value == ""


def as_name(value: Any) -> str | None:
    """A user or an item as the training data names it; None for nothing. Of 7.0 the name is `7`."""
    if missing(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def read_count(told: Any) -> int:
    """How many recommendations. ValueError where it is no whole number from 1."""
    if missing(told):
        return COUNT
    if isinstance(told, bool | str) or int(told) != told or told < 1:
        raise ValueError(f"count is {told!r}, but must be a whole number from 1")
    return int(told)


def read_ratings(told: Any) -> dict[str, float]:
    """{"item": rating, ...} as JSON or as a mapping. ValueError where it is something else."""
    try:
        found = json.loads(told) if isinstance(told, str) else dict(told)
        pairs = {str(item).strip(): rating for item, rating in found.items()}
    except (TypeError, ValueError, AttributeError):
        raise ValueError(f'`ratings` must be JSON like {{"item": 4.5}}, not {told!r}') from None
    for item, rating in pairs.items():
        if isinstance(rating, bool) or not isinstance(rating, int | float) or not np.isfinite(rating):
            raise ValueError(f"`ratings` gives item {item!r} {rating!r}, which is no number")
    return pairs


def load_module(path: Path) -> ModuleType:
    """A file as a module outside of `sys.modules`, so that two models in one process keep their own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def signature_of(described: Mapping[str, Any]) -> ModelSignature:
    """Columns of both questions and of both answers."""
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.string, "user"),
                ColSpec(DataType.string, "item", required=False),
                ColSpec(DataType.long, "count", required=False),
                ColSpec(DataType.string, "ratings", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(DataType.string, "user"),
                ColSpec(DataType.boolean, "known"),
                ColSpec(DataType.string, "item", required=False),
                ColSpec(DataType.string, "title", required=False),
                ColSpec(DataType.double, "rating", required=False),
                ColSpec(Array(DataType.string), "items", required=False),
                ColSpec(Array(DataType.string), "titles", required=False),
                ColSpec(Array(DataType.double), "ratings", required=False),
            ]
        ),
    )


def example_of(
    example: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
    """Codes -> the names that a user would send, the codes again, and the same question as a file."""
    known = described["preprocess"]
    users, items = example["user"].tolist(), example["item"].tolist()
    rows = pd.DataFrame(
        {
            "user": [known["users"][code - 1] if code else somebody_new(known["users"]) for code in users],
            "item": [known["items"][code - 1] for code in items],
        }
    )
    return rows, dict(example), {"pairs.csv": rows.to_csv(index=False, lineterminator="\n").encode()}


def somebody_new(users: Sequence[str]) -> str:
    """A name that none of the users has."""
    taken, name = set(users), "somebody new"
    while name in taken:
        name += "!"
    return name


def compare(
    answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor], described: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer's ratings beside the program's."""
    return torch.tensor(answer["rating"].tolist()), outputs["rating"]


def rows_of(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """The rows of CSV tables with the columns of the input, and the file of each."""
    records, origin = [], []
    for file in files:
        for record in records_of(file):
            records.append(record)
            origin.append(file)
    if not records:
        raise ValueError("there is no row below the header")
    return pd.DataFrame(records), origin


def records_of(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of one table, `count` as a number. ValueError names a column that is missing or not known."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"the text is not UTF-8 ({error.reason} at byte {error.start})") from None
    reader = csv.DictReader(lines, skipinitialspace=True)
    names = [*(reader.fieldnames or ())]
    if "user" not in names or not {*names} <= {*COLUMNS}:
        raise ValueError(
            f"its columns are {', '.join(names) or 'none'}; wanted are user, and item, count or ratings"
        )
    for row in reader:
        record: dict[str, Any] = {name: row[name] or None for name in names}
        if "count" in record:
            try:
                record["count"] = int(record["count"] or COUNT)
            except ValueError:
                raise ValueError(
                    f"line {reader.line_num}: count is {record['count']!r}, not a whole number"
                ) from None
        yield record


def request(rows: pd.DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows."""
    return {"dataframe_split": {"columns": [*rows.columns], "data": rows.to_numpy(dtype=object).tolist()}}


mlflow.models.set_model(Predictor())
