"""Registration on a real store: once per digest, champions only by better figures on the same question."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from tasks import parameters as parameters_module
from tasks.outbox import Store
from tasks.register import Candidate, Registered, enter, find_candidate, part_digest
from tasks.workspace import Workspace
from tests import colours


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return colours.finished(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A database of its own; the alias is resolved by MLflow's process-wide address."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    yield Store(uri, folder / "mlartifacts")
    mlflow.set_tracking_uri(before)


@pytest.fixture
def candidate(exported: Workspace, request: pytest.FixtureRequest) -> Candidate:
    """The export as a model of its own name in every test."""
    return Candidate(
        name=f"colours-{abs(hash(request.node.name))}", folder=exported.folder("colours", "export"),
        digest="first", metric="accuracy", value=0.5, higher_is_better=True, part="p" * 64,
        extent="generated", commit="0" * 12,
    )  # fmt: skip


def put(store: Store, candidate: Candidate, run_id: str | None = None) -> Registered:
    return enter(store.client, candidate, experiment=store.experiment("colours"), run_id=run_id)


def test_the_first_version_is_challenger_and_champion(store: Store, candidate: Candidate) -> None:
    run = store.client.create_run(store.experiment("colours"))
    made = put(store, candidate, run.info.run_id)
    assert (made.version, made.champion, made.created) == ("1", "1", True)
    version = store.client.get_model_version_by_alias(candidate.name, "challenger")
    assert version.run_id == run.info.run_id
    assert version.tags["digest"] == "first"
    assert version.tags["value"] == "0.5"
    assert version.tags["extent"] == "generated"


def test_the_alias_loads_and_answers_as_evaluate_did(
    store: Store, candidate: Candidate, exported: Workspace
) -> None:
    put(store, candidate)
    model = mlflow.pyfunc.load_model(f"models:/{candidate.name}@challenger")
    answer = model.predict(pd.DataFrame({"image": list(colours.pictures().values())}))
    expected = pq.read_table(exported.folder("colours", "evaluate") / "predictions.parquet")
    assert answer["label"].to_list() == expected["predicted"].to_pylist()
    assert answer["probability"].to_list() == pytest.approx(expected["probability"].to_pylist(), abs=1e-6)


def test_registering_twice_makes_one_version(store: Store, candidate: Candidate) -> None:
    first, again = put(store, candidate), put(store, candidate)
    assert first.created
    assert not again.created
    assert again.version == first.version == "1"
    assert again.reason == "version 1 is the champion already, with accuracy 0.5000"
    assert len(store.client.search_model_versions(f"name='{candidate.name}'")) == 1


@pytest.mark.parametrize(
    ("value", "higher", "champion"), [(0.6, True, "2"), (0.5, True, "1"), (0.4, True, "1"), (0.4, False, "2")]
)
def test_the_champion_moves_only_to_a_better_figure(
    store: Store, candidate: Candidate, value: float, higher: bool, champion: str
) -> None:
    candidate = dataclasses.replace(candidate, higher_is_better=higher)
    put(store, candidate)
    second = put(store, dataclasses.replace(candidate, digest="second", value=value))
    assert (second.version, second.champion) == ("2", champion)
    assert f"{value:.4f} against 0.5000 on the same validation part" in second.reason
    aliases = store.client.get_registered_model(candidate.name).aliases
    assert {name: str(number) for name, number in aliases.items()} == {
        "challenger": "2",
        "champion": champion,
    }


def test_another_validation_part_leaves_the_champion_and_says_so(store: Store, candidate: Candidate) -> None:
    put(store, candidate)
    second = put(store, dataclasses.replace(candidate, digest="second", value=0.99, part="q" * 64))
    assert second.champion == "1"
    assert "on another validation part, so the figures cannot be compared" in second.reason


def test_an_older_export_becomes_challenger_again(store: Store, candidate: Candidate) -> None:
    put(store, candidate)
    put(store, dataclasses.replace(candidate, digest="second", value=0.6))
    back = put(store, candidate)
    assert (back.version, back.champion, back.created) == ("1", "2", False)
    assert str(store.client.get_model_version_by_alias(candidate.name, "challenger").version) == "1"


def test_the_digest_of_a_part_follows_its_rows_only(tmp_path: Path) -> None:
    workspaces = [Workspace(tmp_path / name, tmp_path / name, tmp_path / name) for name in ("one", "two")]
    for workspace in workspaces:
        colours.write_inputs(workspace)
    folders = [(each.folder("colours", "clean"), each.folder("colours", "split")) for each in workspaces]
    assert part_digest(*folders[0]) == part_digest(*folders[1]) != part_digest(*folders[0], "test")
    items = folders[1][0] / "items-00000.parquet"
    rows = pq.read_table(items).to_pandas()

    rows.loc[11, "digest"] = "0" * 64  # an example of part test
    rows.to_parquet(items)
    assert part_digest(*folders[0]) == part_digest(*folders[1])
    rows.loc[0, "label"] = "red"
    rows.to_parquet(items)
    assert part_digest(*folders[0]) != part_digest(*folders[1])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A finished workspace with a `params.yaml` of the edition `sample`; the recipe is that of the tests."""
    workspace = colours.finished(tmp_path)
    (tmp_path / "params.yaml").write_text("edition: sample\napplications: {colours: {}}\n")
    read = lambda name, raw: (None, colours.RECIPE)  # noqa: E731
    monkeypatch.setattr(parameters_module, "read_application", read)
    return workspace


def test_the_candidate_is_read_from_the_finished_folders(project: Workspace) -> None:
    found = find_candidate("colours", project)
    metrics = json.loads((project.folder("colours", "evaluate") / "metrics.json").read_text())
    assert found.name == "colours-sample"
    assert (found.metric, found.value) == ("accuracy", metrics["valid"]["accuracy"])
    assert found.extent == "generated"


def test_an_export_of_another_evaluation_is_refused(project: Workspace) -> None:
    colours.write_inputs(project, accuracy=0.125)
    with pytest.raises(ValueError, match="does not belong to its evaluation"):
        find_candidate("colours", project)


def test_an_application_without_export_is_refused(project: Workspace) -> None:
    (project.folder("colours", "export") / "MLmodel").unlink()
    with pytest.raises(ValueError, match=r"has no export in .*; run `dvc repro export@colours` first"):
        find_candidate("colours", project)


def test_registered_versions_survive_in_the_store(store: Store, candidate: Candidate) -> None:
    put(store, candidate)
    assert MlflowClient(store.uri).get_model_version(candidate.name, "1").status == "READY"
