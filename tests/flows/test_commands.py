"""The command line on a project: what it shows, and what it finds wrong."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flows.doctor import examine, pins
from tasks.workspace import checkout
from tests.flows.conftest import command
from tests.scratch import plain
from tests.waiting import free_port, until

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("commands") / "project"
    shutil.copytree(template, root)
    return root


def test_list_and_explain(project: Path) -> None:
    listed = command(project, "flows", "list").stdout
    assert "edition sample" in listed
    assert "not evaluated yet" in next(line for line in listed.splitlines() if line.startswith("mine"))
    before = command(project, "flows", "explain", "mine").stdout
    assert "clean has not run yet" in before
    for stage in ("download", "clean", "split"):
        command(project, "tasks", stage, "mine")
    lines = command(project, "flows", "explain", "mine").stdout.splitlines()
    assert any("clean" in line and "amber/0.png" in line for line in lines)
    (batch,) = [line for line in lines if "batch" in line and "float32" in line]
    assert "(8, 3, 16, 16)" in batch
    (answer,) = [line for line in lines if line.strip().startswith("answer")]
    assert "(8, 2)" in answer
    assert any(
        line.split()[:2] == ["fine_tune.batch_size", "8"] and "[params.yaml]" in line for line in lines
    )


def test_ui_names_the_page_on_which_trainings_are(project: Path) -> None:
    port = free_port()
    ui = subprocess.Popen(
        [sys.executable, "-m", "flows", "ui", "--port", str(port)], cwd=project, env=plain(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert ui.stdout is not None
        assert ui.stdout.readline() == (
            f"open http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning\n"
        )
        until(lambda: answers(f"http://127.0.0.1:{port}/health"), "MLflow's server answers")
        assert "<title>MLflow</title>" in httpx.get(f"http://127.0.0.1:{port}/").text
    finally:
        os.killpg(ui.pid, signal.SIGTERM)
        ui.wait(60)
    told = command(project, "flows", "ui", MLFLOW_TRACKING_URI="http://tracking.example").stdout
    assert "http://tracking.example/#/experiments?workflowType=machine_learning" in told


def answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.TransportError:
        return False


def test_unknown_names_get_the_nearest(project: Path) -> None:
    for arguments in (
        ["flows", "explain", "mien"], ["flows", "compare", "mien"],
        ["tasks", "clean", "mien"], ["tasks", "claen", "mine"],
    ):  # fmt: skip
        done = command(project, *arguments, check=False)
        assert done.returncode == 1
        assert "did you mean" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_doctor_sees_what_is_wrong(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "requirements.txt", project / "requirements.txt")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    findings = {finding.name: finding for finding in examine(checkout(project))}
    assert findings["packages"].good, findings["packages"].text
    assert findings["mlflow"].good, findings["mlflow"].text
    assert findings["dvc"].good, findings["dvc"].text
    assert findings["prefect"].good, findings["prefect"].text
    assert findings["mlruns"].good

    (project / "mlruns").mkdir()
    text = (project / "requirements.txt").read_text()
    (project / "requirements.txt").write_text(text.replace("\nprefect==", "\nprefect==0."))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    findings = {finding.name: finding for finding in examine(checkout(project))}
    assert findings["mlruns"].good is False
    assert "prefect" in findings["packages"].text
    assert findings["runs"].good is False
    assert "does not answer" in findings["runs"].text


def test_pins_are_read_for_this_platform() -> None:
    found = pins(ROOT / "requirements.txt")
    assert found["fastapi"] < "0.155"
    assert {"prefect", "dvc", "mlflow", "torch"} <= set(found)
