"""Runs of an application side by side: what differs, how good each is, which items two judge differently."""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tasks.outcomes import FILE, OUTCOMES, Changes, changes, outcomes
from tasks.parameters import load_parameters
from tasks.store import SEARCH
from tasks.tracking import open_outbox, tidy
from tasks.workspace import Workspace, checkout

if TYPE_CHECKING:
    import pyarrow as pa
    from mlflow.entities import Run

    from recipes.recipe import Recipe
    from tasks.store import Store

CURRENT = "current"
"""Names what lies in the checkout's `artifacts/`, recorded or not."""
PLACE = "compared"
"""Folder among a run's artifacts for the items that another run judges differently."""
PREFIX = 4
"""Fewest characters of a run's id that may stand for it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run."""

    run_id: str
    parent: str
    """Id of the run that it is a child of, such as the pass that it evaluates with other parameters."""
    started: int
    """In milliseconds since 1970."""
    status: str
    data: str
    """sha256 of the cleaned examples."""
    commit: str
    """With `+` where the tree differed from it."""
    edition: str
    params: Mapping[str, Any]
    """All parameters, lists and mappings in them by their leaves; those of the parent below its own."""
    metrics: Mapping[str, float]
    evaluated: bool

    @property
    def name(self) -> str:
        """The start of the id, as people write it."""
        return self.run_id[:8]

    @property
    def question(self) -> tuple[Any, ...]:
        """Runs of one question are measured on the same examples, so the better figure is better."""
        split = sorted((name, str(value)) for name, value in self.params.items() if name.startswith("split."))
        return (self.data, *split)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found; `tasks/comparison_text.py` writes it for people."""

    application: str
    recipe: Recipe
    rows: tuple[Row, ...]
    """Newest first."""
    pair: tuple[str, str] | None
    """The two whose items are compared, the earlier first: ids, or CURRENT."""
    changes: Changes | None
    note: str
    """Why no items are compared, where none are."""
    spread: Mapping[str, Any] | None
    """The headline over seeds, as `docs/results/APP.json` has it for the edition of the newest run."""

    def differing(self) -> dict[str, list[Any]]:
        """Parameters that are not the same in all runs, a value per run; None where a run lacks it."""
        names = dict.fromkeys(name for row in self.rows for name in row.params)
        values = {name: [row.params.get(name) for row in self.rows] for name in names}
        return {name: found for name, found in values.items() if len(set(map(str, found))) > 1}

    def metrics(self) -> list[str]:
        """`PART.METRIC` of the recipe's metrics that any run has, the headline first."""
        names = [f"{part}.{metric}" for part in ("valid", "test") for metric in self.recipe.metrics]
        return [name for name in names if any(name in row.metrics for row in self.rows)]

    def best(self) -> set[str]:
        """Ids of the runs with the best headline of their question, where several runs answer it."""
        if not self.metrics():
            return set()
        headline, sign = self.metrics()[0], 1 if self.recipe.higher_is_better else -1
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows:
            if headline in row.metrics:
                groups.setdefault(row.question, []).append(row)
        tops = [
            (max(sign * row.metrics[headline] for row in group), group)
            for group in groups.values()
            if len(group) > 1
        ]
        return {row.run_id for top, group in tops for row in group if sign * row.metrics[headline] == top}

    def as_json(self) -> str:
        """Everything, for machines."""
        found: dict[str, Any] = {
            "application": self.application,
            "headline": self.metrics()[0] if self.metrics() else None,
            "higher_is_better": self.recipe.higher_is_better,
            "runs": [
                {**vars(row), "params": dict(row.params), "metrics": dict(row.metrics)} for row in self.rows
            ],
            "differing": self.differing(),
            "best": sorted(self.best()),
            "spread": self.spread,
            "items": None,
            "note": self.note,
        }
        if self.changes is not None and self.pair is not None:
            found["items"] = {
                "before": self.pair[0],
                "after": self.pair[1],
                "part": self.changes.part,
                "measure": self.changes.measure,
                "counts": self.changes.counts(),
                "p": self.changes.chance(),
                "gone": self.changes.gone,
                "new": self.changes.new,
                "relabelled": self.changes.relabelled,
                "rows": json.loads(self.changes.items.to_json(orient="records")),
            }
        return json.dumps(found, indent=2)


