"""Keys and text of what a run leaves in Prefect's pages."""

import json
from pathlib import Path

import pytest

from flows.progress import summary
from flows.summary import Account, key_of, text
from tasks.freshness import Look
from tasks.workspace import Workspace, checkout
from tests.pictures import entry, parameters
from tests.scratch import write_parameters

PLAN = ["download@app", "clean@app"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    course = {"metric": "error_rate", "value": 0.06, "source": "lesson 1"}
    write_parameters(tmp_path, parameters(app=entry(export={"course": course})))
    return checkout(tmp_path)


def evaluated(workspace: Workspace, **metrics: float) -> None:
    folder = workspace.folder("app", "evaluate")
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"data": "own", "valid": metrics}))


def test_keys_of_artifacts_are_different_and_allowed() -> None:
    names = ["pets", "voc_ssd", "voc-ssd", "Pets", "a__b", "a_b", "größe"]
    keys = [key_of(name) for name in names]
    assert len(set(keys)) == len(names)
    assert keys[:2] == ["application-pets", "application-voc-ssd"]
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for key in keys)


def test_metrics_stand_beside_the_last_run_and_the_course(workspace: Workspace) -> None:
    evaluated(workspace, error_rate=0.25, examples=8)
    done = dict.fromkeys(PLAN, "current")
    written = text("app", workspace, Account(plan=PLAN, done=done), before={"valid": {"error_rate": 0.5}})
    assert written.startswith("# app: nothing to do: all 2 stages are current\n")
    assert "| valid error_rate | 0.25 | 0.5 | 0.06 |" in written
    assert "| valid examples | 8 | – |  |" in written
    assert "The course: lesson 1, on all of the published data." in written


def test_a_failure_says_where_and_why(workspace: Workspace) -> None:
    look = Look(stage="download@app", again=False, said="things.zip: pinned, unchanged")
    account = Account(plan=PLAN, looks=[look], now="clean@app", done={"download@app": "ran"})
    written = text("app", workspace, account, before={}, error=ValueError("no class\nat all"))
    assert written.startswith("# app: failed at clean@app\n\n> no class\n> at all\n")
    assert "- `download@app`: things.zip: pinned, unchanged" in written
    assert "| `clean@app` | **failed** |" in written
    early = text("app", workspace, Account(), before={}, error=ValueError("changed"))
    assert early.startswith("# app: failed before its first stage\n\n> changed\n")


def test_a_broken_entry_does_not_hide_the_reason(workspace: Workspace) -> None:
    evaluated(workspace, error_rate=0.25)
    (workspace.root / "params.yaml").write_text("edition: [")
    assert "> no YAML" in text("app", workspace, Account(), before={}, error=ValueError("no YAML"))


def test_one_line_counts_what_was_done() -> None:
    assert summary({"a": "ran", "b": "current", "c": "ran"}) == "2 ran, 1 current"
