"""Machines that share a remote, a Prefect server and an MLflow store: clones of one project, as processes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.scratch import commit, git
from tests.waiting import free_port, until

LEASE = 12.0
"""Seconds; the server is on SQLite and on a machine that does other work."""
EPOCHS = 150
"""Enough to be killed in the middle, and to lose a claim: it is renewed every three seconds."""
STAGES = ("download", "clean", "split", "fine_tune", "evaluate", "export")


class Server:
    """A Prefect server in a process of its own, which can be stopped and started."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.home = home

    def start(self) -> None:
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], env=environment(PREFECT_HOME=str(self.home)), stdout=log,
                stderr=log,
            )  # fmt: skip
        until(self.answers, "the Prefect server")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health").is_success
        except httpx.HTTPError:
            return False

    def ask(self, path: str, **filters: Any) -> Any:
        return httpx.post(self.api + path, json=filters).raise_for_status().json()

    def claims(self) -> list[dict[str, Any]]:
        return [each for each in self.ask("/variables/filter") if each["name"].startswith("claim-")]

    def states(self) -> dict[str, str]:
        """State of each flow run by its id."""
        return {each["id"]: each["state_name"] for each in self.ask("/flow_runs/filter")}


def environment(**changed: str) -> dict[str, str]:
    """Of a process in which nothing is activated."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PREFECT", "DVC"))
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **kept, "PATH": path, "OMP_NUM_THREADS": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONUNBUFFERED": "1", "PRACTICUM_LEASE_SECONDS": str(LEASE), **changed,
    }  # fmt: skip


class Machines:
    """Two clones of one project, which share a remote, a Prefect server and an MLflow store."""

    def __init__(self, place: Path, origin: Path, server: Server) -> None:
        self.place = place
        self.server = server
        self.started: list[subprocess.Popen[bytes]] = []
        project = place / "origin"
        shutil.copytree(origin, project)
        dvc = [sys.executable, "-m", "dvc", "remote", "add", "-q", "--default", "shelf", str(place / "shelf")]
        subprocess.run(dvc, cwd=project, check=True)
        commit(project, "a remote")
        for name in ("a", "b"):
            git(place, "clone", "-q", "origin", name)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A command in a clone, in a group of its own; what it says goes to a file."""
        store = f"sqlite:///{self.place / 'mlflow.db'}"
        with self.log(name).open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=self.place / name, stdout=log, stderr=log,
                env=environment(PREFECT_API_URL=self.server.api, MLFLOW_TRACKING_URI=store),
                start_new_session=True,
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
