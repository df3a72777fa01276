"""Search settings of `fine_tune` with Optuna: trials in side workspaces, recorded in MLflow, resumable."""

import math
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pyarrow.compute as pc
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, TrialState

from tasks.aside import digest, grounds, require, run_aside
from tasks.changes import change
from tasks.failure import explained, out_of_memory
from tasks.liveness import signs
from tasks.parameters import Parameters, load_parameters
from tasks.pipeline import STAGE_NAMES, Trial
from tasks.space import Dimension, full_block, read_space, settle
from tasks.store import SEARCH, Message
from tasks.study import STATES, Search, Turn, begin_anew, best_of, in_place, open_study, take_turn
from tasks.tracking import open_outbox
from tasks.trials import Found, summarise
from tasks.workspace import Workspace, checkout, shared_state

OWN = ("fine_tune", "evaluate")
"""Stages that each trial runs itself; examples and split are the checkout's."""
WARM = 0.25
"""Share of a trial's epochs before which it is not pruned: a head that trains alone and a rate that still
rises say little."""
STOP_SECONDS = 20.0
"""Time that workers have to end by themselves after Ctrl-C."""
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
"""A trial's state in MLflow, which knows no pruning."""


def sweep(
    application: str,
    *,
    trials: int = 20,
    over: Sequence[str] = (),
    space: Path | None = None,
    hours: float | None = None,
    workers: int = 1,
    seed: int = 42,
    workspace: Workspace | None = None,
) -> Found:
    """Try up to `trials` settings in all, judged by the headline metric on the validation part.

    The same search goes on where it stopped. `hours`: time after which no further trial is begun. With one
    worker a seed gives the same trials; several workers are processes, and the order of their ends decides.
    `artifacts/`, `dvc.lock` and `params.yaml` stay as they are. ValueError before any trial for a space that
    the settings do not allow, and where no trial could be completed.
    """
    if trials < 1 or workers < 1 or not (hours is None or hours > 0):
        raise ValueError("--trials and --workers must be at least 1, --hours above 0")
    workspace = workspace or checkout()
    parameters = load_parameters(workspace.root / "params.yaml")
    _, recipe = parameters.application(application)
    require(workspace, application, "clean", "split")
    parts = pq.read_table(workspace.folder(application, "split") / "split.parquet", columns=["part"])
    if not pc.any(pc.equal(parts["part"], "valid")).as_py():
        raise ValueError(f"{application} has no validation part, by which a search judges; see its `split`")
    dimensions = read_space(parameters, application, over, space)
    name = name_of(workspace, parameters, application, dimensions, seed)
    search = Search(
        application=application, name=name, space=dimensions, headline=recipe.metrics[0],
        higher_is_better=recipe.higher_is_better, seed=seed, trials=trials, root=workspace.root,
        until=math.inf if hours is None else time.time() + hours * 3600,
        folder=shared_state(workspace.root) / "sweeps" / name,
    )  # fmt: skip
    study, outbox = open_study(search), open_outbox(workspace)
    outbox.post(_opening(search))
    status = "FAILED"
    try:
        _work_at_once(search, workers) if workers > 1 else work(search)
        status = "FINISHED" if best_of(study) else "FAILED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        found = summarise(search, study, parameters)
        figures = [(str(path), "search") for path in found.files]
        outbox.post(_message(search, status=status, files=figures), now=True)
    if found.best is None:
        reasons = [row["reason"] for row in found.rows if row["reason"]] or ["there was no time for one"]
        raise ValueError(f"no trial was completed; the last: {reasons[-1]} (all in {found.files[0]})")
    return found


def work(search: Search) -> None:
    """Take trials until none is left, or the time is over."""
    study, workspace = open_study(search), checkout(search.root)
    parameters = load_parameters(search.root / "params.yaml")
    while time.time() < search.until and (turn := take_turn(search, study)) is not None:
        try:
            _run_trial(search, study, turn, workspace, parameters)
        except BaseException:
            begin_anew(study, study.get_trials(deepcopy=False)[turn.trial.number])
            raise
        finally:
            turn.lock.release()


