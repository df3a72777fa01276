"""The chain as a Prefect flow: Prefect says when, where and how often to try, DVC what needs to be done."""

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

from prefect import flow, task
from prefect._internal.concurrency.cancellation import CancelledError
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.utilities.timeout import timeout

from flows.claims import Claims
from flows.progress import summary
from flows.summary import Account, summarised
from tasks import sharing, versioning
from tasks.freshness import Look, look
from tasks.interrupts import heard
from tasks.pipeline import STAGE_NAMES, STAGES, Stage, run_stage
from tasks.tracking import send_waiting
from tasks.workspace import checkout

LAST = STAGE_NAMES[-1]
RETRY_SECONDS = (10, 60)
"""Pauses before the retries of a stage: short for a hiccup, longer for a server that restarts."""
interrupted = threading.Event()
"""Set by Ctrl-C in a stage: Prefect, whose temporary server ends by it too, reports something else."""
NETWORK = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH,
    errno.ETIMEDOUT, errno.EPIPE, errno.EAGAIN,
}  # fmt: skip


@flow(name="application", flow_run_name="{application}")
def run_application(
    application: str,
    force: bool = False,
    until: str = LAST,
    check_sources: bool = False,
    time_limit_hours: float | None = None,
) -> State[dict[str, str]]:
    """Bring `export@application` up to date in the current checkout; returns what was done by stage.

    `until` names an earlier stage to end with; with `weights` the application is a name of starting weights.

    One question to DVC says which stages are current. The others are restored from DVC's cache or remote
    where their inputs were ever run before, else run in this process, recorded and sent to the remote.
    An application is worked on under a claim (flows/claims.py), upstream ones too. `force` runs the
    application's own stages whether current or not. `check_sources` looks first whether what is published
    has changed: not pinned, it is fetched anew; pinned, the flow fails. A failed stage fails the flow with
    its reason, TimeoutError after `time_limit_hours`.
    """
    root = Path.cwd()
    send_waiting(checkout(root))
    with (
        summarised(application, root) if until == LAST else nullcontext(Account()) as account,
        limited(application, time_limit_hours),
        Claims() as claims,
    ):
        target = f"{until}@{application}"
        survey = versioning.survey(root, [target])
        account.plan = plan = survey.plan(target)
        fetches = [name for name in plan if name.partition("@")[0] in FETCH] if check_sources else []
        account.looks = looks = [look_at(name, name in survey.current) for name in fetches]
        anew = {each.stage for each in looks if each.again}
        done = account.done
        for name in plan:
            account.now = name
            changed = any(how != "current" for how in done.values())
            stage, _, owner = name.partition("@")
            again = name in anew or (force and owner == application)
            known = "no" if again or name not in survey.current else "ask" if changed else "yes"
            known = "anew" if name in anew else known
            if known != "yes" and claims.take(owner) and not again:
                known = "ask"  # whoever had it may have worked in this very checkout
            state = TASKS[stage](name, known, restore=not again, remote=survey.remote, return_state=True)
            done[name] = state.result()
    return Completed(message=f"{application}: {summary(done)}", data=done)


def brought(application: str, *, force: bool) -> dict[str, str]:
    """What a flow has done of the application, by stage. OSError where its temporary server did not start."""
    try:
        # Prefect hands out what the state holds
        return cast(dict[str, str], run_application(application, force=force))
    except BaseException as error:
        if interrupted.is_set():
            raise KeyboardInterrupt from None
        if not isinstance(error, RuntimeError):
            raise
        if not any(said in str(error) for said in ("ephemeral Prefect API server", "reach API")):
            raise
        raise OSError(
            f"{error} Start one (`prefect server start`) and set PREFECT_API_URL to it,"
            f" or use `dvc repro export@{application}`, which needs none"
        ) from None


@contextmanager
def limited(application: str, hours: float | None) -> Iterator[None]:
    """End the body after so many hours, wherever it is; what it cleans up on the way out is cleaned up."""
    try:
        with (
            heard({CancelledError: signal.SIGALRM}),  # how Prefect's limit comes
            timeout(None if hours is None else hours * 3600, timeout_exc_type=TimeLimitError),
        ):
            yield
    except TimeLimitError:
        raise TimeoutError(
            f"{application} was ended after its time limit of {hours:g} hours (`schedule.time_limit_hours` of"
            " params.yaml); an unfinished training goes on with the next run"
        ) from None


class TimeLimitError(TimeoutError):
    """The time limit of the flow, and no other."""


def walk(name: str, current: str, restore: bool = True, remote: bool = False) -> State[str]:
    """One stage: found current, restored, or run and recorded.

    `current` is `yes`, `no`, `ask` (after an earlier stage has changed), or `anew`: run it, and call it
    current where it brought the bytes that were there.
    """
    root = Path.cwd()
    found = None
    if current != "yes":
        found = versioning.settle(root, name, ask=current == "ask", restored=restore)
    if found is None or found.how == "current":
        if remote and name in sharing.unsent(root):
            sharing.share(root, name)
        return _ended(name, "current", "Cached")
    if found.how == "restored" or (
        restore and remote and sharing.learn(root, name) and versioning.restore(root, name, pull=True)
    ):
        return _ended(name, "restored", "Cached")
    stage, _, owner = name.partition("@")
    before = versioning.folder_digest(root, name) if current == "anew" else None
    print(f"{name}: running", flush=True)
    try:
        if stage == "weights":
            from tasks.weights import fetch_weights

            fetch_weights(owner)
        else:
            run_stage(stage, owner, door="flow")
    except KeyboardInterrupt:
        interrupted.set()
        raise
    versioning.record(root, name, found.inputs)
    if remote:
        sharing.share(root, name)
    if before is not None and before == versioning.folder_digest(root, name):
        return _ended(name, "current", "Cached")  # fetched anew, the same bytes
    return _ended(name, "ran", "Completed")


def _ended(name: str, how: str, state: str) -> State[str]:
    print(f"{name}: {how}", flush=True)
    return Completed(name=state, message=f"{name}: {how}", data=how)


def may_help(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether trying again can help: after failures of the network, not after faults of the input."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError):
        return error.errno in NETWORK
    return type(error).__module__.split(".")[0] in {"httpx", "httpcore"}


def as_task(name: str, *, retries: int = 0) -> Any:
    """The Prefect task of one row of the stage table."""
    return task(
        name=name,
        task_run_name="{name}",
        retries=retries,
        retry_delay_seconds=list(RETRY_SECONDS[:retries]) or 0,
        retry_condition_fn=may_help,
        cache_policy=NO_CACHE,  # only DVC decides what is current
        persist_result=False,
    )(walk)


@task(name="look", task_run_name="what is published for {name}", cache_policy=NO_CACHE, persist_result=False)
def look_at(name: str, current: bool) -> Look:
    """Whether the source of a stage has changed; ValueError where it is pinned and has."""
    found = look(name, current=current)
    print(f"{name}: {found.said}", flush=True)
    return found


WEIGHTS = Stage(name="weights", retries=2)
FETCH = ("weights", "download")
"""Stages that fetch what others publish."""
TASKS = {stage.name: as_task(stage.name, retries=stage.retries) for stage in (WEIGHTS, *STAGES)}
