"""Which example is held out: drawn anew (random, stratified, by group), by time or order, or as published."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.examples import PARTS

Rows = npt.NDArray[np.int64]
OUT = ""
"""In place of a part: the example is left out."""


@dataclass(frozen=True, kw_only=True)
class Division:
    """The part of every row of the index, and what had to be decided on the way."""

    parts: npt.NDArray[Any]
    """One of PARTS per row, or OUT."""
    small_classes: dict[str, int] = field(default_factory=dict)
    """Examples of each class that has fewer than there are parts."""
    unseen_classes: dict[str, int] = field(default_factory=dict)
    """Held-out examples of each class that training never sees."""


def divide(
    index: pd.DataFrame, *, method: str, valid: float, test: float, seed: int, small_classes: str = "train",
    ties: Iterable[tuple[int, int]] = (), folds: int = 0, fold: int = 0,
) -> Division:  # fmt: skip
    """Give every row a part. `index`: columns item_id, label, part, group, time, digest, sorted by item_id.

    Equal content (digest) and `ties` (pairs of row numbers) always share a part in a draw; unlabelled
    examples among labelled ones are never drawn, they are test. A class with fewer examples than parts goes
    to training or is left out (`small_classes`); by time and order it stays where that puts it.
    ValueError where the method lacks its column, a part would be empty, or the published parts are
    incomplete.
    `folds`: the valid part is number `fold` of so many equal ones, in the place of a share.
    """
    if folds and method in ("published", "time", "order"):
        raise ValueError(
            f"split.folds has no effect on split.method {method}; use stratified, random or group"
        )
    if valid + test >= 1:
        raise ValueError(
            f"split.valid + split.test is {valid + test:g}; below 1, so that something is trained on"
        )
    if method == "published":
        return _report(index, _published(index), {})
    labels = index["label"]
    fixed = (labels.isna() & (index["part"].eq("test") | bool(labels.notna().any()))).to_numpy()
    parts = np.full(len(index), OUT, dtype=object)
    parts[fixed] = "test"
    drawn = np.flatnonzero(~fixed)
    counts = labels[drawn].value_counts()
    small = {
        str(name): int(count) for name, count in counts.items() if 0 < count < 1 + (valid > 0) + (test > 0)
    }
    is_small = labels.isin(list(small)).to_numpy()
    if small_classes == "reject":
        drawn = drawn[~is_small[drawn]]
    if not len(drawn):
        raise ValueError("no example is left to draw from; look at split.small_classes and clean.unlabelled")
    if method == "time":
        parts[drawn] = _by_time(index.loc[drawn], valid=valid, test=test)
    elif method == "order":
        parts[drawn] = _by_order(len(drawn), valid=valid, test=test)
    else:
        units = _units(index.loc[drawn, ["digest", "group"]], list(ties), group=method == "group")
        keep = np.isin(units, units[is_small[drawn]])  # with their class too small, or tied to such a one
        if method == "stratified" and labels.isna().all():
            raise ValueError("split.method is stratified, but no example has a label; use random")
        strata = _strata(labels[drawn]) if method == "stratified" else np.zeros(len(drawn), dtype=np.int64)
        parts[drawn] = "train"
        share = len(drawn) / max((~keep).sum(), 1)  # small classes count for the shares, but are not drawn
        if folds:
            held_out = _folds(units[~keep], strata[~keep], folds=folds, seed=seed) == fold
            parts[drawn[~keep]] = np.where(held_out, "valid", "train")
        else:
            parts[drawn[~keep]] = _draw(
                units[~keep], strata[~keep], valid=valid * share, test=test * share, seed=seed
            )
    _check_filled(parts, len(drawn), valid=valid, test=test)
    return _report(index, parts, small)


def _strata(labels: "pd.Series[str]") -> Rows:
    """The number of each label in the order of the alphabet."""
    codes, names = pd.factorize(labels)
    order = sorted(range(len(names)), key=lambda code: str(names[code]))
    ranks: Rows = np.argsort(order)[codes]
    return ranks


def _draw(units: Rows, strata: Rows, *, valid: float, test: float, seed: int) -> npt.NDArray[Any]:
    """Whole units at random into valid and test, per stratum; a unit counts to that of its first row."""
    random = np.random.default_rng(seed)
    units = _dense(units)
    sizes = np.bincount(units)
    first = np.empty(len(sizes), dtype=np.int64)
    first[units[::-1]] = np.arange(len(units))[::-1]
    stratum = _dense(strata[first])
    part_of = np.full(len(sizes), "train", dtype=object)
    totals = np.bincount(stratum, weights=sizes).astype(np.int64)
    quotas = {"valid": _quotas(totals, valid), "test": _quotas(totals, test)}
    ends = np.cumsum(np.bincount(stratum))
    for number, members in enumerate(np.split(np.argsort(stratum, kind="stable"), ends)[:-1]):
        left = random.permutation(members)
        for part, quota in quotas.items():
            chosen = _take(left, sizes, int(quota[number]))
            part_of[chosen] = part
            left = left[~np.isin(left, chosen)]
    parts: npt.NDArray[Any] = part_of[units]
    return parts


def _dense(numbers: Rows) -> Rows:
    """The numbers without gaps between them, in their order: 2, 5, 2 becomes 0, 1, 0."""
    dense: Rows = (np.cumsum(np.bincount(numbers) > 0) - 1)[numbers]
    return dense


def _folds(units: Rows, strata: Rows, *, folds: int, seed: int) -> Rows:
    """The fold of every row: whole units, strata as even as they go."""
    from sklearn.model_selection import StratifiedGroupKFold

    most = len(np.unique(units))
    if folds > most:
        raise ValueError(f"split.folds is {folds}, but only {most} examples can be told apart")
    number = np.zeros(len(units), dtype=np.int64)
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer examples than folds
        for fold, (_, held_out) in enumerate(cut.split(units, strata, units)):
            number[held_out] = fold
    return number


def _take(units: Rows, sizes: Rows, quota: int) -> Rows:
    """From the front whatever still fits; where nothing does, the smallest unit, but never the last one."""
    chosen: list[Rows] = []
    left, room = units, len(units) - 1
    while quota > 0 and room > 0:
        left = left[sizes[left] <= quota]
        if not len(left):
            break
        ends = np.cumsum(sizes[left])
        taken = min(int(np.searchsorted(ends, quota, side="right")), room)  # all up to the first too large
        chosen.append(left[:taken])
        quota -= int(ends[taken - 1])
        left, room = left[taken:], room - taken
    if not chosen and quota > 0 and len(units) > 1:
        chosen = [units[[np.argmin(sizes[units])]]]
    return np.concatenate([np.empty(0, np.int64), *chosen])


def _quotas(totals: Rows, share: float) -> Rows:
    """Examples per stratum: proportional by largest remainder, at least one of each where any is wanted."""
    exact = totals * share
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    lacking = round(float(totals.sum()) * share) - int(quotas.sum())
    largest = np.argsort(-(exact - quotas), kind="stable")[: max(lacking, 0)]
    quotas[largest] += 1
    at_least: Rows = np.maximum(quotas, int(share > 0))
    return at_least


def _units(index: pd.DataFrame, ties: list[tuple[int, int]], *, group: bool) -> Rows:
    """A number per row, equal for rows that must share a part: content, ties, and group where asked for."""
    links = [_links(index["digest"])]
    if group:
        if index["group"].isna().all():
            raise ValueError("split.method is group, but no example has a group; set clean.group")
        links.append(_links(index["group"]))
    place = pd.Series(np.arange(len(index)), index=index.index) if ties else pd.Series(dtype=np.int64)
    inside = [
        (place[left], place[right]) for left, right in ties if left in place.index and right in place.index
    ]
    if inside:
        links.append(np.array(inside, dtype=np.int64).T)
    source, target = np.concatenate(links, axis=1)
    if not len(source):
        return np.arange(len(index))
    from scipy.sparse import coo_array  # a fifth of the time in which the stage starts, and most need none
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(source), dtype=bool), (source, target)), shape=(len(index), len(index)))
    units: Rows = connected_components(graph, directed=False)[1].astype(np.int64)
    return units


def _links(values: "pd.Series[str]") -> Rows:
    """Each row with a value that an earlier row has, linked to the first of them."""
    codes = pd.factorize(values)[0]
    rows = np.flatnonzero(codes >= 0)
    first = rows[np.unique(codes[rows], return_index=True)[1]][codes[rows]]
    links: Rows = np.stack([rows, first])[:, rows != first]
    return links


def _by_time(index: pd.DataFrame, *, valid: float, test: float) -> npt.NDArray[Any]:
    """The latest examples are test, those before them valid; equal times are never separated."""
    missing = index.index[index["time"].isna()]
    if len(missing):
        raise ValueError(
            f"split.method is time, but {len(missing)} of {len(index)} examples have none"
            f" (first: {index['item_id'][missing[0]]!r}); set clean.time"
        )
    times = np.sort(index["time"].to_numpy())
    parts = np.full(len(index), "train", dtype=object)
    count = len(times)
    for part, share in (("valid", valid + test), ("test", test)):
        first = count - round(count * share)
        if share > 0 and first < count:
            boundary = times[first]
            if first and times[first - 1] == boundary:  # a tie: all of it goes to the earlier part
                later = times[times > boundary]
                boundary = later[0] if len(later) else boundary
            parts[index["time"].to_numpy() >= boundary] = part
    return parts


def _by_order(count: int, *, valid: float, test: float) -> npt.NDArray[Any]:
    """The last examples by item id are test, those before them valid."""
    parts = np.full(count, "train", dtype=object)
    parts[count - round(count * (valid + test)) :] = "valid"
    parts[count - round(count * test) :] = "test"
    return parts


def _published(index: pd.DataFrame) -> npt.NDArray[Any]:
    without = index.index[index["part"].isna()]
    if len(without):
        raise ValueError(
            f"split.method is published, but {len(without)} of {len(index)} examples lie in no published part"
            f" (first: {index['item_id'][without[0]]!r}); name their folder in clean.parts, or use stratified"
        )
    published = set(index["part"])
    for part in ("train", "valid"):
        if part not in published:
            raise ValueError(
                f"split.method is published, but there is no part {part} (there is"
                f" {', '.join(sorted(published))}); map one to {part} in clean.parts or clean.lists,"
                " or use stratified"
            )
    parts: npt.NDArray[Any] = index["part"].to_numpy(dtype=object)
    return parts


def _check_filled(parts: npt.NDArray[Any], count: int, *, valid: float, test: float) -> None:
    for part, wanted in (("train", True), ("valid", valid > 0), ("test", test > 0)):
        if wanted and not (parts == part).any():
            raise ValueError(
                f"the {part} part would be empty: {count} examples, split.valid {valid:g},"
                f" split.test {test:g}; change the shares or the method"
            )


def _report(index: pd.DataFrame, parts: npt.NDArray[Any], small: dict[str, int]) -> Division:
    trained = set(index["label"][parts == "train"].dropna().unique())
    held_out = index["label"][np.isin(parts, PARTS[1:])].dropna()
    unseen = held_out[~held_out.isin(trained)].value_counts() if trained else held_out[:0].value_counts()
    return Division(
        parts=parts,
        small_classes=dict(sorted(small.items())),
        unseen_classes={str(name): int(count) for name, count in sorted(unseen.items()) if count},
    )
