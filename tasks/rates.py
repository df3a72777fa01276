"""The learning-rate finder on an application's own data: a curve to look at, before its rates are chosen."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.examples import Items
from recipes.recipe import Figure
from tasks.checkpoint import others_of, read_trained
from tasks.devices import leased
from tasks.evaluate import draw
from tasks.fine_tune import cache_folder
from tasks.parameters import load_parameters
from tasks.pipeline import Job, find_stage
from tasks.workspace import Workspace, checkout

if TYPE_CHECKING:
    from models.finder import RateCurve


@dataclass(frozen=True)
class Found:
    """What the finder saw, and where it is drawn."""

    curve: "RateCurve"
    figure: Path
    """PNG below the state folder."""
    table: Path
    """The same as CSV: rate, loss, smoothed."""


def find_rates(application: str, *, phase: int = 1, workspace: Workspace | None = None) -> Found:
    """Run the finder on one phase (counted from 1) from the weights that the application starts from.

    Needs the cleaned and split examples; leaves nothing in `artifacts/`. ValueError where the phase does
    not exist or a stage is missing.
    """
    import torch

    from models import figures
    from models.finder import find_rate
    from models.hardware import device

    workspace = workspace or checkout()
    parameters = load_parameters(workspace.root / "params.yaml")
    entry, recipe = parameters.application(application)
    folder = workspace.state / "find-rate"
    job = Job(
        stage=find_stage("fine_tune"), application=application, entry=entry, recipe=recipe,
        parameters=parameters, workspace=workspace, output=folder, door="command",
    )  # fmt: skip
    settings = entry.fine_tune
    torch.set_num_threads(settings.threads)
    items = Items(job.read("clean"), job.read("split"))
    learning = recipe.learn(items, settings, cache_folder(job))
    torch.manual_seed(settings.seed)
    network = recipe.network(settings, learning.facts)
    start, judge = map(read_trained, others_of(job).values())
    if start is not None:
        recipe.start(network, start, learning.facts)
    phases = recipe.phases(settings, network, learning, judge)
    if not 1 <= phase <= len(phases):
        raise ValueError(f"--phase is {phase}, but {application} has {len(phases)}")
    with leased():
        curve = find_rate(
            phases[phase - 1],
            learning.loaders,
            seed=settings.seed,
            device=device(),
            precision=settings.precision,
            channels_last=settings.channels_last,
        )
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"{application}.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["rate", "loss", "smoothed"])
        rows.writerows(zip(curve.rates, curve.losses, curve.smoothed, strict=True))
    path = folder / f"{application}.png"

    def picture(canvas: Any) -> None:
        figures.curve(
            canvas,
            curve.rates,
            {"loss": curve.losses, "smoothed": curve.smoothed},
            label="rate of the last layer group",
            logarithmic=True,
            marks={"steepest": curve.steepest, "valley": curve.valley, "minimum / 10": curve.minimum},
        )

    draw(Figure(name=application, draw=picture), path)
    return Found(curve=curve, figure=path, table=table)