def compare(
    application: str,
    names: Sequence[str] = (),
    *,
    limit: int = 6,
    trials: bool = False,
    workspace: Workspace | None = None,
) -> Comparison:
    """The newest `limit` runs of an application, and the items that two of them judge differently.

    `names` are two starts of run ids, or CURRENT for what lies in `artifacts/`; by default the two newest
    evaluated runs. The `trials` of searches, which would hide the others, are among the newest only if asked
    for; any can be named. ValueError for an application without runs and for a name that fits none or
    several; OSError where MLflow does not answer.
    """
    if len(names) not in (0, 2):
        raise ValueError("name two runs (or `current`), the earlier first, or none for the two newest")
    if limit < 2:
        raise ValueError(f"--limit is {limit}; at least 2 runs can be compared")
    workspace = workspace or checkout()
    _, recipe = load_parameters(workspace.root / "params.yaml").application(application)
    outbox = open_outbox(workspace)
    tidy(outbox)
    store = outbox.store
    with store.reached():
        rows = [_row(store, run) for run in _newest(store, application, names, limit, trials=trials)]
        if not rows and CURRENT not in names:
            raise ValueError(
                f"no run of {application} is recorded at {store.uri}; training and evaluation record one"
                f" (`python -m flows run {application}`, with `--force` where every stage is current);"
                " --trials shows those of searches"
            )
        evaluated = [row.run_id for row in rows if row.evaluated]
        ids = [_named(name, rows) for name in names] or [*reversed(evaluated[:2])]
        pair = (ids[0], ids[1]) if len(ids) == 2 else None
        note = "" if pair else "items are compared between two evaluated runs; there is one so far"
        found = None
        if pair is not None:
            first, second = (_outcomes(store, application, name, workspace) for name in pair)
            try:
                found = changes(first, second)
            except ValueError as error:
                note = str(error)
    return Comparison(
        application=application,
        recipe=recipe,
        rows=tuple(rows),
        pair=pair,
        changes=found,
        note=note,
        spread=_spread(application, recipe, rows, workspace),
    )


def write_items(found: Comparison, path: Path) -> None:
    """Every item that both have, as CSV. ValueError where no items are compared."""
    if found.changes is None:
        raise ValueError(f"there are no items for {path}: {found.note}")
    found.changes.items.to_csv(path, index=False)


def log_changes(found: Comparison, *, most: int = 1000, workspace: Workspace | None = None) -> str:
    """Put the items that differ as a table into the later run, once; returns its place among the artifacts.

    ValueError where there are none to log, or the later one is no run.
    """
    if found.changes is None or found.pair is None:
        raise ValueError(f"there are no items to log: {found.note}")
    before, after = found.pair
    if after == CURRENT:
        raise ValueError(f"--log writes into the second run; {CURRENT!r} is a folder, name a run")
    store = open_outbox(workspace or checkout()).store
    place = f"{PLACE}/{before[:8]}.json"
    with store.reached():
        if place not in [each.path for each in store.client.list_artifacts(after, PLACE)]:
            store.client.log_table(after, found.changes.shown(most), place)  # it would append
    return place


