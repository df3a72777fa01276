"""A training of several processes that tests start, look at and stop: the real stage on drawn shapes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.scratch import make_project

LIMIT = 240
"""Seconds after which a test gives up waiting."""


def prepared(folder: Path, **fine_tune: Any) -> Workspace:
    """A project that is ready to train in float32, whose sums differ least."""
    pictures.write_folder(folder / "shapes")
    entry = pictures.entry(fine_tune={"precision": "float32", **fine_tune})
    workspace = checkout(make_project(folder / "project", pictures.parameters(shapes=entry)))
    for stage in ("download", "clean", "split"):
        run_stage(stage, "shapes", workspace=workspace)
    return workspace


def environment(**changes: str) -> dict[str, str]:
    """Two processes that train."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PRACTICUM_PROCESSES": "2", **changes}


def train(workspace: Workspace, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`python -m tasks fine_tune shapes`, or `python -m COMMAND`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", *(command or ("tasks", "fine_tune", "shapes"))], cwd=workspace.root,
        env=environment(**changes), capture_output=True, text=True, check=False,
    )  # fmt: skip


class Running:
    """A training under way, and the processes that it started."""

    def __init__(self, process: "subprocess.Popen[bytes]", said: Path) -> None:
        self.process, self.said = process, said
        self.started = psutil.Process(process.pid).children(recursive=True)
        """Torchrun and the ranks; of a flow, its temporary server as well."""

    def rank(self, number: int) -> psutil.Process:
        """The process of that rank."""
        return next(each for each in self.launched() if each.environ().get("RANK") == str(number))

    def launched(self) -> list[psutil.Process]:
        """Torchrun and the ranks."""
        return [each for each in self.started if "tasks.launch" in each.cmdline()]

    def end(self) -> tuple[int, str]:
        """Wait for the end of it all: exit status and stderr. Fails where a process is left."""
        self.process.wait(LIMIT)
        _, left = psutil.wait_procs(self.started, timeout=LIMIT)
        assert not left
        return self.process.returncode, self.said.read_text()


@contextmanager
def running(workspace: Workspace, *command: str) -> Iterator[Running]:
    """The same in the background, from the first stored state on."""
    folder, said = workspace.state / "checkpoints" / "shapes", workspace.root.parent / "stderr.txt"
    before = stored(folder)
    with said.open("wb") as stderr:  # no pipe, which a server that a flow starts would keep open
        process = subprocess.Popen(
            [sys.executable, "-m", *(command or ("tasks", "fine_tune", "shapes"))], cwd=workspace.root,
            env=environment(), stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: stored(folder) != before or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        yield Running(process, said)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stored(folder: Path) -> list[int]:
    """Times of the stored states."""
    return [path.stat().st_mtime_ns for path in folder.glob("*.pt")]


def wait_for(happened: Callable[[], bool]) -> None:
    """Look again and again; fails after LIMIT."""
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
