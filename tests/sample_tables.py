"""The generated tables of the sample edition, cleaned and split, and a quick way to learn from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from data.examples import Items
from models.fit import fit
from recipes.recipe import find_recipe
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests.scratch import ROOT, make_project


def prepare(folder: Path, *applications: str) -> Workspace:
    """A project with these entries of the committed parameters, each downloaded, cleaned and split."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    parameters["applications"] = {name: parameters["applications"][name] for name in applications}
    workspace = checkout(make_project(folder / "project", parameters))
    for application in applications:
        for stage in ("download", "clean", "split"):
            run_stage(stage, application, workspace=workspace)
    return workspace


def items_of(workspace: Workspace, application: str) -> Items:
    folder = workspace.folder(application, "clean")
    return Items(folder, folder.with_name("split"))


def learn(
    workspace: Workspace, application: str, *, shuffled: bool = False, seed: int = 42, **changes: Any
) -> dict[str, Any]:
    """The last row of the history after training with the committed settings, some of them changed."""
    entry, recipe = load_parameters(workspace.root / "params.yaml").application(application)
    settings = recipe.blocks["fine_tune"].model_validate(
        {**entry.fine_tune.model_dump(exclude_unset=True), "seed": seed, **changes}
    )
    torch.set_num_threads(1)
    learning = find_recipe(entry.recipe).learn(items_of(workspace, application), settings, workspace.state)
    loaders: Callable[..., Any] = learning.loaders
    if shuffled:

        def loaders(phase: Any) -> Any:
            train, valid = learning.loaders(phase)
            train.targets = train.targets[np.random.default_rng(seed).permutation(len(train.targets))]
            return train, valid

    torch.manual_seed(seed)
    network = recipe.network(settings, learning.facts)
    phases = recipe.phases(settings, network, learning, None)
    return dict(fit(phases, loaders, seed=seed, precision="float32").rows[-1])
