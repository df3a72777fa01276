"""Deployments made from params.yaml on a real server: served, deployed, and stopped."""

import re
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.flows.conftest import command, entry
from tests.prefect_server import Server, started
from tests.scratch import write_parameters
from tests.waiting import until


def change(root: Path, **values: Any) -> None:
    """Top-level values of params.yaml."""
    write_parameters(root, {**yaml.safe_load((root / "params.yaml").read_text()), **values})


def deploy(root: Path, server: Server, *arguments: str, check: bool = True) -> str:
    done = command(root, "flows", "deploy", *arguments, check=check, PREFECT_API_URL=server.address)
    return done.stdout + done.stderr


def test_an_entry_of_params_yaml_alone_is_served(project: Path, server: Server) -> None:
    """Added by a user, run, refused beside itself, and stopped by Ctrl-C within a training."""
    change(
        project, applications={"my_own": entry()}, schedule={"cron": "30 4 * * 1", "timezone": "Asia/Tokyo"}
    )
    line = [sys.executable, "-m", "flows", "serve", "--limit", "2"]
    with started(line, project, project.parent / "serve.txt", server) as serving:
        until(lambda: "my_own" in server.deployments(), "the deployment is there")
        (schedule,) = server.deployments()["my_own"]["schedules"]
        assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == (
            "30 4 * * 1",
            "Asia/Tokyo",
        )

        runs = [server.order("my_own"), server.order("my_own")]
        assert sorted(server.ended(run) for run in runs) == [
            ("Cancelled", "Deployment concurrency limit reached."), ("Completed", "my_own: 6 ran"),
        ]  # fmt: skip
        text = server.summary("application-my-own")
        assert text.startswith("# my_own: 6 ran\n")
        assert "| `fine_tune@my_own` | ran |" in text
        assert "| valid accuracy |" in text
        assert re.search(r"/#/experiments/\d+/runs/\w+\?workflowType=machine_learning\)", text)
        assert "](data:image/png;base64," in text

        change_phases(project, epochs=500)
        run = server.order("my_own")
        until(lambda: server.stages(run).get("fine_tune@my_own") == "Running", "the training runs")
        processes = [psutil.Process(serving.pid), *psutil.Process(serving.pid).children(recursive=True)]
        assert len(processes) > 1
        serving.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs(processes, timeout=60)
        assert not alive
    assert not server.deployments()["my_own"]["paused"]


def change_phases(root: Path, *, epochs: int) -> None:
    parameters = yaml.safe_load((root / "params.yaml").read_text())
    for each in parameters["applications"].values():
        each["fine_tune"]["phases"][0]["epochs"] = epochs
    write_parameters(root, parameters)


def test_deploying_makes_changes_and_takes_away_and_is_idempotent(project: Path, server: Server) -> None:
    change(
        project, applications={"one": entry(), "two": entry(schedule={"cron": "0 5 * * *", "late_hours": 2})}
    )
    told = deploy(project, server, "--pool", "first")
    assert "one  0 2 * * * UTC  (made)" in told
    assert "two  0 5 * * * UTC  (made)" in told
    before = server.deployments()
    assert before["one"]["tags"] == ["practicum", "late-after-6h"]
    assert before["two"]["tags"] == ["practicum", "late-after-2h"]
    assert before["one"]["global_concurrency_limit"]["limit"] == 1
    assert str(project) not in str(before)

    told = deploy(project, server, "--pool", "first")
    assert told.count("(as before)") == 2
    assert "automation" not in told
    assert server.deployments() == before

    change(project, applications={"one": entry(schedule={"cron": None})})
    told = deploy(project, server, "--pool", "first")
    assert "one  on demand  (changed)" in told
    assert "two  (removed: params.yaml has no such application)" in told
    assert "automation removed: practicum: cancel runs that are late by 2 h" in told
    after = server.deployments()
    assert "two" not in after
    assert after["one"]["schedules"] == []
    assert after["one"]["id"] == before["one"]["id"]


def test_without_a_server_the_commands_say_how_to_start_one(project: Path) -> None:
    for name in ("serve", "deploy"):
        done = command(project, "flows", name, check=False)
        assert done.returncode == 1
        assert "PREFECT_API_URL is not set" in done.stderr
        assert "prefect server start" in done.stderr
    done = command(project, "flows", "deploy", check=False, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1
    assert "no Prefect server answers at http://127.0.0.1:9/api" in done.stderr
