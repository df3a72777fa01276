"""The recipe on real files: its networks, weights and sizes, beyond the drawn editions."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from data.examples import Items
from models.vision.precompute import HeadAlone
from recipes.evaluation.pictures import open_part
from recipes.image_classification import RECIPE, ImageTraining
from recipes.recipe import Trained, find_recipe, recipe_names
from tasks.checkpoint import read_trained
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.scratch import make_project

FACTS = {"classes": ["a", "b", "c"], "mean": [0.5] * 3, "std": [0.25] * 3}


def test_recipes_are_found_by_their_files() -> None:
    assert "image_classification" in recipe_names()
    assert "recipe" not in recipe_names()
    assert find_recipe("image_classification") is RECIPE


def test_the_defaults_are_the_course_s() -> None:
    settings = ImageTraining()
    assert settings.network.name == "resnet34"
    assert (settings.size, settings.batch_size) == (224, 64)
    assert [phase.epochs for phase in settings.phases] == [4, 2]
    assert settings.phases[1].rates == (1e-6, 1e-4)
    assert settings.optimiser.name == "adamw"


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "squeezenet1_0", "mlp", "cnn", "cnn_bn", "resnet"]
)
def test_every_network_answers_for_every_class(name: str) -> None:
    settings = ImageTraining.model_validate({"network": {"name": name}, "size": 32})
    network = RECIPE.network(settings, FACTS).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, 3)


FROZEN = {"epochs": 1, "rates": [0.01], "freeze": "body", "precompute": True}
WHOLE = {"epochs": 1, "rates": [0.001, 0.01]}


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"phases": [{**FROZEN, "freeze": "none"}]}, "phases.0.*precompute needs .* freeze: body, not none"),
        ({"phases": [{**FROZEN, "freeze": 1}]}, "precompute needs .* freeze: body, not 1"),
        ({"phases": [FROZEN], "augmentation": {"rotate": 20.0}}, "augmentation: has no effect"),
        (
            {"phases": [FROZEN, WHOLE], "network": {"name": "mlp"}},
            "needs a body to freeze, which mlp has not",
        ),
    ],
)
def test_contradictions_of_precompute_are_named(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        ImageTraining.model_validate(block)
    assert re.search(says, str(error.value), re.DOTALL)


def test_an_augmentation_is_for_the_phases_without_precompute() -> None:
    both = ImageTraining.model_validate({"phases": [FROZEN, WHOLE], "augmentation": {"rotate": 20.0}})
    assert both.varied == both.augmentation
    alone = ImageTraining.model_validate({"phases": [FROZEN]})
    assert alone.varied is None
    assert ImageTraining.model_validate(alone.model_dump(mode="json")) == alone


@pytest.fixture(scope="module")
def frozen_first(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Drawn shapes: two frozen phases of two sizes on features, one of the whole network."""
    folder = tmp_path_factory.mktemp("frozen")
    pictures.write_folder(folder / "shapes")
    block = {"phases": [{**FROZEN, "epochs": 2, "size": 24}, FROZEN, WHOLE], "precision": "bf16"}
    entry = pictures.entry(fine_tune=block)
    workspace = checkout(make_project(folder / "project", pictures.parameters(shapes=entry)))
    for stage in ("download", "clean", "split", "fine_tune", "evaluate"):
        run_stage(stage, "shapes", workspace=workspace)
    return workspace


def test_a_training_with_precompute_goes_through_its_phases(frozen_first: Workspace) -> None:
    history = pq.read_table(frozen_first.folder("shapes", "fine_tune") / "history.parquet").to_pylist()
    assert [row["phase"] for row in history] == ["1-body", "1-body", "2-body", "3-none"]
    assert history[1]["train_loss"] < history[0]["train_loss"]


