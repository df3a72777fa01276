"""Runs side by side: what differs, the best of those that answer one question, and items of any two."""

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.evaluation.classification import PREDICTIONS
from tasks.compare import CURRENT, Comparison, compare, log_changes, write_items
from tasks.comparison_text import as_text
from tasks.store import SEARCH, Message, UnreachableError
from tasks.tracking import begin_evaluation
from tasks.workspace import checkout
from tests import pictures
from tests.passes import make_job, store_of, train
from tests.scratch import write_parameters

FIRST, SECOND = "1" * 64, "2" * 64


def predictions(**answers: str) -> pa.Table:
    rows = [
        {
            "item_id": f"{name}.png", "part": "valid", "label": "cat", "predicted": predicted,
            "probability": 0.8, "loss": 0.2 if predicted == "cat" else 1.6, "probabilities": [0.8, 0.2],
        }
        for name, predicted in answers.items()
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, PREDICTIONS)


def evaluated(root: Path, key: str, rate: float, error: float, *, flips: int = 1, **answers: str) -> None:
    """A pass of that rate, and its evaluation with these answers."""
    if flips == 1:
        train(make_job(root, rate=rate), range(1, 3), key)
    metrics = {"valid": {"error_rate": error, "accuracy": 1 - error}}
    job = make_job(root, "evaluate", rate=rate, flips=flips)
    begin_evaluation(job, key, metrics=metrics, predictions=predictions(**answers))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with two passes, the second of which was evaluated twice."""
    root: Path = tmp_path_factory.mktemp("compared") / "project"
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_job(root)
        write_parameters(root, pictures.parameters(app=pictures.entry(), untrained=pictures.entry()))
        evaluated(root, FIRST, 0.1, 0.5, a="cat", b="dog", c="dog", d="cat")
        evaluated(root, SECOND, 0.25, 0.25, a="cat", b="cat", c="dog", d="cat")
        evaluated(root, SECOND, 0.25, 0.75, flips=4, a="dog", b="dog", c="dog", d="cat")
    return root


@pytest.fixture
def found(root: Path, own_store: None) -> Comparison:
    return compare("app", workspace=checkout(root))


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def ids(root: Path) -> dict[str, str]:
    """Run ids by key; the child's by `child`."""
    runs = store_of(root).runs(experiment="app")
    return {
        "child" if "mlflow.parentRunId" in run.data.tags else run.data.tags["practicum.pass"]: run.info.run_id
        for run in runs
    }


def test_the_table_holds_what_differs(root: Path, found: Comparison) -> None:
    known = ids(root)
    assert [row.run_id for row in found.rows] == [known["child"], known[SECOND], known[FIRST]]
    assert found.rows[0].parent == known[SECOND]
    assert found.differing() == {
        "fine_tune.rates.head": ["0.25", "0.25", "0.1"],  # a child has its parent's parameters
        "evaluate.flips": ["4", "1", "1"],
    }
    assert found.metrics() == ["valid.error_rate", "valid.accuracy"]
    assert found.best() == {known[SECOND]}


def test_the_two_newest_are_compared_item_by_item(root: Path, found: Comparison) -> None:
    assert found.pair == (ids(root)[SECOND], ids(root)["child"])
    assert found.changes is not None
    assert found.changes.counts() == {
        "wrong to right": 0, "right to wrong": 2, "right in both": 1, "wrong in both": 1,
    }  # fmt: skip


def test_any_two_runs_can_be_named(root: Path) -> None:
    known = ids(root)
    found = compare("app", [known[FIRST][:6], known[SECOND]], workspace=checkout(root), limit=2)
    assert {row.run_id for row in found.rows} == set(known.values())  # the older one is shown too
    assert found.changes is not None
    assert found.changes.shown(9)[["item_id", "flip"]].values.tolist() == [["b.png", "wrong to right"]]


