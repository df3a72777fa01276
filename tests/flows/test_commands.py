"""The command line on a project: what it shows, and what it finds wrong."""

import shutil
from pathlib import Path

import pytest

from flows.doctor import examine, pins
from tasks.workspace import checkout
from tests.flows.conftest import command

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
