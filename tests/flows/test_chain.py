"""Three doors, one result: `dvc repro`, the Prefect flow, and the six single-stage commands."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tasks.pipeline import STAGE_NAMES
from tests import pictures, servers
from tests.flows.conftest import command, entry
from tests.flows.published import archive, publish
from tests.scratch import lock_entries, write_parameters

STAGES = [f"{stage}@mine" for stage in STAGE_NAMES]


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy, as the current folder."""
    root = tmp_path / "project"
    shutil.copytree(template, root)
    monkeypatch.chdir(root)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture(scope="session")
def reproduced(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after `dvc repro export@mine`."""
    root = tmp_path_factory.mktemp("repro") / "project"
    shutil.copytree(template, root)
    command(root, "dvc", "repro", "export@mine", PATH=path())
    return root


def path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def change(root: Path, **block: Any) -> None:
    parameters = yaml.safe_load((root / "params.yaml").read_text())
    for name, values in block.items():
        parameters["applications"]["mine"][name] = {**parameters["applications"]["mine"][name], **values}
    write_parameters(root, parameters)


def digests(root: Path) -> dict[str, str]:
    """sha256 of every file below `artifacts/`."""
    files = (file for file in (root / "artifacts").rglob("*") if file.is_file() and file.name != ".gitignore")
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)
    }


def states_of(flow_state: Any) -> dict[str, str]:
    """What Prefect's pages show for the tasks of a flow run; they arrive at the server a little later."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(100):
            runs = client.read_task_runs(flow_run_filter=wanted, sort=TaskRunSort.NAME_ASC, limit=50)
            states = {run.name: run.state_name for run in runs}
            if len(states) == len(STAGES) and "Running" not in states.values():
                break
            time.sleep(0.2)
    return states


def test_the_flow_ends_with_the_lock_and_the_bytes_of_dvc_repro(
    project: Path, reproduced: Path, prefect_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.chain import run_application, summary

    assert run_application("mine") == dict.fromkeys(STAGES, "ran")
    assert lock_entries(project) == lock_entries(reproduced)
    assert list(lock_entries(project)) == STAGES
    assert digests(project) == digests(reproduced)
    assert len(digests(project)) > 20

    # A second run does no work and says so; nor does the other door find anything to do.
    before = {file: file.stat().st_mtime_ns for file in (project / "artifacts").rglob("*")}
    done = run_application("mine")
    assert done == dict.fromkeys(STAGES, "current")
    assert summary(done) == "nothing to do: all 6 stages are current"
    assert {file: file.stat().st_mtime_ns for file in (project / "artifacts").rglob("*")} == before
    assert states_of(run_application("mine", return_state=True)) == dict.fromkeys(STAGES, "Cached")
    assert "up to date" in command(project, "dvc", "repro", "export@mine", PATH=path()).stdout

    # Another parameter reruns what depends on it; the former one comes back from the run cache.
    lock = lock_entries(project)
    change(project, evaluate={"shown": 2})
    expected = {**dict.fromkeys(STAGES, "current"), "evaluate@mine": "ran", "export@mine": "ran"}
    assert run_application("mine") == expected
    change(project, evaluate={"shown": 4})
    expected |= {"evaluate@mine": "restored", "export@mine": "restored"}
    assert run_application("mine") == expected
    assert lock_entries(project) == lock
    assert "evaluate@mine: restored" in capsys.readouterr().out


def test_single_commands_end_with_the_same(project: Path, reproduced: Path) -> None:
    for stage in STAGE_NAMES:
        command(project, "tasks", stage, "mine")
    assert lock_entries(project) == lock_entries(reproduced)
    assert digests(project) == digests(reproduced)


def test_a_failed_stage_fails_the_flow_with_its_reason(project: Path, prefect_server: str) -> None:
    from flows.chain import run_application

    shutil.rmtree(project / "pictures" / "teal")
    state = run_application("mine", return_state=True)
    assert state.is_failed()
    assert "class" in state.message
    assert "download@mine" in lock_entries(project)
    assert "export@mine" not in lock_entries(project)
    with pytest.raises(ValueError, match="class"):
        run_application("mine")


def test_the_command_fails_with_the_reason_and_without_a_traceback(project: Path) -> None:
    shutil.rmtree(project / "pictures")
    done = command(project, "flows", "run", "mine", check=False)
    assert done.returncode == 1
    assert "pictures" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    done = command(project, "flows", "run", "mien", check=False)
    assert (done.returncode, "did you mean 'mine'" in done.stderr) == (1, True)
    assert not (project / "dvc.lock").exists()


def artifact(key: str) -> str:
    """The newest version of a summary."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        answer = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key})
        return str(answer.json()["data"])


def test_a_followed_source_is_fetched_anew_and_only_what_follows_is_done(
    project: Path, prefect_server: str
) -> None:
    from flows.chain import run_application

    old, new = archive(project.parent / "old", each=16), archive(project.parent / "new", each=20)
    nothing = dict.fromkeys(STAGES, "current")
    with servers.running() as publisher:
        publisher.answers["/it"] = servers.whole(old)
        mine = publish(project, "followed", publisher.address("/it"), follow=True)
        write_parameters(project, {**pictures.parameters(mine=mine), "edition": "full"})
        assert run_application("mine", check_sources=True) == dict.fromkeys(STAGES, "ran")
        assert run_application("mine", check_sources=True) == nothing

        publisher.answers["/it"] = servers.whole(new)
        assert run_application("mine") == nothing, "nobody asked"
        assert run_application("mine", check_sources=True) == dict.fromkeys(STAGES, "ran")

        publisher.answers["/it"] = servers.whole(new, tag=False)  # must be fetched to be known
        lock = lock_entries(project)
        state = run_application("mine", check_sources=True, return_state=True)
        assert state.message == "mine: nothing to do: all 6 stages are current"
        assert state.result() == nothing
        assert lock_entries(project) == lock
    assert "followed, fetched anew" in artifact("application-mine")


def test_a_pinned_source_that_changed_fails_and_changes_nothing(project: Path, prefect_server: str) -> None:
    from flows.chain import run_application

    old, new = archive(project.parent / "old", each=16), archive(project.parent / "new", each=20)
    was, now = (hashlib.sha256(content).hexdigest() for content in (old, new))
    with servers.running() as publisher:
        publisher.answers["/it"] = servers.whole(old)
        mine = publish(project, "pinned", publisher.address("/it"), digest={"sha256": was})
        write_parameters(project, {**pictures.parameters(mine=mine), "edition": "full"})
        run_application("mine", check_sources=True)
        before, lock = digests(project), lock_entries(project)
        publisher.answers["/it"] = servers.whole(new)
        state = run_application("mine", check_sources=True, return_state=True)
    assert state.is_failed()
    assert f"sha256 was {was}, is {now}" in state.message
    assert (digests(project), lock_entries(project)) == (before, lock)
    assert f"sha256 was {was}, is {now}" in artifact("application-mine")


@pytest.mark.timeout(method="thread")  # beside another alarm, Prefect's limit could not interrupt a wait
def test_the_time_limit_ends_a_run_and_what_it_has_started(project: Path, prefect_server: str) -> None:
    from flows.chain import limited, run_application

    state = run_application("mine", time_limit_hours=0.5 / 3600, return_state=True)
    assert state.name == "TimedOut"
    assert "`schedule.time_limit_hours`" in state.message
    assert not [*(project / "artifacts").rglob("*.partial")]
    assert "export@mine" not in lock_entries(project)

    with pytest.raises(TimeoutError, match="time limit"), limited("mine", 1 / 3600):
        subprocess.run(["sleep", "300"], check=True)
    assert "sleep" not in {child.name() for child in psutil.Process().children(recursive=True)}


@pytest.mark.timeout(method="thread")
def test_a_time_limit_that_falls_into_a_destructor_still_ends_the_run() -> None:
    from flows.chain import limited

    class Slow:
        def __del__(self) -> None:
            time.sleep(1)  # what is raised in here, Python drops

    def work() -> None:
        Slow()
        threading.Event().wait(60)

    with pytest.raises(TimeoutError, match="time limit"), limited("mine", 0.5 / 3600):
        work()


def test_an_application_walks_first_what_it_starts_from(project: Path, prefect_server: str) -> None:
    from flows.chain import run_application

    parameters = yaml.safe_load((project / "params.yaml").read_text())
    parameters["applications"]["later"] = entry(starts_from="artifacts/mine/fine_tune")
    write_parameters(project, parameters)
    done = run_application("later")
    assert set(done) == {
        *(f"{stage}@later" for stage in STAGE_NAMES), *STAGES[:4],
    }  # fmt: skip
    assert set(done.values()) == {"ran"}


def test_retries_are_for_the_network_only() -> None:
    from flows.chain import TASKS, may_help

    class Ended:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def result(self, *, raise_on_failure: bool) -> Exception:
            return self.error

    hopeful = [ConnectionResetError(), TimeoutError(), OSError(110, "timed out")]
    hopeless = [
        ValueError("wrong digest"),
        OSError(28, "no space left"),
        FileNotFoundError(2, "no such file"),
    ]
    assert [may_help(None, None, Ended(error)) for error in (*hopeful, *hopeless)] == [True] * 3 + [False] * 3
    assert {name: each.retries for name, each in TASKS.items() if each.retries} == {
        "weights": 2,
        "download": 2,
    }
