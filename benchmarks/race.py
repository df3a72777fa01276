"""Variants of a case in alternation: the noise of the machine falls on all of them alike."""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.case import OURS, PEER, Entry

ROOT = Path(__file__).resolve().parent.parent

Found = Sequence[Mapping[str, Any]]
"""What a worker answered, round by round."""


class Runner:
    """A running worker."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name, self.process = name, process
        self.ask(None)

    def ask(self, line: str | None = "round") -> dict[str, Any]:
        """The answer to a line; RuntimeError where the worker has died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if line is not None:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}; its messages are above")
        return dict(json.loads(answer))


@contextmanager
def started(entry: Entry, variant: str, folder: Path, *, python: str, threads: int) -> Iterator[Runner]:
    """A worker that is ready; it ends with the block."""
    line = [python, "-W", "ignore", "-m", "benchmarks.worker"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [*line, entry.module, entry.case.name, variant, str(folder), str(threads)],
        cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Runner(f"{entry.case.name} {variant}", process)
    finally:
        process.kill()
        process.wait()


def race(entry: Entry, *, peer: str | None, threads: int = 1, rounds: int | None = None) -> dict[str, Any]:
    """Figures of all variants of a case, as JSON; without `peer`, a Python with fastai, those of the others.

    Ratios: how many times as fast this project is as the other. `best`: shortest time by shortest time, which
    noise disturbs least; `paired`: median over the rounds, and their `least` and `most`; `processor`: least
    processor time by least processor time.
    """
    case = entry.case
    with TemporaryDirectory(prefix="benchmark-") as place, ExitStack() as running:
        folder = Path(place)
        importlib.import_module(entry.module).make(folder, case.sizes)
        pythons = dict.fromkeys(entry.variants, sys.executable)
        if PEER in pythons and peer:
            pythons[PEER] = peer
        else:
            pythons.pop(PEER, None)
        runners = {
            name: running.enter_context(started(entry, name, folder, python=python, threads=threads))
            for name, python in pythons.items()
        }
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in runners}
        names = list(runners)
        for number in range(case.rest + (rounds or case.rounds)):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                found = runners[name].ask()
                if number >= case.rest:
                    measured[name].append(found)
        variants = {name: _figures(case.work, found) for name, found in measured.items()}
        if entry.counts_operations:
            found = runners[OURS].ask("rate")
            share = found["operations"] * variants[OURS]["best"] / found["hardware"]
            variants[OURS]["bf16"] = {**found, "share": share}
    return {
        "title": case.title, "unit": case.unit, "work": case.work, "sizes": dict(case.sizes),
        "note": case.note, "goals": dict(case.goals), "threads": threads,
        "variants": variants,
        "ratios": {name: _ratios(measured[name], measured[OURS]) for name in measured if name != OURS},
    }  # fmt: skip


def _figures(work: float, found: Found) -> dict[str, Any]:
    rates = sorted(work / each["seconds"] for each in found)
    on_device = [each["device_memory"] for each in found if "device_memory" in each]
    return {
        "best": rates[-1], "median": statistics.median(rates), "least": rates[0],
        "memory": max(each["memory"] for each in found),
        "device_memory": max(on_device, default=None),
        "check": found[-1]["check"], "rounds": len(found),
    }  # fmt: skip


def _ratios(theirs: Found, ours: Found) -> dict[str, float]:
    def least(found: Found, what: str) -> float:
        return min(float(each[what]) for each in found)

    paired = [other["seconds"] / own["seconds"] for other, own in zip(theirs, ours, strict=True)]
    return {
        "best": least(theirs, "seconds") / least(ours, "seconds"),
        "paired": statistics.median(paired), "least": min(paired), "most": max(paired),
        "processor": least(theirs, "processor") / max(least(ours, "processor"), 1e-9),
    }  # fmt: skip
