"""What a course shows while it runs, and the table at its end."""

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from tqdm import tqdm

STEP = re.compile(r"^(\w+)@(\S+): (running|ran|restored|current)$")
"""A line of `flows/chain.py` about one stage."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one member ended."""

    name: str
    outcome: Literal["done", "failed", "skipped"]
    text: str
    """What was done, or why not, in one line."""
    metric: str = ""
    seconds: float = 0.0


class Board:
    """A line for every step, and on a terminal a bar with what runs now; a context manager.

    Steps are read from the logs of the members, so it is the same wherever in the checkout they run.
    """

    def __init__(self, total: int) -> None:
        """`total` is the number of members."""
        self.rows: list[Row] = []
        self._running: dict[str, _Member] = {}
        self._bar = tqdm(total=total, desc="course", unit="", disable=None, leave=False)

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.close()

    def start(self, name: str, application: str, log: Path) -> None:
        """A member was given to a worker."""
        log.unlink(missing_ok=True)  # an earlier course's
        self._running[name] = _Member(application=application, log=log)
        self._say(f"{name}: started")

    def look(self) -> None:
        """Show the steps that were made since the last look."""
        for member in self._running.values():
            for step in member.news():
                self._say(step)
        self._show()

    def end(self, row: Row) -> None:
        """A member ended, or was skipped."""
        self.look()
        self.rows.append(row)
        member = self._running.pop(row.name, None)
        if member is not None:
            member.close()
        self._bar.update()
        self._say(f"{row.name}: {row.outcome}: {row.text}")

    def seconds(self, name: str) -> float:
        """Since the member was started."""
        return round(time.monotonic() - self._running[name].began, 1)

    def _say(self, line: str) -> None:
        tqdm.write(f"{self.counts()} {line}")

    def _show(self) -> None:
        now = ", ".join(f"{name} {member.stage}".strip() for name, member in self._running.items())
        self._bar.set_postfix_str(now)

    def counts(self) -> str:
        """Ended of all, and how many of those failed or were skipped."""
        bad = sum(row.outcome != "done" for row in self.rows)
        return f"[{len(self.rows)}/{self._bar.total}{f', {bad} not done' if bad else ''}]"


class _Member:
    """A running member's log, read as it grows."""

    def __init__(self, *, application: str, log: Path) -> None:
        self.application = application
        self.log = log
        self.stage = ""
        self.began = time.monotonic()
        self._file: TextIO | None = None
        self._rest = ""

    def news(self) -> list[str]:
        """Whole new lines about the member's own stages."""
        if self._file is None:
            if not self.log.exists():
                return []
            self._file = self.log.open(errors="replace")
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        steps = [found for found in map(STEP.match, lines) if found and found[2] == self.application]
        if steps:
            self.stage = steps[-1][1]
        return [found[0] for found in steps]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def summary(done: Mapping[str, str]) -> str:
    """One line for people."""
    counts = {how: sum(each == how for each in done.values()) for how in ("ran", "restored", "current")}
    if counts["current"] == len(done):
        return f"nothing to do: all {len(done)} stages are current"
    return ", ".join(f"{count} {how}" for how, count in counts.items() if count)


def table(rows: Collection[Row]) -> list[str]:
    """One line per member: name, what was done or why not, headline metric, seconds."""
    cells = [("application", "result", "headline metric", "seconds")]
    for row in rows:
        text = row.text if row.outcome == "done" else f"{row.outcome}: {row.text}"
        cells.append((row.name, text, row.metric or "-", f"{row.seconds:.1f}"))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def records(rows: Collection[Row]) -> list[dict[str, Any]]:
    """The same for a table of Prefect's pages."""
    return [asdict(row) for row in rows]
