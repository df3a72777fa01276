"""A real Prefect server on a loopback port, with a home of its own, and a look at its runs."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.scratch import plain
from tests.waiting import free_port, until


class Server:
    """A server in a process of its own, which can be stopped and started; asked by its REST interface."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}/api"
        self.http = httpx.Client(base_url=self.address, trust_env=False, timeout=30)

    def start(self) -> None:
        """Returns when it answers."""
        line = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
        # its own services call it at the address that it announces
        environment = plain(
            PREFECT_HOME=str(self.home), PREFECT_API_URL=self.address,
            PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS="1",
        )  # fmt: skip
        with (self.home / "server.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*line, "--port", str(self.port)], cwd=self.home, stdout=log, stderr=log, env=environment
            )
        until(self.answers, "the Prefect server answers")

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.home / "server.txt").read_text()
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/health").is_success
        return False

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        def served() -> httpx.Response | None:
            answer = self.http.request(method, path, json=body)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer = until(served, f"the server, whose data base is one file, has time for {path}")
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def claims(self) -> list[dict[str, Any]]:
        """The variables that are claims on applications."""
        variables = self.ask("POST", "/variables/filter", {})
        return [each for each in variables if each["name"].startswith("claim-")]

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.ask("POST", "/deployments/filter", {})}

    def order(self, application: str, **parameters: Any) -> str:
        """Ask for a run now; returns its id."""
        deployment = self.ask("GET", f"/deployments/name/application/{application}")
        body = {"parameters": {**deployment["parameters"], **parameters}, "state": {"type": "SCHEDULED"}}
        return str(self.ask("POST", f"/deployments/{deployment['id']}/create_flow_run", body)["id"])

    def states(self) -> dict[str, str]:
        """Name of the state of each flow run, by its id."""
        return {each["id"]: each["state_name"] for each in self.ask("POST", "/flow_runs/filter", {})}

    def ended(self, run: str) -> tuple[str, str]:
        """Name and message of a run's state, once the run has ended."""

        def end() -> dict[str, Any] | None:
            state: dict[str, Any] = self.ask("GET", f"/flow_runs/{run}")["state"]
            return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        state = until(end, f"run {run} ends")
        return state["name"], state["message"] or ""

    def stages(self, run: str) -> dict[str, str]:
        """Names and states of a run's tasks."""
        body = {"flow_runs": {"id": {"any_": [run]}}}
        return {each["name"]: each["state_name"] for each in self.ask("POST", "/task_runs/filter", body)}

    def summary(self, key: str) -> str:
        """The newest artifact of a key."""
        return str(self.ask("GET", f"/artifacts/{key}/latest")["data"])


@contextlib.contextmanager
def started(command: list[str], folder: Path, log: Path, server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """A process that speaks to the server; stopped at the end if it still runs."""
    environment = plain(
        PREFECT_API_URL=server.address, PREFECT_WORKER_QUERY_SECONDS="1", PREFECT_RUNNER_POLL_FREQUENCY="1"
    )
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