def test_what_lies_in_artifacts_can_be_named(root: Path) -> None:
    folder = checkout(root).folder("app", "evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(predictions(a="dog", b="dog", c="cat", d="cat"), folder / "predictions.parquet")
    found = compare("app", [ids(root)[FIRST], CURRENT], workspace=checkout(root))
    assert found.changes is not None
    assert found.changes.shown(9)["item_id"].tolist() == ["c.png", "a.png"]
    with pytest.raises(ValueError, match="name a run"):
        log_changes(found, workspace=checkout(root))
    with pytest.raises(
        ValueError, match=r"predictions.parquet does not exist; `dvc repro evaluate@untrained"
    ):
        compare("untrained", [CURRENT, CURRENT], workspace=checkout(root))


def test_people_read_a_table(root: Path, found: Comparison) -> None:
    known = {name: run_id[:8] for name, run_id in ids(root).items()}
    lines = [line.split() for line in as_text(found).splitlines()]
    assert ["run", known["child"], known[SECOND], known[FIRST]] in lines
    assert ["child", "of", known[SECOND]] in lines
    assert ["fine_tune.rates.head", "0.25", "0.25", "0.1"] in lines
    assert ["valid.error_rate", "(lower", "is", "better)", "0.75", "0.25*", "0.5"] in lines
    assert ["a.png", "cat", "cat", "dog", "0.2", "1.6"] in lines
    assert "... and 1 more" in as_text(found, shown=1)


def test_the_spread_over_seeds_stands_beside_it(root: Path) -> None:
    path = root / "docs" / "results" / "app.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    spread = {"mean": 0.5, "deviation": 0.125, "runs": 5, "smallest": 0.25, "largest": 0.75}
    path.write_text(json.dumps({"edition": "sample", "summary": {"error_rate": spread}}))
    assert "5 repetitions with other seeds: error_rate 0.5000 ± 0.1250" in as_text(
        compare("app", workspace=checkout(root))
    )
    path.write_text(json.dumps({"edition": "full", "summary": {"error_rate": spread}}))
    assert compare("app", workspace=checkout(root)).spread is None


def test_machines_read_everything(root: Path, found: Comparison, tmp_path: Path) -> None:
    told = json.loads(found.as_json())
    assert [run["run_id"] for run in told["runs"]] == [row.run_id for row in found.rows]
    assert (told["headline"], told["higher_is_better"]) == ("valid.error_rate", False)
    assert told["items"]["counts"]["right to wrong"] == 2
    assert len(told["items"]["rows"]) == 4
    write_items(found, tmp_path / "items.csv")
    assert sorted(pd.read_csv(tmp_path / "items.csv")["item_id"]) == ["a.png", "b.png", "c.png", "d.png"]


def test_the_items_are_logged_once(root: Path, found: Comparison) -> None:
    for _ in range(2):
        place = log_changes(found, workspace=checkout(root))
    store, child = store_of(root), ids(root)["child"]
    assert [each.path for each in store.client.list_artifacts(child, "compared")] == [place]
    logged = json.loads(Path(store.client.download_artifacts(child, place)).read_text())
    column = logged["columns"].index("item_id")
    assert [line[column] for line in logged["data"]] == ["a.png", "b.png"]


def test_trials_of_a_search_do_not_hide_other_runs(tmp_path: Path) -> None:
    make_job(tmp_path)
    write_parameters(tmp_path, pictures.parameters(app=pictures.entry()))
    evaluated(tmp_path, FIRST, 0.1, 0.5, a="cat")
    evaluated(tmp_path, SECOND, 0.25, 0.25, a="cat")
    store = store_of(tmp_path)
    now = time.time_ns() // 1_000_000
    store.send(Message(experiment="app", key="search", name="search", time=now, created={SEARCH: "search"}))
    for number in range(3):
        trial = {"key": f"search/{number}", "name": f"trial {number}", "parent": "search"}
        store.send(Message(experiment="app", time=now + 1 + number, **trial))
    known = {run.data.tags["practicum.pass"]: run.info.run_id for run in store.runs(experiment="app")}

    def shown(*names: str, **how: Any) -> list[str]:
        found = compare("app", names, limit=2, workspace=checkout(tmp_path), **how)
        return [row.run_id for row in found.rows]

    assert shown() == [known[SECOND], known[FIRST]]
    assert shown(trials=True) == [known["search/2"], known["search/1"]]
    with pytest.raises(ValueError, match=f"run {known['search/0'][:8]} has no .*: it was not evaluated"):
        shown(known["search/0"], known[FIRST])  # found, though it is not among the newest


def test_mistakes_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, known = checkout(root), ids(root)
    with pytest.raises(ValueError, match="did you mean 'app'"):
        compare("ap", workspace=workspace)
    with pytest.raises(ValueError, match="no run of untrained is recorded at sqlite"):
        compare("untrained", workspace=workspace)
    with pytest.raises(ValueError, match="no run id begins with 'zzzz'; newest runs: "):
        compare("app", ["zzzz", CURRENT], workspace=workspace)
    with pytest.raises(ValueError, match="at least 4 characters"):
        compare("app", [known[FIRST][:2], CURRENT], workspace=workspace)
    with pytest.raises(ValueError, match="name two runs"):
        compare("app", [known[FIRST]], workspace=workspace)
    with pytest.raises(ValueError, match="--limit is 1"):
        compare("app", workspace=workspace, limit=1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnreachableError, match=r"127.0.0.1:9 does not answer: .*refused"):
        compare("app", workspace=workspace)


def test_one_evaluated_run_is_shown_alone(tmp_path: Path) -> None:
    make_job(tmp_path)
    write_parameters(tmp_path, pictures.parameters(app=pictures.entry()))
    evaluated(tmp_path, FIRST, 0.1, 0.5, a="cat")
    found = compare("app", workspace=checkout(tmp_path))
    assert found.changes is None
    assert "there is one so far" in as_text(found)
    assert found.best() == set()
    with pytest.raises(ValueError, match="there is one so far"):
        write_items(found, tmp_path / "items.csv")
