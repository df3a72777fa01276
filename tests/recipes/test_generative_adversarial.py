"""Pictures from noise: a folder of one's own through the chain, killed and resumed, then judged."""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from sklearn.decomposition import PCA

from data.examples import Items
from models.generative.frechet import features_of, frechet_distance
from recipes.evaluation import samples
from recipes.generative_adversarial import RECIPE, AdversarialTraining
from recipes.recipe import Subject
from tasks.checkpoint import read_trained
from tasks.export import load_model
from tasks.parameters import load_parameters, read_application
from tasks.pipeline import STAGE_NAMES, run_stage
from tasks.predict import predict
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.scratch import ROOT, make_project, write_parameters


def entry(**blocks: Any) -> dict[str, Any]:
    """An entry for a folder of photographs, as docs/data/generative.md has it, but smaller."""
    fine_tune = {
        "threads": 1,
        "network": {"noise": 8, "features": 4},
        "size": 28,
        "batch_size": 8,
        "wasserstein": {"critic_steps": 2},
        "phases": [{"epochs": 3, "rates": [0.001], "schedule": "constant"}],
        "save_every": 0.01,
    }
    return {
        "recipe": "generative_adversarial",
        "family": "generative",
        "source": "../holiday",
        "corrections": "sources/none",
        "starts_from": "sources/none",
        "judge": "artifacts/shapes/fine_tune",
        "download": {},
        "clean": {"shortest": 28},
        "split": {"method": "random", "valid": 0.25},
        "evaluate": {"shown": 4},
        "export": {"onnx": False},
        **blocks,
        "fine_tune": {**fine_tune, **blocks.get("fine_tune", {})},
    }


def write_photographs(folder: Path, *, count: int = 40) -> None:
    """No folder says what they show; they lie where they lie, and one is a thumbnail."""
    for number in range(count):
        place = folder / ("sea" if number % 3 else ".") / "day 1"
        place.mkdir(parents=True, exist_ok=True)
        picture = pictures.draw(pictures.CLASSES[number % 3], number, side=48)
        picture.crop((0, 0, 48, 40)).save(place / f"IMG_{number:04}.png")
    pictures.draw("disc", 99, side=20).save(folder / "thumbnail.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A trained classifier, and the whole chain of an entry that it judges; tests only read it."""
    folder = tmp_path_factory.mktemp("made")
    pictures.write_folder(folder / "shapes")
    write_photographs(folder / "holiday")
    parameters = pictures.parameters(shapes=pictures.entry(), photographs=entry())
    workspace = checkout(make_project(folder / "project", parameters))
    for stage in STAGE_NAMES[:4]:
        run_stage(stage, "shapes", workspace=workspace)
    for stage in STAGE_NAMES:
        run_stage(stage, "photographs", workspace=workspace)
    return workspace


def ready(made: Workspace, folder: Path, **blocks: Any) -> Workspace:
    """A copy of that project in which the photographs are split, and nothing has been learned from them."""
    shutil.copytree(made.root, folder / "project", ignore=shutil.ignore_patterns("photographs"))
    workspace = checkout(folder / "project")
    for stage in STAGE_NAMES[:3]:
        shutil.copytree(made.folder("photographs", stage), workspace.folder("photographs", stage))
    write_parameters(
        workspace.root, pictures.parameters(shapes=pictures.entry(), photographs=entry(**blocks))
    )
    return workspace


def read(workspace: Workspace, stage: str, file: str) -> Any:
    return json.loads((workspace.folder("photographs", stage) / file).read_text())


def subject_of(workspace: Workspace, name: str, settings: Any) -> Subject:
    """What figures are made from, as far as pictures are concerned."""
    items = Items(workspace.folder(name, "clean"), workspace.folder(name, "split"))
    nothing: Any = None
    return Subject(
        network=nothing, items=items, facts={}, settings=settings, evaluation=nothing,
        cache=workspace.state / "cache" / name, judge=nothing,
    )  # fmt: skip


def test_the_defaults_are_the_course_s() -> None:
    settings = AdversarialTraining()
    assert (settings.network.noise, settings.network.features, settings.network.extra_layers) == (100, 64, 1)
    assert (settings.size, settings.batch_size, settings.wasserstein.critic_steps) == (64, 128, 5)
    assert settings.wasserstein.clamp == 0.01
    assert (settings.phases[0].epochs, settings.phases[0].rates) == (30, (2e-4,))
    assert (settings.generator_optimiser.momentum_decay, settings.generator_optimiser.square_decay) == (
        0,
        0.99,
    )


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"size": 30}, "a picture of 30 pixels cannot be halved"),
        ({"phases": [{"epochs": 1, "rates": [1e-3], "size": 32}]}, "neither size nor freeze"),
        ({"phases": [{"epochs": 1, "rates": [1e-3], "freeze": "body"}]}, "neither size nor freeze"),
        ({"wasserstein": {"penalty": 10.0}}, "give either clamp or penalty"),
    ],
)
def test_settings_without_meaning_are_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AdversarialTraining.model_validate(block)


