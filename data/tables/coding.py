"""Cleaned rows to tensors: vocabularies and statistics of the training rows, codes and normalised numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.examples import Items
from data.tables.prepare import nearest, normalise, part_names

CELLS = ("categories", "numbers")

ROWS = 2**16
"""Rows whose cells are held as texts at once."""


def describe_columns(items: Items) -> dict[str, Any]:
    """What `clean` called the cells (see `cleaning.table_schema`)."""
    first = next(iter(items.batches(columns=["columns"], rows=1)))
    described: dict[str, Any] = json.loads(first["columns"][0].as_py())
    return described


def learn_columns(
    items: Items, *, inputs: Sequence[str] = (), leave_out: Sequence[str] = ()
) -> dict[str, Any]:
    """Vocabularies and statistics of the training rows, as JSON (the facts that `prepare.encode` asks for).

    `categories`: name and vocabulary (texts in their order; code 0 is for missing and unseen ones).
    `numbers`: name, median, mean and std after filling, and `flag`, whether a training row has a gap.
    ValueError for a name in `inputs` or `leave_out` that is no column, and for numbers that no training row
    has.
    """
    described = describe_columns(items)
    names = [*described["categories"], *described["numbers"]]
    for name in (*inputs, *leave_out):
        if name not in names:
            setting = "inputs" if name in inputs else "leave_out"
            raise ValueError(f"fine_tune.{setting}: there is no column {name!r}{nearest(name, names)}")
    chosen = [name for name in names if (name in inputs or not inputs) and name not in leave_out]
    if not chosen:
        raise ValueError("fine_tune.leave_out leaves no column to learn from")
    vocabularies: dict[str, set[str]] = {name: set() for name in described["categories"]}
    values = np.empty((len(described["numbers"]), items.count(["train"])))
    for here, rows in _stretches(items, "train"):
        for name, seen in vocabularies.items():
            seen.update(pc.unique(texts_of(rows, described, name)).drop_null().to_pylist())
        for place, name in enumerate(described["numbers"]):
            values[place, here] = numbers_of(rows, described, name)
    categories = [
        {"name": name, "vocabulary": sorted(seen, key=_order)}
        for name, seen in vocabularies.items()
        if name in chosen
    ]
    numbers = [
        {"name": name, **_statistics(name, column)}
        for name, column in zip(described["numbers"], values, strict=True)
        if name in chosen
    ]
    parts = {name: set(part_names(name).values()) for name in described["dates"]}
    return {
        **{key: described[key] for key in ("missing", "decimal", "date_format")},
        "categories": categories,
        "numbers": numbers,
        "dates": {name: described["dates"][name] for name, made in parts.items() if made & set(chosen)},
    }


def _stretches(items: Items, part: str) -> Iterator[tuple[slice, pa.Table]]:
    """The cells of one part a stretch at a time, with the places of its rows in the part."""
    start = 0
    for batch in items.batches([part], CELLS, rows=ROWS):
        yield slice(start, start + batch.num_rows), pa.Table.from_batches([batch])
        start += batch.num_rows


def texts_of(table: pa.Table, described: Mapping[str, Any], name: str) -> pa.Array:
    """One column of names, null where it is missing."""
    place = described["categories"].index(name)
    return pc.list_element(table["categories"].combine_chunks(), place)


def numbers_of(table: pa.Table, described: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    """One column of quantities, nan where it is missing."""
    place = described["numbers"].index(name)
    column = pc.list_element(table["numbers"].combine_chunks(), place)
    values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def column_of(table: pa.Table, described: Mapping[str, Any], name: str) -> pa.Array:
    """Any column as it was cleaned. ValueError with the nearest name where there is none."""
    if name in described["categories"]:
        return texts_of(table, described, name)
    if name in described["numbers"]:
        return pa.array(numbers_of(table, described, name), from_pandas=True)
    names = [*described["categories"], *described["numbers"]]
    raise ValueError(f"there is no cleaned column {name!r}{nearest(name, names)}")


def encode_part(
    items: Items, part: str, facts: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Codes (N, categories and flags) and normalised numbers (N, numbers) of one part, as
    `prepare.encode`."""
    described, count = describe_columns(items), items.count([part])
    codes = np.zeros((count, len(facts["categories"]) + flags(facts)), np.int64)
    numbers = np.zeros((count, len(facts["numbers"])), np.float32)
    vocabularies = [pa.array(each["vocabulary"], pa.string()) for each in facts["categories"]]
    for here, rows in _stretches(items, part):
        for place, each in enumerate(facts["categories"]):
            found = pc.index_in(texts_of(rows, described, each["name"]), value_set=vocabularies[place])
            codes[here, place] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        flag = len(facts["categories"])
        for place, each in enumerate(facts["numbers"]):
            values = numbers_of(rows, described, each["name"])
            numbers[here, place] = normalise(values, each)
            if each["flag"]:
                codes[here, flag] = np.isnan(values) + 1
                flag += 1
    return codes, numbers