def test_pictures_of_such_a_phase_are_those_of_evaluation(frozen_first: Workspace, tmp_path: Path) -> None:
    """Features of training and validation pictures are what the body makes of the stage's own pixels."""
    clean, split = (frozen_first.folder("shapes", stage) for stage in ("clean", "split"))
    items = Items(clean, split)
    settings = load_parameters(frozen_first.root / "params.yaml").application("shapes")[0].fine_tune
    learning = RECIPE.learn(items, settings, tmp_path)
    network = RECIPE.network(settings, learning.facts).eval()
    first, _, last = RECIPE.phases(settings, network, learning, None)
    train, valid = learning.loaders(first)
    assert isinstance(first.objective, HeadAlone)
    assert valid is not None
    plain = open_part(items, "valid", learning.facts["classes"], settings, tmp_path, size=24)
    for (features, targets), (images, expected) in zip(valid.epoch(0), plain.epoch(0), strict=True):
        assert torch.equal(features, first.objective.features(images))
        assert torch.equal(targets, expected)
    assert sum(len(targets) for _, targets in train.epoch(0)) == len(items.table(["train"]))
    images, _ = next(iter(learning.loaders(last)[0].epoch(0)))
    assert images.shape[1:] == (3, 32, 32)


def published(weights: Path) -> Trained:
    found = read_trained(weights)
    assert found is not None
    return found


def test_published_weights_are_the_body_s_start(imagenet_weights: Path) -> None:
    settings = ImageTraining.model_validate({"network": {"name": "squeezenet1_0"}})
    network = RECIPE.network(settings, FACTS)
    loaded = RECIPE.start(network, published(imagenet_weights), FACTS)
    body = {f"body.{name}" for name in network.get_submodule("body").state_dict()}
    assert set(loaded) == body


def test_weights_of_another_network_are_refused(imagenet_weights: Path) -> None:
    settings = ImageTraining.model_validate({"network": {"name": "resnet18"}})
    with pytest.raises(ValueError, match="resnet18"):
        RECIPE.start(RECIPE.network(settings, FACTS), published(imagenet_weights), FACTS)


@pytest.fixture(scope="module")
def pets(datasets: Path, imagenet_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The real photographs of the mirror, frozen body, progressive sizes, one epoch each."""
    entry = pictures.entry(
        "sources/oxford_iiit_pet.yaml",
        clean={
            "images": "oxford-iiit-pet/images/",
            "labels": {"from": "name", "pattern": r"^(.+)_\d+\.jpg$"},
        },
        split={"duplicates": "together", "distance": 12},
    )
    entry["starts_from"] = str(imagenet_weights)
    entry["fine_tune"] = {
        "network": {"name": "squeezenet1_0"},
        "size": 128,
        "batch_size": 16,
        "threads": 2,
        "phases": [
            {"epochs": 2, "rates": [0.003], "freeze": "body", "size": 96},
            {"epochs": 3, "rates": [0.003], "freeze": "body"},
        ],
    }
    raw: dict[str, Any] = {**pictures.parameters(photos=entry), "edition": "full", "mirror": str(datasets)}
    workspace = checkout(make_project(tmp_path_factory.mktemp("pets") / "project", raw))
    for stage in ("download", "clean", "split", "fine_tune", "evaluate", "export"):
        run_stage(stage, "photos", workspace=workspace)
    return workspace


def test_real_photographs_are_learned_from_real_weights(pets: Workspace) -> None:
    import json

    metrics = json.loads((pets.folder("photos", "evaluate") / "metrics.json").read_text())
    assert metrics["data"] == "subset"
    assert metrics["valid"]["examples"] >= 20
    # Three breeds of 40: guessing errs in two of three; a linear probe in 0 to 0.125 of its splits.
    assert metrics["valid"]["error_rate"] <= 0.25


def test_the_card_says_what_it_was_trained_on(pets: Workspace) -> None:
    card = (pets.folder("photos", "export") / "card.md").read_text()
    assert "CC BY-SA 4.0" in card
    assert "subset" in card
    assert "7ce1359910c11520b232106a5956b552e61c5a7d2d257ee2c1ef7f26bb266c38" in card
