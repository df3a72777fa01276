"""Does bf16 autocast cost accuracy? `python -m benchmarks.precision APP` trains with it and in float32.

Both with the entry's own data, settings and starting weights, once for each seed; pairs have the seed in
common, and so the initial weights, the order and the augmentation. Needs the cleaned and split examples of
the checkout (`make repro APP=...`), and leaves nothing in `artifacts/`.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

PRECISIONS = ("float32", "bf16")


def main(
    application: str,
    seeds: Annotated[int, typer.Option(help="trainings of each precision")] = 5,
    root: Annotated[Path, typer.Option(help="the checkout with the examples")] = Path(),
) -> None:
    """Print a line for every training, then the means with deviations, and those of the paired difference."""
    found: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as cache:
        for seed in range(seeds):
            for precision in PRECISIONS:
                row = trained(application, root, Path(cache), seed=seed, precision=precision)
                found[precision].append(row["headline"])
                print(json.dumps({"seed": seed, "precision": precision, **row}), flush=True)
    pairs = zip(*found.values(), strict=True)
    told = {**found, "bf16 - float32": [bf16 - full for full, bf16 in pairs]}
    print(json.dumps({name: spread(values) for name, values in told.items()}))


def trained(application: str, root: Path, cache: Path, *, seed: int, precision: str) -> dict[str, Any]:
    """The last epoch's headline metric and validation loss of one training."""
    import torch

    from data.examples import Items
    from models.fit import fit
    from models.hardware import device
    from tasks.checkpoint import read_trained, weights_file
    from tasks.parameters import load_parameters
    from tasks.workspace import checkout

    workspace = checkout(root)
    entry, recipe = load_parameters(workspace.root / "params.yaml").application(application)
    settings = entry.fine_tune.model_copy(update={"seed": seed, "precision": precision})
    items = Items(*(workspace.folder(application, stage) for stage in ("clean", "split")))
    torch.set_num_threads(settings.threads)
    learning = recipe.learn(items, settings, cache)
    torch.manual_seed(seed)
    network = recipe.network(settings, learning.facts)
    start, judge = (
        read_trained(weights_file(workspace, application, entry, name)) for name in ("starts_from", "judge")
    )
    if start is not None:
        recipe.start(network, start, learning.facts)
    history = fit(
        recipe.phases(settings, network, learning, judge), learning.loaders, seed=seed, device=device(),
        precision=settings.precision, channels_last=settings.channels_last, clip=settings.clip,
        headline=recipe.metrics[0],
    )  # fmt: skip
    last = history.rows[-1]
    return {"headline": last[recipe.metrics[0]], "valid_loss": last["valid_loss"]}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and sample deviation."""
    return {"mean": round(statistics.mean(values), 5), "deviation": round(statistics.stdev(values), 5)}


if __name__ == "__main__":
    typer.run(main)
