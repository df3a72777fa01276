"""Users in, ratings or recommendations out.

Input: a column `user`, and one of two questions. With a column `item`: the rating that the user would give to
that item. Without it: what the user has not rated yet, best first; `count` says how many (10 where it is
empty). A user who is not known is the average user, unless a column `ratings` holds what they think of some
known items, as JSON: {"item": rating, ...}. Users and items are named as in the training data. A row that
cannot be answered stops the call, and the message names every such row: no row is ever answered by guess.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, Schema

from .questions import gather, read_text

BUNDLE = ("data/ratings/seen.py", "tasks/predictors/questions.py")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")

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


@dataclass(frozen=True)
class Pair:
    """The question for one rating."""

    name: str
    """Of the user, as it was asked."""
    user: int
    """Code; 0 for somebody who is not known."""
    item: int
    """Code, from 1."""


@dataclass(frozen=True)
class Wish:
    """The question for recommendations."""

    name: str
    """Of the user, as it was asked."""
    user: int
    """Code; 0 for somebody who is not known."""
    count: int
    own: Mapping[int, float]
    """Ratings of somebody who is not known, by the item's code."""


class Predictor:
    """Of a network of users and items."""

    SUFFIXES = frozenset({".csv"})
    USAGE = 'model.predict(pd.DataFrame({"user": ["1", "somebody new"], "count": [10, 10]}))'

    def __init__(self, described: Mapping[str, Any], bundle: Mapping[str, ModuleType]) -> None:
        self.known = known = described["preprocess"]
        self.users, self.items = (
            {name: code for code, name in enumerate(known[key], 1)} for key in ("users", "items")
        )
        self.names, self.titles = [None, *known["items"]], [None, *known["titles"]]
        self.noise, self.range = UNEXPLAINED * float(known["variance"]), (known["lowest"], known["highest"])
        self.seen = bundle["seen"]
        self.rated = self.seen.unpack(known["seen"])
        self.peers: Rates | None = None

    def signature(self) -> ModelSignature:
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

    def receive(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> list[Pair] | list[Wish]:
        """All rows as one of the two questions, or one ValueError that names every row that cannot be."""
        rows = rows.reset_index(drop=True)
        rows = rows[[name for name in rows.columns if name == "user" or not rows[name].isna().all()]]
        if unknown := [str(name) for name in rows.columns if name not in COLUMNS]:
            raise ValueError(
                f"there is no column {unknown[0]!r} in the question; it takes {', '.join(COLUMNS)}"
            )
        if "user" not in rows.columns:
            raise ValueError("the column `user` is missing")
        records = [(f"row {row}", record) for row, record in enumerate(rows.to_dict(orient="records"))]
        if "item" not in rows.columns:
            return gather(records, self.as_wish)
        idle = [name for name in ("count", "ratings") if name in rows.columns]
        faults = [f"`{name}` has no effect beside `item`; leave one of them out" for name in idle]
        return gather(records, self.as_pair, faults=faults)

    def as_pair(self, record: Mapping[Any, Any], name: str) -> Pair:
        """ValueError says all that is wrong."""
        user, item = as_name(record["user"]), as_name(record["item"])
        faults = []
        if user is None:
            faults.append(f"{name}: the user is missing")
        if item is None:
            faults.append(f"{name}: the item is missing")
        elif item not in self.items:
            faults.append(f"{name}: no training rating is of item {item!r}")
        if user is None or item is None or faults:
            raise ValueError("; ".join(faults))
        return Pair(user, self.users.get(user, 0), self.items[item])

    def as_wish(self, record: Mapping[Any, Any], name: str) -> Wish:
        """ValueError says what is wrong."""
        try:
            user = as_name(record["user"])
            if user is None:
                raise ValueError("the user is missing")
            told, count = record.get("ratings"), read_count(record.get("count"))
            own = {} if missing(told) else read_ratings(told)
            if own and user in self.users:
                raise ValueError(f"user {user!r} is known; `ratings` are for somebody who is not")
            return Wish(user, self.users.get(user, 0), count, self.by_code(own))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def by_code(self, own: Mapping[str, float]) -> dict[int, float]:
        """Somebody's own ratings by the item's code. ValueError names an item or a rating that cannot be."""
        low, high = self.range
        for item, rating in own.items():
            if item not in self.items:
                raise ValueError(f"no training rating is of item {item!r} of `ratings`")
            if not low <= rating <= high:
                raise ValueError(
                    f"`ratings` gives item {item!r} {rating:g}; ratings lie in {low:g} to {high:g}"
                )
        return {self.items[item]: rating for item, rating in own.items()}

    def answer(self, program: Any, received: list[Pair] | list[Wish]) -> pd.DataFrame:
        if pairs := [each for each in received if isinstance(each, Pair)]:
            return self.rate_pairs(program, pairs)
        return self.recommend(program, [each for each in received if isinstance(each, Wish)])

    def rate_pairs(self, program: Any, pairs: Sequence[Pair]) -> pd.DataFrame:
        """The rating of each user for their item."""
        users = np.array([each.user for each in pairs], np.int64)
        items = np.array([each.item for each in pairs], np.int64)
        return pd.DataFrame(
            {
                "user": [each.name for each in pairs],
                "known": [each.user > 0 for each in pairs],
                "item": [self.names[each.item] for each in pairs],
                "title": [self.titles[each.item] for each in pairs],
                "rating": self.rate(program, users, items),
            }
        )

    def recommend(self, program: Any, wishes: Sequence[Wish]) -> pd.DataFrame:
        """For each user the items that they have not rated, best first."""
        answers = []
        for wish in wishes:
            rates = self.fold_in(program, wish.own) if wish.own else self.rate_all(program, wish.user)
            out = self.seen.of_user(*self.rated, wish.user) if wish.user else np.array([*wish.own], np.int64)
            rates[out - 1] = -np.inf
            best = np.argsort(-rates, kind="stable")[: min(wish.count, len(rates) - len(out))] + 1
            answers.append(
                {
                    "user": wish.name,
                    "known": wish.user > 0,
                    "items": [self.names[each] for each in best],
                    "titles": [self.titles[each] for each in best],
                    "ratings": rates[best - 1].tolist(),
                }
            )
        return pd.DataFrame(answers, columns=["user", "known", "items", "titles", "ratings"])

    @torch.no_grad()
    def rate(self, program: Any, users: Codes, items: Codes) -> Rates:
        """The program's ratings (N,) of pairs of codes."""
        found = [np.empty(0)]
        for start in range(0, len(users), AT_ONCE):
            pair = (torch.from_numpy(each[start : start + AT_ONCE]) for each in (users, items))
            found.append(program(*pair).double().numpy())
        return np.concatenate(found)

    def rate_all(self, program: Any, code: int) -> Rates:
        """Ratings of all known items by one user."""
        count = len(self.items)
        return self.rate(program, np.full(count, code, np.int64), np.arange(1, count + 1))

    def fold_in(self, program: Any, own: Mapping[int, float]) -> Rates:
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
            rates = np.stack([self.rate_all(program, int(code)) for code in chosen])
            self.peers = (rates - rates.mean(axis=0)) / np.sqrt(max(len(chosen) - 1, 1))
        average, places = self.rate_all(program, 0), np.array([*own], np.int64) - 1
        given = np.array([*own.values()], np.float64)
        across = self.peers.T @ self.peers[:, places]  # (items, own): covariances
        gram = across[places] + self.noise * np.eye(len(places))
        moved: Rates = average + across @ np.linalg.solve(gram, given - average[places])
        assert moved.shape == (count,)
        return moved

    def example(
        self, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[pd.DataFrame, dict[str, torch.Tensor], dict[str, bytes]]:
        """Codes -> the names that a user would send, the codes again, and the same question as a file."""
        stranger = somebody_new(self.known["users"])
        users, items = tensors["user"].tolist(), tensors["item"].tolist()
        rows = pd.DataFrame(
            {
                "user": [self.known["users"][code - 1] if code else stranger for code in users],
                "item": [self.known["items"][code - 1] for code in items],
            }
        )
        return rows, dict(tensors), {"pairs.csv": rows.to_csv(index=False, lineterminator="\n").encode()}

    def compare(
        self, answer: pd.DataFrame, outputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(answer["rating"].tolist()), outputs["rating"]

    def rows_of(self, files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
        """CSV tables with the columns of the input."""
        records, origin = [], []
        for file in files:
            for record in records_of(file):
                records.append(record)
                origin.append(file)
        if not records:
            raise ValueError("there is no row below the header")
        return pd.DataFrame(records), origin


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


def somebody_new(users: Sequence[str]) -> str:
    """A name that none of the users has."""
    taken, name = set(users), "somebody new"
    while name in taken:
        name += "!"
    return name


def records_of(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of one table, `count` as a number. ValueError names a column that is missing or not known."""
    reader = csv.DictReader(read_text(file).splitlines(), skipinitialspace=True)
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
