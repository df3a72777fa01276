"""What a search found: a table of its trials, figures, and the command that applies the best."""

import csv
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from tasks.parameters import Parameters
from tasks.space import changes_of, to_yaml, written
from tasks.study import STATES, Search, best_of, in_place


@dataclass(frozen=True, kw_only=True)
class Found:
    """The outcome of a search so far."""

    search: Search
    rows: tuple[dict[str, Any], ...]
    """One per trial: number, state, headline, epochs, seconds, what was drawn by path, reason."""
    best: int | None
    """Number of the best complete trial."""
    current: int | None
    """Number of the trial that tried the settings in effect."""
    settings: tuple[str, ...]
    """`path=value` for `python -m flows edition --set`; empty where the settings in effect are the best."""
    files: tuple[Path, ...]
    """`trials.csv` and the figures."""

    def text(self) -> str:
        """All of it for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        search = self.search
        yield from table(self.rows)
        if self.best is None:
            return
        headline, application = search.headline, search.application
        reached = f"best: trial {self.best} with {headline} {self.rows[self.best][headline]:.4f}"
        if self.current not in (None, self.best):
            shown = self.rows[self.current][headline]
            reached += f"; the settings in effect (trial {self.current}): " + (
                "not completed" if self.rows[self.current]["state"] != "complete" else f"{shown:.4f}"
            )
        yield reached
        yield (
            f"It was chosen among {len(self.rows)} on the validation part, so this figure is optimistic;"
            f" once applied, `python -m flows repeat {application} --seeds 5` measures it with fresh seeds."
        )
        if not self.settings:
            yield "The settings in effect are the best of these; there is nothing to apply."
            return
        options = " ".join(f"--set {shlex.quote(setting)}" for setting in self.settings)
        yield f"To apply it: python -m flows edition {options}"


def summarise(search: Search, study: optuna.Study, parameters: Parameters) -> Found:
    """Read the study, and write its table and figures into the folder of the search."""
    trials = in_place(study)
    best = best_of(study, trials)
    now = {dimension.path: dimension.current() for dimension in search.space}
    drawn = [{each.path: each.read(trial.params.get(each.path)) for each in search.space} for trial in trials]
    rows = tuple(_row(search, *each) for each in zip(trials, drawn, strict=True))
    settings: tuple[str, ...] = ()
    if best is not None and drawn[trials.index(best)] != now:
        changes = changes_of(search.space, drawn[trials.index(best)])
        settings = tuple(
            f"applications.{search.application}.{path}={to_yaml(value)}"
            for path, value in written(changes, parameters, search.application).items()
        )
    return Found(
        search=search,
        rows=rows,
        best=best.user_attrs["place"] if best else None,
        current=next((row["trial"] for row, each in zip(rows, drawn, strict=True) if each == now), None),
        settings=settings,
        files=(write_table(search.folder / "trials.csv", rows), *draw_figures(search, study)),
    )


def table(rows: tuple[dict[str, Any], ...]) -> Iterator[str]:
    """The rows as text, the columns in line."""
    if not rows:
        return
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def write_table(path: Path, rows: tuple[dict[str, Any], ...]) -> Path:
    """The rows as CSV."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(rows[0] if rows else ())
        lines.writerows(row.values() for row in rows)
    return path


def draw_figures(search: Search, study: optuna.Study) -> list[Path]:
    """Optuna's own figures: the best so far by trial, the headline by each setting, and by epoch."""
    if best_of(study) is None:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    paths = []
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")  # Optuna calls its figures experimental
        figures: dict[str, Any] = {
            "history": plots.plot_optimization_history(study, target_name=search.headline),
            "settings": plots.plot_slice(study, target_name=search.headline),
            "epochs": plots.plot_intermediate_values(study),
        }
        for name, axes in figures.items():
            paths.append(search.folder / f"{name}.png")
            np.ravel(axes)[0].figure.savefig(paths[-1])
        pyplot.close("all")
    return paths


def _row(search: Search, trial: FrozenTrial, drawn: dict[str, Any]) -> dict[str, Any]:
    reported = trial.intermediate_values
    value = trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None
    return {
        "trial": trial.user_attrs["place"],
        "state": STATES[trial.state],
        search.headline: value,
        "epochs": max(reported, default=0),
        "seconds": trial.user_attrs.get("seconds"),
        **drawn,
        "reason": trial.user_attrs.get("reason", ""),
    }


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
