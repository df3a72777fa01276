"""The gate between split and training: what the parts share although they should not."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.examples import PARTS

LISTED = 1000
"""Pairs that the verdict lists per kind; all are counted."""

KINDS = ("exact", "near", "group", "time")


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Two examples in different parts that should not be apart."""

    kind: str
    """`exact`: equal content; `near`: nearly equal; `group`: one group; `time`: order of time broken."""
    left: str
    """Item id, of the earlier part."""
    right: str
    left_part: str
    right_part: str
    evidence: dict[str, float | int | str | bool] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ", ".join(f"{name} {value}" for name, value in self.evidence.items())
        return f"{self.kind}: {self.left!r} ({self.left_part}) and {self.right!r} ({self.right_part}; {said})"


def shared(index: pd.DataFrame, parts: npt.NDArray[Any], *, kind: str, column: str) -> list[Leak]:
    """A leak for each value of `column` and each two neighbouring parts that both hold it."""
    rows = np.flatnonzero(np.isin(parts, PARTS) & index[column].notna().to_numpy())
    codes, values = pd.factorize(index[column].iloc[rows])
    met_in = np.stack([np.bincount(codes[parts[rows] == part], minlength=len(values)) > 0 for part in PARTS])
    rows = rows[(met_in.sum(axis=0) > 1)[codes]]  # few, as a rule: only they are told apart by name
    table = pd.DataFrame(
        {
            "value": index[column].iloc[rows].to_numpy(),
            "part": parts[rows],
            "item": index["item_id"].iloc[rows].to_numpy(),
        }
    )
    leaks = []
    for value, alike in table.groupby("value", sort=True):
        firsts = alike.drop_duplicates("part").set_index("part")["item"]
        met = [part for part in PARTS if part in firsts.index]
        for left, right in pairwise(met):
            evidence: dict[str, float | int | str | bool] = {column: str(value), "examples": len(alike)}
            leaks.append(_leak(kind, firsts[left], firsts[right], left, right, evidence))
    return leaks


def out_of_order(index: pd.DataFrame, parts: npt.NDArray[Any]) -> list[Leak]:
    """A leak for each part whose first example is not later than the last of the part before it."""
    leaks = []
    filled = [part for part in PARTS if index["time"][parts == part].notna().any()]
    for left, right in pairwise(filled):
        last = index["time"][parts == left].idxmax()
        first = index["time"][parts == right].idxmin()
        if index["time"][last] >= index["time"][first]:
            evidence: dict[str, float | int | str | bool] = {
                "last": str(index["time"][last]), "first": str(index["time"][first]),
            }  # fmt: skip
            leaks.append(
                _leak("time", index["item_id"][last], index["item_id"][first], left, right, evidence)
            )
    return leaks


def verdict(leaks: Iterable[Leak], *, stops: bool, **facts: Any) -> dict[str, Any]:
    """The content of `leaks.json`: `passed`, `reported` or `stopped`, counts by kind, and the pairs."""
    leaks = list(leaks)
    counts = {kind: sum(leak.kind == kind for leak in leaks) for kind in KINDS}
    listed = [leak for kind in KINDS for leak in [each for each in leaks if each.kind == kind][:LISTED]]
    word = "passed" if not leaks else "stopped" if stops else "reported"
    return {"verdict": word, "leaks": counts, **facts, "pairs": [asdict(leak) for leak in listed]}


def explain(leaks: list[Leak], *, shown: int = 5) -> str:
    """The message of a run that the gate stops."""
    counts = ", ".join(
        f"{count} {kind}" for kind in KINDS if (count := sum(leak.kind == kind for leak in leaks))
    )
    first = "\n".join(f"  {leak}" for leak in leaks[:shown])
    more = f"\n  and {len(leaks) - shown} more" if len(leaks) > shown else ""
    return (
        f"the parts share what they should not ({counts}):\n{first}{more}\n"
        "Set split.duplicates: together (near duplicates share a part), split.method: group (groups do),"
        " delete items by a corrections table, or accept them with split.leaks: report"
    )


def across(parts: npt.NDArray[Any]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Row numbers of each two sides that must not share anything: held out and train, test and valid."""
    rows = {part: np.flatnonzero(parts == part) for part in PARTS}
    held_out = np.concatenate([rows["valid"], rows["test"]])
    return [(held_out, rows["train"]), (rows["test"], rows["valid"])]


def _leak(
    kind: str,
    left: Any,
    right: Any,
    left_part: str,
    right_part: str,
    evidence: dict[str, float | int | str | bool],
) -> Leak:
    return Leak(
        kind=kind,
        left=str(left),
        right=str(right),
        left_part=left_part,
        right_part=right_part,
        evidence=evidence,
    )