def _newest(store: Store, application: str, names: Sequence[str], limit: int, *, trials: bool) -> list[Run]:
    """The newest runs, and others that are named; with or without the trials of searches."""
    wanted = [name for name in names if name != CURRENT]
    short = [name for name in wanted if len(name) < PREFIX]
    if short:
        raise ValueError(f"{short[0]!r} names no run: give at least {PREFIX} characters of its id")
    searches = {run.info.run_id for run in store.runs(f"tags.`{SEARCH}` LIKE '%'", experiment=application)}
    taken: list[Run] = []
    room = limit
    for run in store.runs(experiment=application):
        if run.info.run_id in searches:
            continue
        newest = room > 0 and (trials or run.data.tags.get("mlflow.parentRunId") not in searches)
        room -= newest
        if newest or any(run.info.run_id.startswith(name) for name in wanted):
            taken.append(run)
        if not room and not wanted:
            break
    return taken


def _named(name: str, rows: Sequence[Row]) -> str:
    if name == CURRENT:
        return name
    fitting = [row.run_id for row in rows if row.run_id.startswith(name)]
    if len(fitting) != 1:
        known = ", ".join(row.name for row in rows)
        many = f"{len(fitting)} run ids begin" if fitting else "no run id begins"
        raise ValueError(f"{many} with {name!r}; newest runs: {known}")
    return fitting[0]


def _row(store: Store, run: Run) -> Row:
    tags, parent = run.data.tags, run.data.tags.get("mlflow.parentRunId", "")
    inherited = store.client.get_run(parent).data.params if parent else {}
    row = Row(
        run_id=run.info.run_id,
        parent=parent,
        started=run.info.start_time,
        status=run.info.status,
        data=tags.get("practicum.content", ""),
        commit=tags.get("mlflow.source.git.commit", "")[:8]
        + ("+" if tags.get("practicum.dirty") == "true" else ""),
        edition=tags.get("practicum.edition", ""),
        params={},
        metrics=run.data.metrics,
        evaluated="practicum.evaluation" in tags,
    )
    return replace(row, params=dict(_leaves({**inherited, **run.data.params})))


def _leaves(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """MLflow holds every value as text; a list or mapping in it is taken apart, so that a leaf can differ."""
    for name, value in params.items():
        inner = value
        if isinstance(value, str) and value[:1] in "[{" and value:
            try:
                inner = ast.literal_eval(value)
            except (ValueError, SyntaxError):  # cut off by MLflow, or a text that begins like a list
                inner = value
        if isinstance(inner, list):
            inner = {str(number): each for number, each in enumerate(inner, start=1)}
        if isinstance(inner, dict) and inner:
            yield from _leaves({f"{name}.{key}": each for key, each in inner.items()})
        else:
            yield name, inner


def _outcomes(store: Store, application: str, name: str, workspace: Workspace) -> pa.Table:
    """The outcomes of a run, or of what lies in `artifacts/`."""
    import pyarrow.parquet as pq

    if name == CURRENT:
        path = workspace.folder(application, "evaluate") / "predictions.parquet"
        if not path.is_file():
            raise ValueError(f"{path} does not exist; `dvc repro evaluate@{application}` makes it")
        return outcomes(pq.read_table(path))
    place = f"{OUTCOMES}/{FILE}"
    if place not in [each.path for each in store.client.list_artifacts(name, OUTCOMES)]:
        raise ValueError(
            f"run {name[:8]} has no {place}: it was not evaluated, or its evaluation is still to be sent"
        )
    with TemporaryDirectory() as folder:
        return pq.read_table(Path(store.client.download_artifacts(name, place, folder)))


def _spread(
    application: str, recipe: Recipe, rows: Sequence[Row], workspace: Workspace
) -> dict[str, Any] | None:
    """What repetitions with other seeds gave, where they were made of the same edition."""
    path = workspace.root / "docs" / "results" / f"{application}.json"
    if not rows or not path.is_file():
        return None
    result = json.loads(path.read_text())
    headline = recipe.metrics[0]
    if result["edition"] != rows[0].edition or headline not in result["summary"]:
        return None
    return {"metric": headline, **result["summary"][headline]}


def when(milliseconds: int) -> str:
    """A time as people read it, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(milliseconds / 1000))