def _run_trial(
    search: Search, study: optuna.Study, turn: Turn, workspace: Workspace, parameters: Parameters
) -> None:
    """One trial, told to Optuna and to MLflow. Raises for what is no matter of the settings it tries."""
    began = time.time()
    trial = turn.trial
    recorded = Trial(search=search.name, number=turn.place, watchers=(Pruning(trial, search.headline),))
    twin = next((each for each in in_place(study) if _same(search, each, trial)), None)
    if twin is None:
        side = _side(workspace, search, turn.place)
        settled = settle(parameters, search.application, turn.changes)
        state, value, reason = _judge(search, side, settled, recorded)
    else:  # training is deterministic: it would come out the same
        state, value, reason = STATES[twin.state], twin.value, f"as trial {twin.user_attrs['place']}"
    trial.set_user_attr("reason", reason.partition("\n")[0])
    trial.set_user_attr("seconds", round(time.time() - began, 1))
    told = next(each for each, name in STATES.items() if name == state)
    study.tell(trial, value if state == "complete" else None, told)
    _keep_the_best(search, study, workspace)
    _record(search, study, turn, recorded, reason)
    reached = f"{search.headline} {value:.4f}" if state == "complete" else ""
    print(f"{search.application} trial {turn.place}: {state} {reached or reason}", flush=True)


def _judge(
    search: Search, side: Workspace, settled: Parameters, recorded: Trial
) -> tuple[str, float | None, str]:
    """Train and evaluate: state, headline and reason."""
    try:
        run = run_aside(search.application, OWN, side=side, parameters=settled, door="sweep", trial=recorded)
    except (optuna.TrialPruned, FloatingPointError) as error:  # what diverges is bad, and Optuna shall know
        return "pruned", None, str(error)
    except (ValueError, MemoryError) as error:
        return "failed", None, str(error) or "out of memory"
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return "failed", None, str(error)
    value = float(run["metrics"][search.headline])
    return ("complete", value, "") if math.isfinite(value) else ("pruned", None, f"it ended at {value}")


class Pruning:
    """A watcher of one trial: reports the headline of every epoch, and ends what the pruner gives up."""

    def __init__(self, trial: optuna.Trial, headline: str) -> None:
        self.trial = trial
        self.headline = headline
        self.epochs = 0

    def began(self, phases: Any, position: Any) -> None:
        """Report what was trained before, where a checkpoint goes on."""
        self.epochs = sum(phase.epochs for phase in phases)
        for row in position.rows:
            self._report(row)

    def step_ended(self, step: Any) -> None:
        """End with the process that started this worker, even if that was killed."""
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise SystemExit("the sweep that this worker belongs to is gone")

    def epoch_ended(self, row: Mapping[str, Any]) -> None:
        """optuna.TrialPruned where other trials were better at this epoch; never at the last one."""
        self._report(row)
        epoch = row["epoch"]
        if self.epochs * WARM <= epoch < self.epochs and self.trial.should_prune():
            raise optuna.TrialPruned(
                f"{self.headline} {row[self.headline]:.4f} in epoch {epoch} of {self.epochs},"
                " worse than the median of the other trials"
            )

    def finished(self, history: Any) -> None:
        """Nothing is left to do."""

    def _report(self, row: Mapping[str, Any]) -> None:
        if self.headline in row:
            self.trial.report(float(row[self.headline]), step=int(row["epoch"]))


def name_of(
    workspace: Workspace,
    parameters: Parameters,
    application: str,
    space: Sequence[Dimension],
    seed: int,
) -> str:
    """The application and a digest of what comparable trials share.

    That is the settings that are not searched, the space, the seed, the data, the split and the code.
    """
    fixed = full_block(parameters, application)
    for dimension in space:
        for path, _ in dimension.places:
            if not dimension.factor:
                change(fixed, path, "searched")
    entry = {**parameters.applications[application], **fixed, "export": None}
    side = workspace.side("sweep", own=OWN, stages=STAGE_NAMES)
    texts = [f"{dimension.path}={dimension.text}" for dimension in space]
    return f"{application}-{digest([entry, texts, seed, grounds(side, application, parameters)])[:12]}"


