"""One member of a course, as a worker's process runs it: an application as a flow, its output in a log."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.explain import headline_of
from tasks.interrupts import heard
from tasks.parameters import load_parameters
from tasks.workspace import checkout

PROCESSES = "PRACTICUM_PROCESSES"
_alone = threading.Lock()
"""The seed of torch is one for the whole process: a Dask worker of more threads still runs one at once."""


def bring(application: str, until: str, force: bool) -> State[dict[str, Any]]:
    """Bring `until@application` up to date as a flow of its own.

    The state holds what was done by stage, the headline metric and seconds, or in one line why it failed.
    """
    from flows.chain import run_application

    if not Path("params.yaml").is_file():
        return Failed(message=f"{Path.cwd()} is no checkout; start the Dask workers in one")
    os.environ.setdefault(
        PROCESSES, "1"
    )  # several applications share the devices, unless the user says otherwise
    with _alone, _logged(log_of(application, until)):
        began = time.monotonic()
        state = run_application(application, force=force, until=until, return_state=True)
        if not state.is_completed():
            error = state.result(raise_on_failure=False)
            assert isinstance(error, Exception)
            traceback.print_exception(error)
            known = isinstance(error, ValueError | OSError | FloatingPointError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            return Failed(message=" ".join(reason.split()))
        found = {
            "done": state.result(),
            "metric": headline_of(application, load_parameters(Path("params.yaml")))
            if until == "export"
            else "",
            "seconds": round(time.monotonic() - began, 1),
        }
    return Completed(data=found)


# Not a decorator: pickle then finds the function by its name, and does not copy all that it refers to.
run_member = task(
    name="member", task_run_name="{until}@{application}", cache_policy=NO_CACHE, persist_result=False
)(bring)


def log_of(application: str, until: str) -> Path:
    """Where the output of a member goes."""
    name = f"weights-{application}" if until == "weights" else application
    return checkout().state / "logs" / "course" / f"{name}.txt"


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Output of this process and its children goes to `path` meanwhile, and Ctrl-C is heard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hears = threading.current_thread() is threading.main_thread()  # a Dask worker runs tasks in other threads
    before = signal.signal(signal.SIGINT, signal.default_int_handler) if hears else None
    _flush()
    terminal = [os.dup(number) for number in (1, 2)]
    with path.open("wb") as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    try:
        with heard():
            yield
    finally:
        _flush()
        for number, copy in enumerate(terminal, start=1):
            os.dup2(copy, number)
            os.close(copy)
        if hears:
            signal.signal(signal.SIGINT, before)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
