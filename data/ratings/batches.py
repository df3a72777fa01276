"""Batches of ratings: slices of tensors, drawn without replacement by (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from data.examples import Items
from data.ratings import seen

UNKNOWN = 0
"""Code of a user or an item without a training rating; the known ones count from 1."""

Codes = npt.NDArray[np.int64]


class RatingBatches:
    """Users (B,) int64, items (B,) int64, ratings (B,) float32; the last batch may be smaller.

    With a `seed` every epoch has an order of its own, in which each rating stands once.
    """

    def __init__(
        self,
        users: Codes,
        items: Codes,
        ratings: npt.NDArray[np.float32],
        *,
        batch_size: int,
        seed: int | None,
    ) -> None:
        self.tensors = (torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(ratings))
        self.batch_size, self.seed = batch_size, seed

    def __len__(self) -> int:
        """Steps per epoch."""
        return -(-len(self.tensors[0]) // self.batch_size)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of one epoch without the first `start`.

        The columns are gathered once; a batch is then a view of each, which costs no more than its slice.
        """
        columns = self.tensors
        if self.seed is not None:
            order = torch.from_numpy(np.random.default_rng([self.seed, number]).permutation(len(columns[0])))
            columns = (columns[0][order], columns[1][order], columns[2][order])
        users, items, ratings = (
            torch.split(column[start * self.batch_size :], self.batch_size) for column in columns
        )
        yield from zip(users, items, ratings, strict=True)


def vocabulary(items: Items) -> dict[str, Any]:
    """What the training ratings tell, as JSON: who and what there is, and how often.

    `users`, `items` (text, in order; their codes count from 1), `titles` and `counts` (ratings) of the items,
    `lowest`, `highest`, `mean` and `variance` of the ratings, and `seen`: what each user has rated.
    """
    table = items.table(["train"], ["user", "item", "title", "rating"])
    if not table.num_rows:
        raise ValueError("the training part holds no rating; look at split.valid and split.test")
    users, names = (_sorted(table[column]) for column in ("user", "item"))
    codes = encode(table["item"], names)
    first = np.unique(codes, return_index=True)[1]
    ratings = table["rating"].to_numpy().astype(np.float64)
    return {
        "users": users,
        "items": names,
        "titles": table["title"].take(pa.array(first)).to_pylist(),
        "counts": np.bincount(codes, minlength=len(names) + 1)[1:].tolist(),
        "lowest": float(ratings.min()),
        "highest": float(ratings.max()),
        "mean": float(ratings.mean()),
        "variance": float(ratings.var()),
        "seen": seen.pack(encode(table["user"], users), codes, known=len(users)),
    }


def _sorted(column: pa.ChunkedArray) -> list[str]:
    """Distinct texts; whole numbers by size, so that neighbours in lists are neighbours in sense."""
    names: list[str] = pc.unique(column).to_pylist()
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def encode(column: pa.ChunkedArray | pa.Array, names: Sequence[str]) -> Codes:
    """Codes (N,): the place in `names` counted from 1, and UNKNOWN for any other text."""
    found = pc.index_in(column, value_set=pa.array(names, pa.string()))
    codes: Codes = pc.fill_null(found, -1).to_numpy().astype(np.int64) + 1
    return codes


def open_part(
    items: Items, part: str, facts: Mapping[str, Any], *, batch_size: int, seed: int | None = None
) -> RatingBatches:
    """Batches of one part in the codes of `facts`; shuffled where a seed is given."""
    table = items.table([part], ["user", "item", "rating"])
    return RatingBatches(
        encode(table["user"], facts["users"]),
        encode(table["item"], facts["items"]),
        table["rating"].to_numpy().astype(np.float32),
        batch_size=batch_size,
        seed=seed,
    )
