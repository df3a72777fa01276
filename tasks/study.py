"""The memory of a search, in Optuna's store: whose turn it is, what is drawn, which trials lost their worker.

A trial has a place, counted from 0, which one that is begun anew keeps. What is drawn for a place depends on
the search's seed, the place and the trials before it: a search that was killed ends as one that was not.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from tasks.space import Dimension, changes_of

STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip
BUSY_SECONDS = 60.0
"""How long a worker waits for another one's transaction in SQLite."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search, as every worker of it knows it."""

    application: str
    name: str
    """The application and what the search depends on: another space, split or code makes another search."""
    space: tuple[Dimension, ...]
    headline: str
    higher_is_better: bool
    seed: int
    """Of what is drawn; the training's own seed is the settings'."""
    trials: int
    """In all, those of earlier starts included."""
    until: float
    """Seconds since 1970 after which no trial is begun; may be infinite."""
    root: Path
    """The checkout."""
    folder: Path
    """Table, figures and locks of this search; Optuna's store lies beside it."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A trial that this process has taken."""

    trial: optuna.Trial
    place: int
    drawn: dict[str, Any]
    """What was drawn, by path."""
    changes: dict[str, Any]
    """The settings that this means, by path."""
    lock: FileLock
    """Held while the trial is worked on: the system lets go of it when the process dies."""


def open_study(search: Search) -> optuna.Study:
    """The study of a search, made where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(search.folder.parent / ".lock"):  # the first of all makes the tables
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{search.folder.parent / 'optuna.db'}",
            engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}},
        )
        return optuna.create_study(
            storage=storage,
            study_name=search.name,
            direction="maximize" if search.higher_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )


def take_turn(search: Search, study: optuna.Study) -> Turn | None:
    """The next trial; None where as many as wanted are done or being done. Trials without a process go first.

    The settings in effect are the first trial, where the space holds them.
    """
    with FileLock(search.folder / ".turn"):
        for dead in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _is_free(_lock(search, dead.number)):
                begin_anew(study, dead)
        trials = study.get_trials(deepcopy=False)
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        known = {trial.user_attrs["place"] for trial in trials if "place" in trial.user_attrs}
        if len(known - {trial.user_attrs.get("place") for trial in waiting}) >= search.trials:
            return None
        if not known and not waiting:
            current = {dimension.path: dimension.current() for dimension in search.space}
            if None not in current.values():
                study.enqueue_trial(current)
        place = waiting[0].user_attrs.get("place", len(known)) if waiting else len(known)
        study.sampler = TPESampler(seed=_seed(search.seed, place))
        trial = study.ask()
        lock = _lock(search, trial.number)
        lock.acquire(timeout=0)
        drawn = {dimension.path: dimension.suggest(trial) for dimension in search.space}
        trial.set_user_attr("place", place)
    changes = changes_of(search.space, drawn)
    return Turn(trial=trial, place=place, drawn=drawn, changes=changes, lock=lock)


def begin_anew(study: optuna.Study, dead: FrozenTrial) -> None:
    """Count a trial as failed and put another one in its place, with what it had drawn.

    One that had not drawn everything yet has no place: the next that is drawn is the same.
    """
    study.tell(dead.number, state=TrialState.FAIL)
    if "place" in dead.user_attrs:
        study.enqueue_trial(
            dead.params, user_attrs={"place": dead.user_attrs["place"], "replaces": dead.number}
        )


def in_place(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count, by their place: without those that were begun anew."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if "place" in trial.user_attrs]
    replaced = {trial.user_attrs.get("replaces") for trial in trials}
    return sorted(
        (trial for trial in trials if trial.number not in replaced),
        key=lambda trial: trial.user_attrs["place"],
    )


def best_of(study: optuna.Study, trials: Sequence[FrozenTrial] | None = None) -> FrozenTrial | None:
    """The complete trial with the best headline, the earliest of equals; None without a complete one.

    `trials`: what was read of the study before; other workers may have gone on since.
    """
    trials = in_place(study) if trials is None else trials
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return min(complete, key=lambda trial: sign * (trial.value or 0.0), default=None)


def _lock(search: Search, number: int) -> FileLock:
    return FileLock(search.folder / f".trial-{number}")


def _is_free(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def _seed(seed: int, place: int) -> int:
    """A seed of 32 bits for each place: one generator for all would begin again after a restart."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{place}".encode()).digest()[:4])
