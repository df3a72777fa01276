"""Machines that share a remote, a Prefect server and an MLflow store: clones of one project, as processes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.prefect_server import Server
from tests.remotes import folder_remote
from tests.scratch import commit, git, plain

LEASE = 12.0
"""Seconds; the server is on SQLite and on a machine that does other work."""
EPOCHS = 150
"""Enough to be killed in the middle, and to lose a claim: it is renewed every three seconds."""
STAGES = ("download", "clean", "split", "fine_tune", "evaluate", "export")


class Machines:
    """Two clones of one project, which share a remote, a Prefect server and an MLflow store."""

    def __init__(
        self, place: Path, origin: Path, server: Server, *, remote: Callable[[Path], None] = folder_remote
    ) -> None:
        self.place = place
        self.server = server
        self.started: list[subprocess.Popen[bytes]] = []
        project = place / "origin"
        shutil.copytree(origin, project)
        remote(project)
        commit(project, "a remote")
        for name in ("a", "b"):
            git(place, "clone", "-q", "origin", name)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A command in a clone, in a group of its own; what it says goes to a file."""
        store = f"sqlite:///{self.place / 'mlflow.db'}"
        with self.log(name).open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=self.place / name, stdout=log, stderr=log,
                start_new_session=True, env=plain(
                    PREFECT_API_URL=self.server.address, MLFLOW_TRACKING_URI=store,
                    PRACTICUM_LEASE_SECONDS=str(LEASE),
                ),
            )  # fmt: skip
        self.started.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.place / f"{name}.log"

    def said(self, name: str, *texts: str) -> bool:
        """Whether the log of a clone holds one of the texts."""
        return any(text in self.log(name).read_text() for text in texts)

    def in_training(self, name: str) -> bool:
        return self.said(name, f"2/{EPOCHS}")

    def weights(self, name: str) -> bytes:
        return (self.place / name / "artifacts/mine/fine_tune/weights.safetensors").read_bytes()

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                self.kill(process)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """kill -9 of a whole machine: the process and all that it has started."""
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        for each in family:
            os.kill(each.pid, signal.SIGKILL)
        process.wait()
