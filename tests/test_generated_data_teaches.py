"""Generated editions are no walk-over: what is learned is neither frequency, nor pixels, nor chance."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from data.examples import Items
from models.fit import fit
from recipes.image_classification import RECIPE, ImageTraining
from tasks.checkpoint import read_trained
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests.scratch import ROOT, make_project

PUBLISHED = ("pets", "dogs_vs_cats", "bears", "mnist", "mnist_3_7", "cifar10")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The sample edition as it is committed, split, with the network of the drawn shapes trained."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    workspace = checkout(make_project(tmp_path_factory.mktemp("sample") / "project", parameters))
    for application in parameters["applications"]:
        for stage in ("download", "clean", "split"):
            run_stage(stage, application, workspace=workspace)
    run_stage("fine_tune", "shapes", workspace=workspace)
    return workspace


def learn(
    workspace: Workspace,
    application: str,
    *,
    start: bool | None = None,
    shuffled: bool = False,
    seed: int = 42,
    **changes: Any,
) -> float:
    """Validation accuracy after training with the committed settings, some of them changed."""
    entry, _ = load_parameters(workspace.root / "params.yaml").application(application)
    settings = ImageTraining.model_validate(
        {**entry.fine_tune.model_dump(exclude_unset=True), "threads": 1, "seed": seed, **changes}
    )
    torch.set_num_threads(1)
    folder = workspace.folder(application, "clean")
    learning = RECIPE.learn(
        Items(folder, folder.with_name("split")), settings, workspace.state / "cache" / application
    )
    loaders: Callable[..., Any] = learning.loaders
    if shuffled:

        def loaders(phase: Any) -> Any:
            train, valid = learning.loaders(phase)
            train.targets = np.random.default_rng(seed).permutation(train.targets)
            return train, valid

    torch.manual_seed(seed)
    network = RECIPE.network(settings, learning.facts)
    if start is None:
        start = entry.starts_from != "sources/none"
    if start:
        path = workspace.folder("shapes", "fine_tune") / "weights.safetensors"
        started = read_trained(path)
        assert started is not None
        RECIPE.start(network, started, learning.facts)
    history = fit(RECIPE.phases(settings, network, learning, None), loaders, seed=seed, precision="float32")
    return float(history.rows[-1]["accuracy"])


def majority(workspace: Workspace, application: str) -> tuple[float, int]:
    """Share of the training part's most frequent class in the validation part, and the latter's rows."""
    folder = workspace.folder(application, "clean")
    items = Items(folder, folder.with_name("split"))
    train = items.table(["train"], ["label"])["label"].to_pylist()
    valid = items.table(["valid"], ["label"])["label"].to_pylist()
    most = max(sorted(set(train)), key=train.count)
    return valid.count(most) / len(valid), len(valid)


LINEAR: dict[str, Any] = {
    "network": {"name": "logistic"},
    "phases": [{"epochs": 12, "rates": [0.003]}],
}


@pytest.mark.parametrize("application", PUBLISHED)
def test_learning_beats_the_majority_and_a_linear_model(sample: Workspace, application: str) -> None:
    frequent, count = majority(sample, application)
    linear = learn(sample, application, **LINEAR, start=False)
    learned = learn(sample, application)
    error = (0.25 / count) ** 0.5
    assert learned > frequent + 2 * error
    assert learned > min(linear + 2 * error, linear + (1 - linear) / 2)


@pytest.mark.parametrize("application", PUBLISHED)
def test_with_shuffled_labels_it_falls_to_chance(sample: Workspace, application: str) -> None:
    frequent, count = majority(sample, application)
    chance = max(frequent, 1 / 10)
    shuffled = float(np.mean([learn(sample, application, shuffled=True, seed=seed) for seed in (1, 2)]))
    assert abs(shuffled - chance) < 3 * (0.25 / count) ** 0.5


@pytest.mark.parametrize("application", ["pets", "dogs_vs_cats", "bears"])
def test_drawn_shapes_are_a_better_start_than_random_weights(sample: Workspace, application: str) -> None:
    longer = {
        "phases": [{"epochs": 12, "rates": [0.01]}]
    }  # nothing frozen: random features would stay random
    for seed in (1, 2):
        started = learn(sample, application, seed=seed)
        random = learn(sample, application, seed=seed, start=False, **longer)
        assert started > random + 0.05, f"seed {seed}"
