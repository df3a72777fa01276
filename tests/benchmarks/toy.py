"""Sums, raced: what `benchmarks.race` needs of a module of cases, without torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.case import BARE, OURS, PEER, Case, Round

CASES = [
    Case(
        name="sum", title="a sum", unit="numbers", work=1000, sizes={"count": 1000}, goals={BARE: 0.5}, rest=1
    ),
    Case(name="broken", title="a loss", unit="numbers", work=1, sizes={}),
]


def make(folder: Path, sizes: Mapping[str, Any]) -> None:
    """The numbers, as text."""
    (folder / "numbers.txt").write_text("\n".join(map(str, range(sizes.get("count", 1)))))


def summed(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    if not sizes:
        raise SystemExit(3)
    print("noise on the standard output")
    numbers = [int(line) for line in (folder / "numbers.txt").read_text().split()]
    return lambda: lambda: sum(numbers)


def operations(sizes: Mapping[str, Any]) -> float:
    """One addition a number."""
    return 1.0


VARIANTS = {OURS: summed, BARE: summed, PEER: summed}
