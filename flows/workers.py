"""Warm processes in which the members of a course run, one after another: each imports torch once.

They are Prefect's own task runners: pools of processes on this machine, or a Dask cluster.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from flows.server import deaf

GRACE_SECONDS = 20
"""After Ctrl-C, for a stage to end in order before its process is killed."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What can run members now; each runs one at a time."""

    free: list[TaskRunner[Any]]
    renew: Callable[[TaskRunner[Any]], TaskRunner[Any]]
    """Another one in the place of one whose process died."""


@contextmanager
def processes(count: int) -> Iterator[Workers]:
    """So many processes of this machine, each a pool of its own: one that dies takes no other along.

    Where the body is left by an exception or Ctrl-C, what they run is interrupted, and killed after a grace.
    """
    with ExitStack() as stack:

        def start(_: Any = None) -> TaskRunner[Any]:
            return stack.enter_context(ProcessPoolTaskRunner(max_workers=1, initializer=begin_process))

        with deaf():  # a process is started by a thread of the pool, which inherits this
            free = [start() for _ in range(count)]
        try:
            yield Workers(free=free, renew=start)
        except BaseException:
            _interrupt(stack)
            raise


@contextmanager
def cluster(address: str, count: int | None) -> Iterator[Workers]:
    """The workers of the Dask scheduler at `address`, or with `local` of a cluster on this machine.

    `count` is at most so many; None takes all there are. The workers run in the same checkout. Where the body
    is left by an exception or Ctrl-C, those that run a member are restarted. OSError where no scheduler
    answers, ValueError where it has no worker.
    """
    from distributed import Client

    connect: Any = Client  # it has no types
    from prefect_dask.task_runners import DaskTaskRunner

    logging.getLogger("distributed").setLevel(logging.ERROR)  # it tells of every connection
    own = {
        "n_workers": count,
        "threads_per_worker": 1,
        "dashboard_address": None,
        # What matters comes back as an exception; an error is also what a worker tells whose heartbeat meets
        # a scheduler that has just been closed.
        "silence_logs": logging.CRITICAL,
    }
    local = address == "local"
    before = set(_descendants())
    runner: Any = DaskTaskRunner(cluster_kwargs=own) if local else DaskTaskRunner(address=address)
    with ExitStack() as stack:
        stack.enter_context(runner)
        with deaf():
            client = runner.client
        found = len(client.scheduler_info(n_workers=-1)["workers"])
        if not found:
            raise ValueError(
                f"no worker is connected to the Dask scheduler at {address}; start some in this checkout:"
                f" `python -m dask worker {address} --nthreads 1`"
            )
        try:
            yield Workers(free=[runner] * min(count or found, found), renew=lambda dead: dead)
        except BaseException:
            if local:
                started = [each for each in _descendants() if each not in before]
                stack.close()
                _kill(started)
            else:
                ours = set(client.futures)
                busy = [worker for worker, keys in client.processing().items() if ours & set(keys)]
                stack.close()  # or the scheduler would give the same tasks to the workers that come back
                with connect(address) as other:
                    other.restart_workers(busy, raise_for_error=False)
            raise


def begin_process() -> None:
    """Begin a process of a pool: a group of its own, deaf while idle, which does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGINT)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _interrupt(stack: ExitStack) -> None:
    """Ctrl-C in every process of the pools, and their end."""
    groups = [process.pid for process in multiprocessing.active_children() if process.pid]

    def send(number: int) -> None:
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)

    send(signal.SIGINT)
    impatient = threading.Timer(GRACE_SECONDS, send, [signal.SIGKILL])
    impatient.start()
    try:
        stack.close()  # waits for what is running
    finally:
        impatient.cancel()
        send(signal.SIGKILL)  # what they have left behind


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _kill(those: Iterable[psutil.Process]) -> None:
    for each in those:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
