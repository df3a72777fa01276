"""The processes of a course: a Dask cluster in their place, and the end of all of them with Ctrl-C."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.flows.conftest import command
from tests.scratch import lock_entries, plain, write_parameters


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one application, `mine`."""
    root = tmp_path_factory.mktemp("workers") / "project"
    shutil.copytree(template, root)
    return root


def change(root: Path, block: str, **values: Any) -> None:
    parameters = yaml.safe_load((root / "params.yaml").read_text())
    parameters["applications"]["mine"][block].update(values)
    write_parameters(root, parameters)


COURSE = ("flows", "course", "mine", "--workers", "1", "--dask")


def test_the_same_flow_on_a_local_dask_cluster(project: Path, prefect_server: str) -> None:
    done = command(project, *COURSE, "local", PREFECT_API_URL=prefect_server)
    assert "[1/1] mine: done: 6 ran" in done.stdout
    assert "export@mine" in lock_entries(project)
    assert "distributed" not in done.stderr, "Dask's own lines"


def test_the_same_flow_on_an_existing_dask_cluster(
    project: Path, prefect_server: str, tmp_path: Path
) -> None:
    change(project, "export", course={"metric": "error_rate", "value": 0.5, "source": "a test"})
    with dask_cluster(project, tmp_path, prefect_server) as address:
        done = command(project, *COURSE, address, PREFECT_API_URL=prefect_server)
    assert "export@mine: ran" in done.stdout
    assert "a test" in (project / "artifacts" / "mine" / "export" / "card.md").read_text()


@contextlib.contextmanager
def dask_cluster(root: Path, folder: Path, server: str) -> Iterator[str]:
    """A Dask scheduler on the loopback and a worker in the checkout; the address of the scheduler."""
    from distributed import Client

    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    environment = plain(PREFECT_API_URL=server)
    options = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
    commands = [[*dask, "scheduler", "--port", "0", *options], [*dask, "worker", "--nthreads", "1", *options]]
    with (folder / "dask.txt").open("w") as log:
        processes = [
            subprocess.Popen(each, cwd=root, env=environment, stdout=log, stderr=log) for each in commands
        ]
    try:
        with Client(scheduler_file=str(file), timeout=120) as client:
            client.wait_for_workers(1, timeout=120)
            address = client.scheduler.address
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


def test_a_scheduler_that_does_not_answer_is_named(project: Path, prefect_server: str) -> None:
    done = command(
        project, "flows", "course", "mine", "--force", "--dask", "tcp://127.0.0.1:9", check=False,
        PREFECT_API_URL=prefect_server, DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="1s",
    )  # fmt: skip
    assert done.returncode == 1
    assert "tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_every_process(template: Path, tmp_path: Path) -> None:
    """With a temporary server, as a newcomer has it; the signal goes to the group, as a terminal sends it."""
    root = tmp_path / "project"
    shutil.copytree(template, root)
    change(root, "fine_tune", phases=[{"epochs": 100_000, "rates": [0.01]}])
    course = subprocess.Popen(
        [sys.executable, "-m", "flows", "course", "mine"], cwd=root, env=plain(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        assert course.stdout is not None
        assert any("fine_tune@mine: running" in line for line in course.stdout)
        started = psutil.Process(course.pid).children(recursive=True)
        assert len(started) >= 2, "a server and a worker"
        os.killpg(course.pid, signal.SIGINT)
        said = course.stdout.read()
        assert course.wait(60) == 130
        assert "stopped by Ctrl-C" in said
        assert "Traceback" not in said
        assert psutil.wait_procs(started, timeout=30)[1] == []
    finally:
        course.kill()
    assert not list((root / "artifacts" / "mine").glob(".*.partial"))