def class_targets(items: Items, part: str, classes: Sequence[str]) -> NDArray[np.int64]:
    """The place of each row's label in `classes`, -1 where there is none. ValueError names a label that
    training never saw."""
    labels = items.table([part], ["label"])["label"].combine_chunks()
    unknown = sorted(set(pc.unique(labels).to_pylist()) - {*classes, None})
    if unknown:
        raise ValueError(
            f"no training row has the label {unknown[0]!r} ({len(unknown)} such labels): name the labels in"
            " clean.classes, or use another split"
        )
    found = pc.index_in(labels, value_set=pa.array(classes, pa.string()))
    targets: NDArray[np.int64] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return targets


def class_names(items: Items) -> list[str]:
    """The labels of the training rows in alphabetical order."""
    return sorted(set(items.table(["train"], ["label"])["label"].unique().to_pylist()) - {None})


def number_targets(items: Items, part: str) -> NDArray[np.float64]:
    """The target of each row, nan where there is none."""
    column = items.table([part], ["target"])["target"].combine_chunks()
    targets: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return targets


def learn_target(items: Items, *, log: bool, headroom: float | None) -> dict[str, Any]:
    """Facts of a quantity: `log`, and in its (logarithmic) units `mean`, `std` and `limits` (or null).

    The limits leave `headroom` times the range, or times the largest value where it is logarithmic (then the
    least prediction is 1, as in the course). ValueError where a logarithm does not exist.
    """
    values = number_targets(items, "train")
    values = values[~np.isnan(values)]
    if log and not (values > 0).all():
        raise ValueError(
            f"fine_tune.log_target: {int((values <= 0).sum())} training rows have a target of 0 or less;"
            " leave them out by clean.above"
        )
    low, high = float(values.min()), float(values.max())
    limits = None
    if headroom is not None:
        room = (headroom - 1) * max(high - low, 1e-6)
        limits = [0.0, float(np.log(high * headroom))] if log else [low - room, high + room]
    seen = np.log(values) if log else values
    return {"log": log, "mean": float(seen.mean()), "std": max(float(seen.std()), 1e-6), "limits": limits}


def flags(facts: Mapping[str, Any]) -> int:
    """How many numbers have a flag among the codes that says that they are missing."""
    return sum(each["flag"] for each in facts["numbers"])


def coded_columns(facts: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Name and vocabulary of every column of the codes: categories, then flags (1 is False, 2 is True)."""
    named = [(each["name"], list(each["vocabulary"])) for each in facts["categories"]]
    return named + [(f"{each['name']}_na", ["False", "True"]) for each in facts["numbers"] if each["flag"]]


def question(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What turns a user's row into codes and numbers (see `prepare.encode`), as JSON."""
    keys = ("categories", "numbers", "dates", "missing", "decimal", "date_format")
    return {key: facts[key] for key in keys}


def _order(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _statistics(name: str, values: NDArray[np.float64]) -> dict[str, Any]:
    gaps = np.isnan(values)
    if gaps.all():
        raise ValueError(
            f"no training row has a number in column {name!r}: leave it out (fine_tune.leave_out)"
        )
    median = float(np.median(values[~gaps]))
    filled = np.where(gaps, median, values)
    std = float(filled.std(ddof=1)) if len(filled) > 1 else 0.0
    return {"median": median, "mean": float(filled.mean()), "std": std, "flag": bool(gaps.any())}
