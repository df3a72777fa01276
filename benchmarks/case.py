"""What is raced: equal work that several variants do, each in a process of its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

OURS, BARE, PEER = "practicum", "bare", "fastai"
"""Variants: this project, the plainest loop on the same libraries, and the course's library."""

Round = Callable[[], Any]
"""The work that is timed. What it returns shows that variants did the same: a loss, a count, a shape."""
Variant = Callable[[Path, Mapping[str, Any]], Callable[[], Round]]
"""(folder with the data, sizes) -> what makes a round ready, which is not timed -> the round."""

SMALL_STEPS = (
    "fastai draws rows with replacement; equal numbers of steps are compared. From 10,000 steps on ours"
    " replays them; the import of the tracer, 1.4 s once a process, falls into a round that is not counted."
)
"""The note of cases whose steps are mostly overhead."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the page."""

    name: str
    title: str
    unit: str
    """What is counted, in the plural."""
    work: float
    """Units that a round does."""
    sizes: Mapping[str, Any]
    goals: Mapping[str, float] = field(default_factory=dict)
    """How many times as fast as a variant this project shall be."""
    rounds: int = 5
    rest: int = 0
    """Rounds of each variant that are not counted: what only the first epoch costs."""
    note: str = ""
    """What the reader must know: what differs, what is not counted."""


@dataclass(frozen=True)
class Entry:
    """A case with the module that knows how to do it."""

    module: str
    case: Case

    @property
    def variants(self) -> Mapping[str, Variant]:
        """By name."""
        return dict(importlib.import_module(self.module).VARIANTS)

    @property
    def counts_operations(self) -> bool:
        """Whether the module has `operations`: how many a unit of work takes."""
        return hasattr(importlib.import_module(self.module), "operations")


def entries(only: str = "") -> list[Entry]:
    """The cases of all modules of `benchmarks.cases` whose name contains `only`."""
    from benchmarks import cases

    found: list[Entry] = []
    for each in sorted(pkgutil.iter_modules(cases.__path__), key=lambda one: one.name):
        module: ModuleType = importlib.import_module(f"{cases.__name__}.{each.name}")
        found += [Entry(module.__name__, case) for case in module.CASES if only in case.name]
    return found