def _side(workspace: Workspace, search: Search, place: int) -> Workspace:
    return workspace.side(f"sweep/{search.name}/{place}", own=OWN, stages=STAGE_NAMES)


def _same(search: Search, other: FrozenTrial, trial: optuna.Trial) -> bool:
    """Whether a finished trial had the same settings."""
    return other.state in (TrialState.COMPLETE, TrialState.PRUNED) and all(
        each.read(other.params[each.path]) == each.read(trial.params[each.path]) for each in search.space
    )


def _keep_the_best(search: Search, study: optuna.Study, workspace: Workspace) -> None:
    """Remove what other finished trials wrote: weights take room, and MLflow has the numbers."""
    trials = in_place(study)
    best = best_of(study, trials)  # of the same moment: a better one that another worker ends now must stay
    for trial in trials:
        if trial.state.is_finished() and (best is None or trial.number != best.number):
            shutil.rmtree(_side(workspace, search, trial.user_attrs["place"]).state, ignore_errors=True)


def _message(search: Search, **content: Any) -> Message:
    """A message for the run of the whole search, of which the trials' runs are children."""
    created = {
        "practicum.application": search.application,
        SEARCH: search.name,
        "mlflow.source.name": f"python -m flows sweep {search.application}",
        "mlflow.source.type": "PROJECT",
    }
    return Message(
        **{
            "experiment": search.application, "key": search.name, "name": f"search {search.name[-12:]}",
            "created": created, "time": time.time_ns() // 1_000_000, **content,
        }
    )  # fmt: skip


def _opening(search: Search) -> Message:
    params = {
        "search.space": "; ".join(f"{each.path}={each.text}" for each in search.space),
        "search.seed": str(search.seed),
        "search.headline": search.headline,
    }
    return _message(search, params=params, tags=signs(), status="RUNNING")


def _record(search: Search, study: optuna.Study, turn: Turn, recorded: Trial, reason: str) -> None:
    """The end of a trial in its own run, and the curve of the best so far in that of the search."""
    outbox = open_outbox(checkout(search.root))
    told = study.get_trials(deepcopy=False)[turn.trial.number]
    state, best = STATES[told.state], best_of(study)
    drawn = {f"search.{path.replace('*', 'all')}": str(value) for path, value in turn.drawn.items()}
    outbox.post(
        _message(
            search, key=recorded.key, name=f"trial {turn.place}", parent=search.name, params=drawn,
            tags={"practicum.trial": state, **({"practicum.error": reason[:500]} if reason else {})},
            status=STATUS[state],
        )
    )  # fmt: skip
    metrics = {"epoch": turn.place + 1.0}  # by which a message that was sent before is known
    if best is not None and best.value is not None:
        metrics[f"best.{search.headline}"] = best.value
    if told.state == TrialState.COMPLETE and told.value is not None:
        metrics[search.headline] = told.value
    outbox.post(_message(search, step=turn.place + 1, metrics=metrics))


def _work_at_once(search: Search, workers: int) -> None:
    """`work` in several processes. OSError where some ended early and left trials undone."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_worker, args=(search,)) for _ in range(workers)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    except BaseException:
        _stop(processes)
        raise
    ended = sum(process.exitcode != 0 for process in processes)
    done = sum(trial.state.is_finished() for trial in in_place(open_study(search)))
    if ended and done < search.trials and time.time() < search.until:
        raise OSError(f"{ended} of {workers} workers ended early; the same command goes on")


def _worker(search: Search) -> None:
    with explained(f"sweep {search.application}"):
        work(search)


def _stop(processes: Sequence[Any]) -> None:
    """As Ctrl-C does; what does not end by it is killed."""
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
    until = time.monotonic() + STOP_SECONDS
    for process in alive:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
