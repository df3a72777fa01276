"""What decodes published images: threads, and where very many come, processes.

Threads start at once and share memory, but small images leave them waiting for Python's lock: two cleaned
10,000 of 128 pixels no faster than one. Processes take about a second to start, and hold 150 MB each.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

MANY = 5_000
"""Images after which processes take over: those that start meanwhile cost what 5,000 of 128 pixels gain (two
cores)."""

LOOK = 1.0
"""Seconds between two looks of a process whether the one that started it still lives."""


class Decoders:
    """The pool that the next task is to be handed; results are the same whichever it is."""

    def __init__(self, workers: int, stack: ExitStack) -> None:
        self.workers, self.stack = workers, stack
        self.seen = 0
        self.pool: Executor = stack.enter_context(ThreadPoolExecutor(workers))

    def pool_for(self, images: int) -> Executor:
        """Where a task of so many images belongs."""
        before, self.seen = self.seen, self.seen + images
        if before < MANY <= self.seen and self.workers > 1 and not multiprocessing.current_process().daemon:
            self.pool = self.stack.enter_context(_processes(self.workers))
        return self.pool


@contextmanager
def decoders(workers: int) -> Iterator[Decoders]:
    """Ended on leaving, after the tasks that were handed out."""
    with ExitStack() as stack:
        yield Decoders(workers, stack)


@contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    """RuntimeError where one of them was killed, which takes its images along."""
    from loky import ProcessPoolExecutor
    from loky.process_executor import TerminatedWorkerError

    with ProcessPoolExecutor(workers, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        try:
            yield pool
        except TerminatedWorkerError as error:
            raise RuntimeError(
                "a process that decoded images was killed, most likely because memory ran out; run the stage"
                " again with more of it, or lower clean.max_pixels"
            ) from error


def _end_with(parent: int) -> None:
    """Leave when the process that asked for the work is gone, even by SIGKILL: it cannot say so then.

    Ctrl-C reaches both, and is that one's affair.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
