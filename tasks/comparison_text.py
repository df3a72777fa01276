"""A comparison of runs as text for a terminal: a column per run, then what became of single items."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.compare import Comparison, Row, when
from tasks.outcomes import Changes

WIDTH = 18
"""Longest cell; more is cut with an ellipsis."""
LABEL = 44
"""Longest name of a row, cut at its beginning: the end of a path tells more."""


def as_text(found: Comparison, *, shown: int = 20) -> str:
    """The table of runs, and up to `shown` of the items that two of them judge differently."""
    blocks = [_table(found)] if found.rows else []
    blocks += _items(found, shown) if found.changes is not None else [found.note]
    return "\n\n".join(blocks)


def _table(found: Comparison) -> str:
    best, headline = found.best(), found.metrics()[:1]
    names = {row.run_id: row.name for row in found.rows}
    lines: list[tuple[str, Sequence[str]]] = [
        ("run", [row.name for row in found.rows]),
        ("started (UTC)", [when(row.started) for row in found.rows]),
        ("status", [row.status for row in found.rows]),
    ]
    if any(row.parent for row in found.rows):
        lines.append(("child of", [names.get(row.parent, row.parent[:8]) for row in found.rows]))
    lines += [
        ("commit", [row.commit for row in found.rows]),
        ("data", [row.data[:8] for row in found.rows]),
        *((name, [_cell(value) for value in values]) for name, values in found.differing().items()),
    ]
    for name in found.metrics():
        marks = ["*" if [name] == headline and row.run_id in best else "" for row in found.rows]
        direction = "higher" if found.recipe.higher_is_better else "lower"
        title = f"{name} ({direction} is better)" if [name] == headline else name
        lines.append(
            (title, [_figure(row, name) + mark for row, mark in zip(found.rows, marks, strict=True)])
        )
    text = _columns([(_from_the_end(title, LABEL), *cells) for title, cells in lines])
    if best:
        text += "\n* the best of the runs on the same data and split"
    if found.spread is not None:
        text += (
            f"\n{found.spread['runs']} repetitions with other seeds: {found.spread['metric']}"
            f" {found.spread['mean']:.4f} ± {found.spread['deviation']:.4f}; a smaller difference says little"
        )
    return text


def _items(found: Comparison, shown: int) -> Iterator[str]:
    changes = found.changes
    assert changes is not None
    assert found.pair is not None
    before, after = (name[:8] for name in found.pair)
    counts = ", ".join(f"{name} {count}" for name, count in changes.counts().items())
    alone = {before: changes.gone, after: changes.new}
    only = "".join(f", {count} only in {name}" for name, count in alone.items() if count)
    lines = [
        f"{before} -> {after}, part {changes.part}: {len(changes.items)} items in both{only}",
        counts if changes.classified else f"{changes.measure}: {counts}",
    ]
    if _changed(changes):
        test = "McNemar" if changes.classified else "sign"
        lines.append(f"as lopsided by chance alone: p = {changes.chance():.2g} ({test} test)")
    if changes.relabelled:
        lines.append(f"{changes.relabelled} items have another label in {after}; each run is held to its own")
    yield "\n".join(lines)
    rows = changes.shown(shown).to_dict("records")
    if changes.classified:
        before_after = ("before", "after", f"{changes.measure} before", "after")
        for flip, of_flip in itertools.groupby(rows, key=lambda row: str(row["flip"])):
            yield f"{flip}\n" + _columns([("item", "truth", *before_after), *map(_flip, of_flip)])
    elif rows:
        yield f"moved most ({changes.measure}; lower is better)\n" + _columns(
            [("item", "truth", "before", "after", "difference"), *map(_move, rows)]
        )
    rest = _changed(changes) - len(rows)
    if rest > 0:
        yield f"... and {rest} more (`--shown`, or all items with `--csv FILE`)"


def _flip(row: dict[Any, Any]) -> tuple[str, ...]:
    answers = (_cell(row[name]) for name in ("truth", "predicted_before", "predicted_after"))
    return (_item(row), *answers, _number(row["score_before"]), _number(row["score_after"]))


def _move(row: dict[Any, Any]) -> tuple[str, ...]:
    scores = (_number(row[name]) for name in ("score_before", "score_after", "moved"))
    return (_item(row), _cell(row["truth"]), *scores)


def _changed(changes: Changes) -> int:
    better, worse, *_ = changes.counts().values()
    return better + worse


def _item(row: dict[Any, Any]) -> str:
    return _from_the_end(str(row["item_id"]), LABEL)


def _figure(row: Row, name: str) -> str:
    return _number(row.metrics.get(name))


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4g}"


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    text = str(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _from_the_end(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[1 - most :]


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
