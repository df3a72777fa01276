"""What the server does beside a worker: it tells of failed runs, and cancels late ones."""

import hashlib
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests import servers
from tests.flows.conftest import command, entry
from tests.flows.published import archive, publish
from tests.prefect_server import Server, started
from tests.scratch import write_parameters
from tests.waiting import until


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    """Address of a webhook, and what it has been told."""
    said: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", said
    server.shutdown()
    server.server_close()


def deploy(root: Path, server: Server, applications: dict[str, Any], *arguments: str) -> None:
    parameters = {"edition": "full", "mirror": "", "weights": {}, "applications": applications}
    write_parameters(root, parameters)
    command(root, "flows", "deploy", *arguments, PREFECT_API_URL=server.address)


def test_a_worker_runs_what_is_deployed_and_the_server_tells_of_a_failure(
    project: Path, server: Server, told: tuple[str, list[str]]
) -> None:
    address, said = told
    old, new = archive(project.parent / "old", each=16), archive(project.parent / "new", each=20)
    was, now = (hashlib.sha256(content).hexdigest() for content in (old, new))
    with servers.running() as publisher:
        publisher.answers["/pinned"] = servers.whole(old)
        pinned = publish(project, "pinned", publisher.address("/pinned"), digest={"sha256": was})
        deploy(project, server, {"pinned": pinned}, "--pool", "first", "--webhook", address)
        line = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "first"]
        with started(line, project, project.parent / "worker.txt", server):
            assert server.ended(server.order("pinned")) == ("Completed", "pinned: 6 ran")
            publisher.answers["/pinned"] = servers.whole(new)
            state, message = server.ended(server.order("pinned"))
    assert state == "Failed"
    assert f"sha256 was {was}, is {now}" in message
    assert server.summary("application-pinned").startswith("# pinned: failed before its first stage")
    until(lambda: said, "the webhook is told")
    assert "practicum: run pinned Failed" in said[0]
    assert f"sha256 was {was}, is {now}" in said[0]


def test_the_server_cancels_what_nobody_began_in_time(project: Path, server: Server) -> None:
    hours = 12 / 3600  # of a pool without a worker
    late = entry(schedule={"cron": None, "late_hours": hours})
    deploy(project, server, {"late": late}, "--pool", "second")
    assert server.ended(server.order("late")) == ("Cancelled", f"not begun within {hours:g} hours")