def test_photographs_need_no_labels(made: Workspace) -> None:
    clean = made.folder("photographs", "clean")
    assert set(pq.read_table(clean / "items-00000.parquet")["label"].to_pylist()) == {None}
    rejects = pq.read_table(clean / "rejects.parquet").to_pylist()
    assert [(each["item_id"], each["reason"]) for each in rejects] == [("thumbnail.png", "too small")]


def test_one_file_of_weights_holds_both_networks_and_every_epoch_has_its_samples(made: Workspace) -> None:
    folder = made.folder("photographs", "fine_tune")
    history = pq.read_table(folder / "history.parquet")
    assert {"train_loss_critic", "train_loss_generator", "valid_loss", "frechet"} <= set(history.column_names)
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [
        f"epoch-{number:03}.png" for number in (1, 2, 3)
    ]
    names = load_file(folder / "weights.safetensors")
    assert {name.split(".")[0] for name in names} == {"generator", "critic"}


def test_the_distance_follows_from_the_predictions_alone(made: Workspace) -> None:
    folder = made.folder("photographs", "evaluate")
    metrics = read(made, "evaluate", "metrics.json")["valid"]
    rows = pq.read_table(folder / "predictions.parquet")
    assert RECIPE.score(rows, {}) == {name: metrics[name] for name in RECIPE.metrics}
    kinds = pc.value_counts(rows["kind"]).to_pylist()
    assert {each["values"]: each["counts"] for each in kinds} == dict.fromkeys(
        ("real", "training", "made", "untrained"), 10
    )
    picture = Image.open(io.BytesIO(rows.filter(pc.equal(rows["kind"], "made"))["image"][0].as_py()))
    assert (picture.mode, picture.size) == ("RGB", (28, 28))


def test_untrained_is_the_network_before_its_first_step(made: Workspace, tmp_path: Path) -> None:
    """A training whose steps are too small to matter leaves the distance where it was."""
    idle = ready(
        made, tmp_path, fine_tune={"phases": [{"epochs": 1, "rates": [1e-12], "schedule": "constant"}]}
    )
    for stage in ("fine_tune", "evaluate"):
        run_stage(stage, "photographs", workspace=idle)
    still = read(idle, "evaluate", "metrics.json")["valid"]
    moved = read(made, "evaluate", "metrics.json")["valid"]
    assert still["frechet_untrained"] == moved["frechet_untrained"]
    # what does move are the means and deviations that the generator's batch norms have seen
    assert still["frechet_ratio"] == pytest.approx(1, abs=0.5)
    assert moved["frechet"] != pytest.approx(still["frechet"])


def test_figures_and_tables_are_there(made: Workspace) -> None:
    folder = made.folder("photographs", "evaluate")
    assert sorted(path.stem for path in (folder / "figures").iterdir()) == [
        "features", "interpolation", "nearest", "oddest", "samples", "training_batch",
    ]  # fmt: skip
    copies = pd.read_csv(folder / "tables" / "copies.csv")
    assert copies["pictures"].tolist() == ["made", "held out"]
    assert (copies["smallest"] <= copies["median"]).all()
    assert (folder / "corrections.csv").read_text().count("\n") == 1


def test_a_copy_would_be_found(made: Workspace) -> None:
    application, _ = load_parameters(made.root / "params.yaml").application("photographs")
    subject = subject_of(made, "photographs", application.fine_tune)
    known = samples.plain_pixels(subject, "train")
    shown = np.stack([known[7], 255 - known[3]])
    distances, places = samples.nearest(subject, shown)
    assert distances[0] == pytest.approx(0, abs=1e-3)
    assert places[0] == 7
    assert distances[1] > 0.05


def test_the_export_makes_pictures_of_seeds(made: Workspace, tmp_path: Path) -> None:
    folder = made.folder("photographs", "export")
    answer = load_model(folder).predict(pd.DataFrame({"seed": [7, 7, 8]}))["image"]
    assert answer[0] == answer[1] != answer[2]
    (tmp_path / "seeds.txt").write_text("7\n8\n")
    told = predict("photographs", [tmp_path / "seeds.txt"], made)
    assert told["image"].tolist() == [answer[0], answer[2]]
    stored = read(made, "export", "example/response.json")["predictions"]
    assert Image.open(io.BytesIO(base64.b64decode(stored[0]["image"]))).size == (28, 28)
    card = (folder / "card.md").read_text()
    assert "## Copies of training pictures" in card
    assert "compare it only between runs with the same judge" in card


