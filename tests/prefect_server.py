"""A real Prefect server on a loopback port, with a home of its own, and a look at its runs."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import free_port, until

STARTUP_SECONDS = 180


@contextlib.contextmanager
def running(home: Path, **settings: str) -> Iterator[str]:
    """Start a server; yields its PREFECT_API_URL. It has ended when the block has."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # the server's own services call it at the address that it announces
    with started(command, home, home / "server.txt", address, PREFECT_HOME=str(home), **settings) as server:

        def answers() -> bool:
            assert server.poll() is None, (home / "server.txt").read_text()
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{address}/health", trust_env=False).is_success
            return False

        until(answers, "the Prefect server answers", seconds=STARTUP_SECONDS)
        yield address


@contextlib.contextmanager
def started(
    command: list[str], folder: Path, log: Path, address: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that speaks to the server at `address`; stopped at the end if it still runs."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, env={**plain(address), **environment}
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def plain(address: str) -> dict[str, str]:
    """An environment in which nothing is set but the server."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PREFECT", "DVC"))
    }
    return {
        **kept, "OMP_NUM_THREADS": "1", "PREFECT_API_URL": address, "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }  # fmt: skip


class Server:
    """What the tests ask of a running server, by its REST interface."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = httpx.Client(base_url=address, trust_env=False, timeout=30)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        def served() -> httpx.Response | None:
            answer = self.http.request(method, path, json=body)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer = until(served, f"the server, whose data base is one file, has time for {path}")
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.ask("POST", "/deployments/filter", {})}

    def order(self, application: str, **parameters: Any) -> str:
        """Ask for a run now; returns its id."""
        deployment = self.ask("GET", f"/deployments/name/application/{application}")
        body = {"parameters": {**deployment["parameters"], **parameters}}
        return str(self.ask("POST", f"/deployments/{deployment['id']}/create_flow_run", body)["id"])

    def state(self, run: str) -> tuple[str, str]:
        """Name and message of a run's state."""
        state = self.ask("GET", f"/flow_runs/{run}")["state"]
        return state["name"], state["message"] or ""

    def ended(self, run: str) -> tuple[str, str]:
        """The same, once the run has ended."""

        def end() -> bool:
            return self.ask("GET", f"/flow_runs/{run}")["state"]["type"] in (
                "COMPLETED", "FAILED", "CRASHED", "CANCELLED",
            )  # fmt: skip

        until(end, f"run {run} ends")
        return self.state(run)

    def stages(self, run: str) -> dict[str, str]:
        """Names and states of a run's tasks."""
        body = {"flow_runs": {"id": {"any_": [run]}}}
        return {each["name"]: each["state_name"] for each in self.ask("POST", "/task_runs/filter", body)}

    def summary(self, key: str) -> str:
        """The newest artifact of a key."""
        return str(self.ask("GET", f"/artifacts/{key}/latest")["data"])
