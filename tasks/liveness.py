"""Signs of life: which process works on a run, when it was last heard of, and runs that nobody works on."""

import math
import os
import platform
import time
from typing import TYPE_CHECKING

import psutil

from tasks.store import HEARTBEAT, Store

if TYPE_CHECKING:
    from mlflow.entities import Run

HOST, PROCESS = "practicum.host", "practicum.process"
HEARTBEAT_SECONDS = 60.0
"""Between signs of life where no epoch ends; at most a quarter of the limit."""
SILENT_MINUTES = 30.0
"""Default of PRACTICUM_SILENT_MINUTES: a validation or a checkpoint may take long, and nobody waits for the
record: a run that was closed too early is opened again by the next sign."""


def silent_seconds() -> float:
    """How long a run of another host may be silent until it counts as dead.

    PRACTICUM_SILENT_MINUTES; ValueError where it is no number above 0.
    """
    wanted = os.environ.get("PRACTICUM_SILENT_MINUTES", str(SILENT_MINUTES))
    try:
        minutes = float(wanted)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise ValueError(f"PRACTICUM_SILENT_MINUTES is {wanted!r}; it must be a number of minutes above 0")
    return minutes * 60


def signs() -> dict[str, str]:
    """Tags of a run that this process works on now."""
    process = psutil.Process()
    return {
        HOST: platform.node(),
        PROCESS: f"{process.pid} {process.create_time():.2f}",
        HEARTBEAT: str(time.time_ns() // 1_000_000),
    }


def close_dead_runs(store: Store) -> int:
    """Mark RUNNING runs that nobody works on as KILLED, at the time of their last sign; returns how many.

    Of this host: those whose process is gone. Of others: those that were silent for `silent_seconds`.
    """
    limit = silent_seconds()
    dead = [run for run in store.runs("attributes.status = 'RUNNING'") if _dead(run, limit)]
    for run in dead:
        store.client.set_terminated(run.info.run_id, "KILLED", end_time=_heard(run))
    return len(dead)


def _dead(run: "Run", limit: float) -> bool:
    tags = run.data.tags
    if tags.get(HOST) == platform.node():
        return not _alive(tags.get(PROCESS, ""))
    return time.time() - _heard(run) / 1000 > limit


def _heard(run: "Run") -> int:
    """When there was a last sign of it, in milliseconds since 1970."""
    return max(int(run.info.start_time), int(run.data.tags.get(HEARTBEAT, 0)))


def _alive(process: str) -> bool:
    """Whether `PID START` still runs: the start tells it from a later process of the same number."""
    try:
        pid, started = process.split()
        return math.isclose(psutil.Process(int(pid)).create_time(), float(started), abs_tol=1.0)
    except (ValueError, psutil.Error):
        return False
