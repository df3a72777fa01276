"""Registration on a real store: once per digest, champions only by better figures on the same question."""

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from safetensors.torch import save_file

from tasks import parameters as parameters_module
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.predict import predict
from tasks.register import Candidate, Registered, enter, find_candidate, part_digest, register
from tasks.store import Store
from tasks.tracking import tracking_uri
from tasks.workspace import Workspace, checkout
from tests import colours
from tests.scratch import git

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return colours.finished(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A database of its own, which is not the one that MLflow takes by itself."""
    folder = tmp_path_factory.mktemp("store")
    return Store(f"sqlite:///{folder / 'mlflow.db'}", folder / "mlartifacts")


@contextmanager
def default_store(uri: str) -> Iterator[None]:
    """What a user's MLFLOW_TRACKING_URI does: `models:/NAME@ALIAS` is looked up there."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    yield
    mlflow.set_tracking_uri(None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


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
    with default_store(store.uri):
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


def test_register_takes_an_export_of_the_real_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run_stage` and `register` as the doors call them, in a repository of their own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("recipes", "models", "sources"):
        (tmp_path / name).symlink_to(ROOT / name)
    blocks = {"download": {}, "clean": {}, "split": {}, "evaluate": {}, "export": {}}
    training = {"network": {"name": "mlp"}, "size": colours.SIZE, "threads": 1}
    application = {
        "recipe": "image_classification", "family": "vision", "source": "sources/none", "fine_tune": training,
        "corrections": "sources/none", "starts_from": "sources/none", "judge": "sources/none",
    } | blocks  # fmt: skip
    parameters = {"edition": "sample", "applications": {"colours": application}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "params.yaml")
    git(tmp_path, "commit", "-q", "-m", "first")
    workspace = checkout(tmp_path)
    colours.write_inputs(workspace)
    entry, recipe = load_parameters(tmp_path / "params.yaml").application("colours")
    facts = {"classes": list(colours.CLASSES), "mean": [0.5] * 3, "std": [0.25] * 3}
    tuned = workspace.folder("colours", "fine_tune")
    save_file(recipe.network(entry.fine_tune, facts).state_dict(), tuned / "weights.safetensors")
    (tuned / "facts.json").write_text(json.dumps(facts))
    (tuned / "settings.json").write_text(entry.fine_tune.model_dump_json())

    receipt = run_stage("export", "colours", workspace=workspace)
    first, again = register("colours", workspace), register("colours", workspace)
    assert (first.name, first.version, first.champion, first.created) == ("colours-sample", "1", "1", True)
    assert (again.version, again.created, again.digest) == ("1", False, receipt.digest)
    with default_store(tracking_uri(workspace)):
        model = mlflow.pyfunc.load_model("models:/colours-sample@champion")
    answer = model.predict(pd.DataFrame({"image": list(colours.pictures().values())}))
    expected = predict("colours", [write_pictures(tmp_path / "pictures")], workspace)
    assert answer["probability"].to_list() == pytest.approx(expected["probability"].to_list(), abs=1e-6)


def write_pictures(folder: Path) -> Path:
    """The pictures as files that sort as they are counted."""
    folder.mkdir()
    for number, encoded in enumerate(colours.pictures().values()):
        (folder / f"{number:02}.jpg").write_bytes(encoded)
    return folder


def test_registered_versions_survive_in_the_store(store: Store, candidate: Candidate) -> None:
    put(store, candidate)
    assert MlflowClient(store.uri).get_model_version(candidate.name, "1").status == "READY"
