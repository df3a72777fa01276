"""The course as a flow of flows: applications at once in warm processes, each after those it starts from."""

import os
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner

from flows import server
from flows.at_rest import checked, resting_row
from flows.chain import LAST
from flows.member import log_of, run_member
from flows.progress import Board, Row, records, summary, table
from flows.workers import Workers, cluster, processes
from tasks import sharing, versioning
from tasks.devices import slots_per_device, visible_devices
from tasks.parameters import Parameters
from tasks.pipeline import STAGE_NAMES
from tasks.tracking import open_store, send_waiting
from tasks.workspace import checkout

ORDER = ("weights", *STAGE_NAMES)
DIED = "its process died: killed, perhaps for memory"
LOOK_SECONDS = 0.5
"""How often the board looks at what the members do."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """An application to be brought up to a stage; or, with `weights`, starting weights to be fetched."""

    name: str
    """What people call it: the application, with the stage in front where it ends before the last one."""
    application: str
    until: str
    after: tuple[str, ...]
    """Names of the members that end before, because it starts from what they make."""
    force: bool
    plan: tuple[str, ...]
    """Its stages, those of the members before it among them."""
    at_rest: bool
    """There is nothing to be done about any of them."""


Run = tuple[Member, TaskRunner[Any], PrefectFuture[Any]]
"""A member, the worker that runs it, and what comes of it."""


@flow(name="course")
def run_course(
    applications: list[str] | None = None, workers: int | None = None, dask: str = "", force: bool = False
) -> State[None]:
    """Bring applications (all of params.yaml without names) up to date, at most `workers` at once.

    One that fails does not stop the others; those that start from it are skipped, and the flow fails in the
    end. `dask` is a scheduler's address, or `local` for a cluster on this machine; empty, the workers are
    processes. ValueError, before anything runs, where a name, an entry or the number is wrong.
    """
    parameters, names = checked(applications, workers)
    root = Path.cwd()
    send_waiting(checkout(root))
    survey = versioning.survey(root, [f"{LAST}@{name}" for name in names])
    members = plan_members(root, survey, names, force=force)
    work = {name: member for name, member in members.items() if not member.at_rest}
    with Board(len(members)) as board:
        for member in members.values():
            if member.at_rest:
                board.end(resting_row(member.name, member.application, member.plan, parameters))
        if work:
            prepare_store()
            with staffed(workers, dask, parameters, names, len(work)) as staff:
                for row in run_members(work, staff, board):
                    board.end(row)
    print("\n".join(table(board.rows)))
    create_table_artifact(records(board.rows), key="course", description="What the course did")
    bad = [row.name for row in board.rows if row.outcome != "done"]
    if bad:
        return Failed(message=f"{len(bad)} of {len(members)} did not end: {', '.join(bad)}")
    return Completed(message=f"all {len(members)} ended")


def plan_members(
    root: Path, survey: versioning.Survey, names: Collection[str], *, force: bool = False
) -> dict[str, Member]:
    """By name: the applications asked for, and what they start from, up to the last stage they need of it."""
    until = dict.fromkeys(names, LAST)
    for name in names:
        for stage, owner in map(_parts, survey.plan(f"{LAST}@{name}")):
            if owner not in names:
                until[owner] = max(until.get(owner, stage), stage, key=ORDER.index)
    targets = {owner: f"{last}@{owner.rpartition('@')[2]}" for owner, last in until.items()}
    plans = {owner: survey.plan(target) for owner, target in targets.items()}
    called = {owner: owner if last == LAST else targets[owner] for owner, last in until.items()}
    forced = {owner for owner in until if force and owner in names}
    resting = {
        owner for owner in until if owner not in forced and sharing.at_rest(root, survey, plans[owner])
    }
    members = {}
    for owner, last in until.items():
        others = dict.fromkeys(other for _, other in map(_parts, plans[owner]) if other != owner)
        members[called[owner]] = Member(
            name=called[owner],
            application=owner.rpartition("@")[2],
            until=last,
            after=tuple(called[other] for other in others if other not in resting),
            force=owner in forced,
            plan=tuple(plans[owner]),
            at_rest=owner in resting,
        )
    return members


def prepare_store() -> None:
    """Make the tables of a new store of runs: not for two processes at once."""
    store = open_store(checkout())
    if store.artifacts is not None:
        store.client.search_experiments()


def _parts(step: str) -> tuple[str, str]:
    """Stage and owner of a step; starting weights own themselves, whatever applications are called."""
    stage, _, owner = step.partition("@")
    return stage, step if stage == "weights" else owner


def staffed(
    workers: int | None, dask: str, parameters: Parameters, names: Collection[str], members: int
) -> AbstractContextManager[Workers]:
    """The workers of a course: as many as asked for, or as the cores or the cluster allow."""
    if dask and dask != "local":
        return cluster(dask, workers)
    count = min(workers or sensible(parameters, names), members)
    return cluster(dask, count) if dask else processes(count)


def sensible(parameters: Parameters, names: Collection[str]) -> int:
    """Cores by the threads of the hungriest training; with accelerators at most two processes for each slot.

    While one computes on the accelerator, the other prepares data.
    """
    threads: int = max(parameters.application(name)[0].fine_tune.threads for name in names)
    count = max(1, (os.cpu_count() or 1) // threads)
    slots = len(visible_devices()) * slots_per_device()
    return min(count, 2 * slots) if slots else count


def run_members(members: Mapping[str, Member], staff: Workers, board: Board) -> Iterator[Row]:
    """Run every member after those that it starts from; yields how each ended, as it ends."""
    order = TopologicalSorter({name: member.after for name, member in members.items()})
    order.prepare()
    ready: deque[str] = deque()
    ended: dict[str, Row] = {}
    finished: SimpleQueue[Run] = SimpleQueue()
    while order.is_active():
        ready.extend(order.get_ready())
        missing = [each for each in members[ready[0]].after if ended[each].outcome != "done"] if ready else []
        if missing:
            row = Row(
                name=ready.popleft(), outcome="skipped", text=f"starts from {missing[0]}, which did not end"
            )
        elif ready and staff.free:
            member = members[ready.popleft()]
            board.start(member.name, member.application, log_of(member.application, member.until))
            submit(member, staff.free.pop(), finished)
            continue
        else:
            row = concluded(awaited(finished, board), staff, board)
        ended[row.name] = row
        order.done(row.name)
        yield row


def submit(member: Member, worker: TaskRunner[Any], finished: "SimpleQueue[Run]") -> None:
    """Give a member to a worker; when it ends, in whichever way, it comes through the queue."""
    with server.deaf():  # Ctrl-C comes through this process, which knows what it started
        future = worker.submit(
            run_member,
            {"application": member.application, "until": member.until, "force": member.force},
        )
    future.add_done_callback(lambda each: finished.put((member, worker, each)))


def awaited(finished: "SimpleQueue[Run]", board: Board) -> "Run":
    """The next run that ends; the board is kept up to date meanwhile."""
    while True:
        try:
            return finished.get(timeout=LOOK_SECONDS)
        except Empty:
            board.look()


def concluded(run: "Run", staff: Workers, board: Board) -> Row:
    """How a run ended; its worker is free again, or replaced where its process died."""
    member, worker, future = run
    seconds = board.seconds(member.name)
    try:
        future.wait()
    except BrokenExecutor:
        staff.free.append(staff.renew(worker))
        return Row(name=member.name, outcome="failed", text=DIED, seconds=seconds)
    staff.free.append(worker)
    state = future.state
    if not state.is_final():  # Dask gave up on it
        return Row(name=member.name, outcome="failed", text=DIED, seconds=seconds)
    if not state.is_completed():
        return Row(name=member.name, outcome="failed", text=state.message or "failed", seconds=seconds)
    found = future.result()
    return Row(
        name=member.name, outcome="done", text=summary(found["done"]), metric=found["metric"], seconds=seconds
    )


def conduct(applications: list[str], *, workers: int | None, dask: str, force: bool) -> int:
    """The command: the flow on one server for all processes; returns the exit status."""
    checked(applications, workers)  # before a server is started
    with server.shared():
        state = run_course(applications, workers=workers, dask=dask, force=force, return_state=True)
    if state.is_completed():
        return 0
    error = state.result(raise_on_failure=False)
    if isinstance(error, BaseException):
        raise error
    return 1  # members failed: the table has told
