"""Predicted ratings: made once, and all that is derived from them and from the vectors of items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.recipe import Figure, Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

PARTS = ("valid", "test")

AT_ONCE = 65536
"""Ratings that are predicted at once: bounds memory, however many there are."""

ACTIVITY = (0, 1, 5, 20, 100)
"""Least training ratings of each row of `error_by_activity`."""

DAMPING = 5.0
"""Ratings of nothing unusual that the simple predictors add to each item and each user (Koren 2009)."""

PREDICTIONS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("user", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("rating", pa.float32(), nullable=False),
        pa.field("predicted", pa.float32(), nullable=False),
        pa.field("user_ratings", pa.int64(), nullable=False),  # training ratings of that user; 0: unknown
        pa.field("item_ratings", pa.int64(), nullable=False),
    ]
)


def predict(subject: Subject) -> pa.Table:
    """One row of PREDICTIONS per rating of the validation and test parts, in the order of the items."""
    from data.ratings.batches import encode

    facts = subject.facts
    of_user = np.concatenate([[0], np.diff(facts["seen"]["starts"])])
    of_item = np.concatenate([[0], facts["counts"]]).astype(np.int64)
    tables = []
    for part in PARTS:
        rows = subject.items.table([part], ["item_id", "user", "item", "title", "rating"])
        users, items = encode(rows["user"], facts["users"]), encode(rows["item"], facts["items"])
        columns = {name: rows[name] for name in rows.column_names} | {
            "part": pa.array([part] * len(users), pa.string()),
            "predicted": pa.array(_rate(subject.network, users, items), pa.float32()),
            "user_ratings": pa.array(of_user[users]),
            "item_ratings": pa.array(of_item[items]),
        }
        tables.append(pa.table({name: columns[name] for name in PREDICTIONS.names}).cast(PREDICTIONS))
    return pa.concat_tables(tables)


def _rate(network: nn.Module, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
    """Predicted ratings (N,) of pairs of codes."""
    import torch

    from models.hardware import device

    here = device()
    network.to(here).eval()
    found = [np.empty(0, np.float32)]
    with torch.no_grad():
        for start in range(0, len(users), AT_ONCE):
            pair = (torch.from_numpy(each[start : start + AT_ONCE]).to(here) for each in (users, items))
            found.append(network(*pair).float().cpu().numpy())
    network.cpu()
    return np.concatenate(found)


def score(predictions: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """mse (the course's), its root, and the mean absolute error; {} without rows."""
    if not predictions.num_rows:
        return {}
    errors = _errors(predictions)
    mse = float(np.mean(errors**2))
    return {"mse": mse, "rmse": mse**0.5, "mae": float(np.mean(np.abs(errors)))}


def _errors(predictions: pa.Table) -> NDArray[np.float64]:
    """Predicted minus given, in float64."""
    given, predicted = (predictions[name].to_numpy().astype(np.float64) for name in ("rating", "predicted"))
    errors: NDArray[np.float64] = predicted - given
    return errors


def tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """Simple predictors beside the network, errors by activity, items by bias, and what it recommends."""
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    if rows.num_rows:
        yield Listing(
            name="simple_predictors",
            table=_simple_predictors(subject, rows),
            title="Beside simple predictors",
            text="Mean squared error on the same validation ratings. A network that does not beat the sum of"
            " a user's and an item's deviation has learned nothing of who likes what.",
        )
        yield Listing(name="error_by_activity", table=_error_by_activity(rows))
    values, name = _item_values(subject)
    yield Listing(name=name, table=_items_by(subject.facts, values, name))
    yield Listing(
        name="recommendations_for_a_new_user",
        table=_recommended(subject),
        title="What it recommends to somebody new",
        text="The items that the average user would rate highest. Somebody who is known, or who gives some"
        " ratings of their own, gets a list of their own (column `ratings` of the exported model).",
    )


def _simple_predictors(subject: Subject, rows: pa.Table) -> pa.Table:
    """Mean squared error of predictors without factors, all from training ratings, and of the network."""
    from data.ratings.batches import encode

    facts = subject.facts
    train = subject.items.table(["train"], ["user", "item", "rating"])
    users, items, valid_users, valid_items = (
        encode(table[column], facts[f"{column}s"]) for table in (train, rows) for column in ("user", "item")
    )
    ratings = train["rating"].to_numpy().astype(np.float64)
    mean = ratings.mean()
    of_item = _deviations(items, ratings - mean, len(facts["items"]))
    of_user = _deviations(users, ratings - mean - of_item[items], len(facts["users"]))
    given = rows["rating"].to_numpy().astype(np.float64)
    guesses = {
        "mean of all ratings": np.full(len(given), mean),
        "and the item's deviation": mean + of_item[valid_items],
        "and the user's deviation": mean + of_item[valid_items] + of_user[valid_users],
        "this network": rows["predicted"].to_numpy().astype(np.float64),
    }
    errors = [float(np.mean((guess - given) ** 2)) for guess in guesses.values()]
    return pa.table({"predictor": list(guesses), "mse": errors})


def _deviations(codes: NDArray[np.int64], values: NDArray[np.float64], known: int) -> NDArray[np.float64]:
    """Damped mean of the values by code; 0 for the unknown one."""
    sums = np.bincount(codes, values, minlength=known + 1)
    deviations: NDArray[np.float64] = sums / (np.bincount(codes, minlength=known + 1) + DAMPING)
    return deviations


def _error_by_activity(rows: pa.Table) -> pa.Table:
    """Mean squared error by how many training ratings the user, and the item, has."""
    squared = _errors(rows) ** 2
    edges = [*ACTIVITY, np.inf]
    found = []
    for of in ("user", "item"):
        counts = rows[f"{of}_ratings"].to_numpy()
        for low, high in pairwise(edges):
            chosen = (counts >= low) & (counts < high)
            if chosen.any():
                found.append(
                    {"of": of, "training_ratings_from": int(low), "ratings": int(chosen.sum()),
                     "mse": float(squared[chosen].mean())}
                )  # fmt: skip
    return pa.Table.from_pylist(found)


def _item_values(subject: Subject) -> tuple[NDArray[np.float64], str]:
    """A value per known item and what it is: its bias, or what the average user would give."""
    from models.ratings.embeddings import DotBias

    if isinstance(subject.network, DotBias):
        bias = subject.network.item_bias.weight.detach()[:, 0].numpy()
        return bias.astype(np.float64), "item_biases"
    return _of_the_average_user(subject), "average_user"


def _of_the_average_user(subject: Subject) -> NDArray[np.float64]:
    known = len(subject.facts["items"])
    rated = _rate(subject.network, np.zeros(known, np.int64), np.arange(1, known + 1))
    return rated.astype(np.float64)


def _most_rated(facts: Mapping[str, Any], count: int) -> NDArray[np.int64]:
    """Places of the items with the most training ratings, most first."""
    places: NDArray[np.int64] = np.argsort(-np.array(facts["counts"]), kind="stable")[:count]
    return places


def _items_by(facts: Mapping[str, Any], values: NDArray[np.float64], name: str) -> pa.Table:
    """All items by value, greatest first."""
    order = np.argsort(-values, kind="stable")
    columns: dict[str, Any] = {
        key: [facts[f"{key}s"][place] for place in order] for key in ("item", "title", "count")
    }
    return pa.table(columns | {name.removeprefix("item_").removesuffix("es"): values[order]})


def _recommended(subject: Subject) -> pa.Table:
    values, facts = _of_the_average_user(subject), subject.facts
    order = np.argsort(-values, kind="stable")[: subject.evaluation.shown]
    return pa.table(
        {
            "title": [facts["titles"][place] for place in order],
            "predicted": values[order].round(3),
            "training_ratings": [facts["counts"][place] for place in order],
        }
    )


def review(predictions: pa.Table, evaluation: Any) -> pa.Table:
    """The ratings that the network misses most; a person may `delete` one that cannot be meant."""
    squared = pa.array(_errors(predictions) ** 2)
    ordered = predictions.append_column("squared_error", squared).sort_by(
        [("squared_error", "descending"), ("item_id", "ascending")]
    )
    worst = ordered.slice(0, evaluation.candidates)
    empty = pa.array([""] * worst.num_rows, pa.string())
    shown = ("user", "title", "rating", "predicted", "squared_error")
    return pa.table(
        {"item_id": worst["item_id"], "action": empty, "label": empty} | {name: worst[name] for name in shown}
    )


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A batch as the network sees it, items by bias, the map of items, errors by rating, the worst errors."""
    from models.ratings import figures

    facts, shown = subject.facts, subject.evaluation.shown
    yield _training_batch(subject)
    known = _most_rated(facts, subject.evaluation.well_known)
    values, name = _item_values(subject)
    label = "bias" if name == "item_biases" else "rating that the average user would give"
    titles = [facts["titles"][place] for place in known]
    yield Figure(
        name=name,
        draw=lambda figure: figures.best_and_worst(figure, titles, values[known], shown=shown, label=label),
    )
    points = _map(subject.network, known)
    if points is not None:
        named = dict(enumerate(titles[: subject.evaluation.mapped]))
        yield Figure(name="item_map", draw=lambda figure: figures.item_map(figure, points, named))
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    if not rows.num_rows:
        return
    given, predicted = (rows[column].to_numpy().astype(np.float64) for column in ("rating", "predicted"))
    yield Figure(name="error_by_rating", draw=lambda figure: figures.by_rating(figure, given, predicted))
    order = np.argsort(-((predicted - given) ** 2), kind="stable")[:shown]
    worst = [
        [row["user"], row["title"], f"{row['rating']:g}", f"{row['predicted']:.2f}", str(row["item_ratings"])]
        for row in rows.take(pa.array(order)).to_pylist()
    ]
    heads = ["user", "title", "given", "predicted", "training ratings of the item"]
    yield Figure(name="top_losses", draw=lambda figure: figures.listing(figure, heads, worst))


def _map(network: Any, known: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """First two principal components of the items' factors (N, 2); None where there are no two."""
    from sklearn.decomposition import PCA

    factors = network.item_factors.weight.detach().numpy()[known].astype(np.float64)
    if min(factors.shape) < 2:
        return None
    points: NDArray[np.float64] = PCA(2, svd_solver="full").fit_transform(factors)
    return points


def _training_batch(subject: Subject) -> Figure:
    """The first ratings of the first batch, with the codes that the network gets."""
    from data.ratings.batches import open_part
    from models.ratings import figures

    facts = subject.facts
    batches = open_part(
        subject.items, "train", facts, batch_size=subject.evaluation.shown, seed=subject.settings.seed
    )
    users, items, ratings = (each.tolist() for each in next(iter(batches.epoch(0))))
    rows = [
        [facts["users"][user - 1], str(user), facts["titles"][item - 1], str(item), f"{rating:g}"]
        for user, item, rating in zip(users, items, ratings, strict=True)
    ]
    heads = ["user", "code", "title", "code", "rating"]
    return Figure(name="training_batch", draw=lambda figure: figures.listing(figure, heads, rows))