def outputs(workspace: Workspace) -> dict[str, bytes]:
    folder = workspace.folder("photographs", "fine_tune")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def states(workspace: Workspace) -> list[tuple[str, int]]:
    folder = workspace.state / "checkpoints" / "photographs"
    return [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.pt"))]


def test_killed_between_turns_it_ends_in_the_same_bytes(made: Workspace, tmp_path: Path) -> None:
    workspace = ready(made, tmp_path)
    kills = 0
    for delay in (0.0, 0.05):  # seconds after the first sign of a new state
        before = states(workspace)
        running = subprocess.Popen(
            [sys.executable, "-m", "tasks", "fine_tune", "photographs"],
            cwd=workspace.root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while running.poll() is None and states(workspace) == before:
            assert time.monotonic() < deadline, "no state was saved"
            time.sleep(0.01)
        time.sleep(delay)
        if running.poll() is not None:
            break
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        kills += not workspace.folder("photographs", "fine_tune").exists()
    assert kills >= 1, "every run was over before it could be killed"
    run_stage("fine_tune", "photographs", workspace=workspace)
    assert outputs(workspace) == outputs(made)


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("sources/none", "judge is sources/none, but pictures made from noise have no labels"),
        ("artifacts/photographs/fine_tune", "judge: no trained image classifier lies there"),
    ],
)
def test_without_a_judge_it_says_what_to_set(made: Workspace, judge: str, message: str) -> None:
    before = (made.root / "params.yaml").read_text()
    raw = pictures.parameters(shapes=pictures.entry(), photographs={**entry(), "judge": judge})
    try:
        write_parameters(made.root, raw)
        for stage in ("fine_tune", "evaluate"):
            with pytest.raises(ValueError, match=message):
                run_stage(stage, "photographs", workspace=made)
    finally:
        (made.root / "params.yaml").write_text(before)


def test_it_goes_on_from_its_own_weights(made: Workspace, tmp_path: Path) -> None:
    start = str(made.folder("photographs", "fine_tune"))
    idle = {"phases": [{"epochs": 1, "rates": [1e-12], "schedule": "constant"}]}
    further = ready(made, tmp_path, starts_from=start, fine_tune=idle)
    run_stage("fine_tune", "photographs", workspace=further)
    theirs, ours = (
        load_file(each.folder("photographs", "fine_tune") / "weights.safetensors") for each in (made, further)
    )
    assert np.allclose(ours["generator.1.weight"], theirs["generator.1.weight"], atol=1e-6)


PAGE = (ROOT / "docs" / "data" / "generative.md").read_text()


def test_the_page_s_entry_is_valid_and_its_reasons_are_those_that_are_given() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    ((name, raw),) = yaml.safe_load(block).items()
    _, recipe = read_application(name, raw)
    assert recipe is RECIPE
    for reason in ("too small", "truncated", "exact duplicate", "above the byte limit"):
        assert f"`{reason}`" in PAGE


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """The committed entry of this recipe in the sample edition, and the classifier that judges it."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    name = next(
        each for each, block in raw["applications"].items() if block["recipe"] == "generative_adversarial"
    )
    judge = Path(raw["applications"][name]["judge"]).parent.name
    workspace = checkout(make_project(tmp_path_factory.mktemp("digits") / "project", raw))
    for stage in STAGE_NAMES[:4]:
        run_stage(stage, judge, workspace=workspace)
    for stage in STAGE_NAMES[:5]:
        run_stage(stage, name, workspace=workspace)
    return workspace, name


def test_in_the_sample_edition_the_distance_falls_five_fold_and_below_a_linear_model_s(
    digits: tuple[Workspace, str],
) -> None:
    workspace, name = digits
    folder = workspace.folder(name, "evaluate")
    metrics = json.loads((folder / "metrics.json").read_text())["valid"]
    assert metrics["frechet_ratio"] >= 5
    assert metrics["frechet"] > metrics["frechet_training"]  # as near as real pictures it does not come

    application, _ = load_parameters(workspace.root / "params.yaml").application(name)
    subject = subject_of(workspace, name, application.fine_tune)
    pixels = samples.plain_pixels(subject, "train")
    flat = np.stack([pixels[index] for index in range(len(pixels))]).reshape(len(pixels), -1) / 255
    linear = PCA(10, random_state=0).fit(flat)  # fewer and more components are further away
    count = metrics["examples"] // 4
    drawn = np.random.default_rng(0).normal(size=(count, 10)) * np.sqrt(linear.explained_variance_)
    made = np.clip(linear.inverse_transform(drawn), 0, 1).reshape(count, *pixels[0].shape)
    judge = samples.judge_of(read_trained(workspace.resolve(application.judge) / "weights.safetensors"))
    features = features_of(judge, samples.as_floats((made * 255).astype(np.uint8)))
    rows = pq.read_table(folder / "predictions.parquet")
    real = torch.from_numpy(samples.matrix(samples.of_kind(rows, samples.REAL)))
    assert metrics["frechet"] < frechet_distance(real, features) / 2
