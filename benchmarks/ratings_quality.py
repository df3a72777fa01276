"""Is our mean squared error of ratings as good as that of fastai's `collab_learner`, on the same rows?

1. In a checkout of the full edition: `python -m flows repeat APP --seeds 5` trains ours.
2. There: `python benchmarks/ratings_quality.py rows APP FOLDER` writes the rows of every split, our figures.
3. With a Python that has fastai, from anywhere: `PEER/bin/python benchmarks/ratings_quality.py peer FOLDER`
   trains fastai on those rows with those settings, pairs both by seed, and writes `FOLDER/comparison.json`.
4. `python benchmarks/ratings_quality.py page FOLDER ... > docs/comparisons/ratings.md` makes the page.

fastai is never imported by the project. Its loader draws rows with replacement: about 63 % of them are seen
in an epoch, some of them several times; ours sees each once. Users and items that only validation has are a
random row in fastai, and the mean row here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

OPENING = """# Ratings beside fastai

Mean squared error on the validation ratings; lower is better. How to repeat it, in a checkout of the full
edition (`PEER` is an environment with fastai; here fastai 2.8.12, `collab_learner`, its default optimiser):

```console
python -m flows repeat APP --seeds 5
python benchmarks/ratings_quality.py rows APP FOLDER
PEER/bin/python benchmarks/ratings_quality.py peer FOLDER
```

Every pair saw the same training rows and was judged on the same validation rows. Two things differ by design.
fastai's loader draws training rows with replacement, so an epoch shows about 63 % of them, some several
times; ours shows each once. Users and items that occur in validation rows only are a random, untrained row in
fastai; here they are the mean of the trained rows. So that this does not stand for quality, rows of which
training has seen both user and item are compared apart."""


def write_rows(application: str, folder: Path) -> None:
    """`seed-N.csv` (user, item, rating, valid) of every repetition, and `ours.json`."""
    sys.path.insert(0, str(ROOT))
    import pyarrow.csv
    import pyarrow.parquet as pq

    from tasks.pipeline import STAGE_NAMES
    from tasks.repeat import OWN
    from tasks.workspace import checkout

    workspace = checkout()
    result = json.loads((workspace.root / "docs" / "results" / f"{application}.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, float] = {}
    for number, run in enumerate(result["runs"]):
        side = workspace.side(f"repeat/{application}/{number}", own=OWN, stages=STAGE_NAMES)
        parts = pq.read_table(side.folder(application, "split") / "split.parquet")
        shards = sorted(workspace.folder(application, "clean").glob("items-*.parquet"))
        items = pq.ParquetDataset(shards).read(["item_id", "user", "item", "rating"])
        rows = items.join(parts, "item_id").sort_by("item_id").drop_columns(["item_id"])
        pyarrow.csv.write_csv(rows, folder / f"seed-{run['fine_tune']['seed']}.csv")
        predictions = pq.read_table(side.folder(application, "evaluate") / "predictions.parquet").to_pandas()
        seen = predictions[(predictions["user_ratings"] > 0) & (predictions["item_ratings"] > 0)]
        known[str(run["fine_tune"]["seed"])] = float(((seen["predicted"] - seen["rating"]) ** 2).mean())
    settings = result["settings"]["fine_tune"]
    (folder / "ours.json").write_text(json.dumps(
        {
            "application": application,
            "data": {key: result["data"][key] for key in ("title", "extent", "extent_note", "rows")},
            "settings": settings,
            "versions": result["versions"],
            "mse": {str(run["fine_tune"]["seed"]): run["metrics"]["mse"] for run in result["runs"]},
            "known": known,
            "seconds": {str(run["fine_tune"]["seed"]): run["seconds"]["fine_tune"] for run in result["runs"]},
        },
        indent=2,
    ))  # fmt: skip


def train_peer(rows: Path, settings: dict[str, Any], *, seed: int) -> tuple[float, float]:
    """fastai's mean squared error on the validation rows of one split, and on those of known rows."""
    import pandas as pd
    from fastai.collab import CollabDataLoaders, TabularCollab, collab_learner
    from fastai.data.block import TransformBlock
    from fastai.tabular.core import Categorify
    from fastai.torch_core import set_seed

    table = pd.read_csv(rows, dtype={"user": str, "item": str})
    valid = (table["part"] == "valid").to_numpy().nonzero()[0].tolist()
    train = (table["part"] == "train").to_numpy().nonzero()[0].tolist()
    set_seed(seed)
    # what CollabDataLoaders.from_df does, but with the rows of our split
    tabular = TabularCollab(
        table[["user", "item", "rating"]], [Categorify], ["user", "item"],
        y_names=["rating"], y_block=TransformBlock(), splits=(train, valid), inplace=False,
    )  # fmt: skip
    loaders = tabular.dataloaders(bs=settings["batch_size"])
    loaders.__class__ = CollabDataLoaders
    (phase,) = settings["phases"]
    learner = collab_learner(
        loaders,
        n_factors=settings["network"]["factors"],
        y_range=tuple(settings["network"]["y_range"]),
        wd=settings["optimiser"]["weight_decay"],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(phase["epochs"], phase["rates"][0])
        predicted = learner.get_preds()[0].flatten().double().numpy()
    judged, trained = table.iloc[valid], table.iloc[train]
    squared = (predicted - judged["rating"].to_numpy()) ** 2
    known = (judged["user"].isin(trained["user"]) & judged["item"].isin(trained["item"])).to_numpy()
    return float(squared.mean()), float(squared[known].mean())


def compare(folder: Path) -> None:
    """Train fastai on every split, pair by seed (ours minus theirs), and write `comparison.json`."""
    import torch
    from fastai import __version__ as version

    torch.set_num_threads(1)
    ours = json.loads((folder / "ours.json").read_text())
    path = folder / "comparison.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else []  # goes on where it was stopped
    done = {run["seed"] for run in runs}
    for seed, mse in ours["mse"].items():
        if int(seed) in done:
            continue
        began = time.perf_counter()
        theirs, known = train_peer(folder / f"seed-{seed}.csv", ours["settings"], seed=int(seed))
        seconds = round(time.perf_counter() - began, 1)
        runs.append({"seed": int(seed), "ours": mse, "fastai": theirs, "difference": mse - theirs,
                     "ours_known": ours["known"][seed], "fastai_known": known,
                     "difference_known": ours["known"][seed] - known,
                     "seconds_fastai": seconds, "seconds_ours": ours["seconds"][seed]})  # fmt: skip
        print(runs[-1], flush=True)
        path.write_text(json.dumps(paired(ours, runs, version), indent=2) + "\n")
    print(path.read_text())


def paired(ours: dict[str, Any], runs: list[dict[str, Any]], version: str) -> dict[str, Any]:
    """The runs so far with the mean difference and its standard error."""
    return {
        **{key: ours[key] for key in ("application", "data", "settings")},
        "versions": {**ours["versions"], "fastai": version},
        "runs": runs,
        **{name: summary([run[name] for run in runs]) for name in ("difference", "difference_known")},
    }


def summary(differences: list[float]) -> dict[str, Any]:
    """Mean, its standard error, and whether the mean is at most that."""
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None
    return {"mean": mean, "standard_error": error, "no_worse": error is not None and mean <= error}


def lines_of(folders: Sequence[Path]) -> Iterator[str]:
    """The page: a section for each comparison."""
    yield OPENING
    for folder in folders:
        found = json.loads((folder / "comparison.json").read_text())
        data, settings = found["data"], found["settings"]
        (phase,) = settings["phases"]
        yield f"\n## {found['application']}\n"
        extent = data["extent_note"].split(";")[0] or data["extent"]
        yield f"Data: {data['title']}; {data['rows']:,} ratings; extent: {extent}.\n"
        yield (
            f"Both: dot product with biases, {settings['network']['factors']} factors, range"
            f" {settings['network']['y_range']}, {phase['epochs']} epochs one-cycle at {phase['rates'][0]:g},"
            f" batches of {settings['batch_size']}, weight decay {settings['optimiser']['weight_decay']:g}.\n"
        )
        columns = ["ours", "fastai", "difference"]
        if "difference_known" in found:
            columns += ["ours_known", "fastai_known", "difference_known"]
        heads = [name.replace("_known", ", known rows") for name in columns]
        yield f"| seed | {' | '.join(heads)} |\n|{' --- |' * (len(columns) + 1)}"
        means = {name: statistics.fmean(run[name] for run in found["runs"]) for name in columns}
        for run in [*found["runs"], {"seed": "mean", **means}]:
            cells = (f"{run[name]:{'+' if 'diff' in name else ''}.4f}" for name in columns)
            yield f"| {run['seed']} | {' | '.join(cells)} |"
        yield ""
        for name, what in (("difference", "all rows"), ("difference_known", "rows of known users and items")):
            if name not in found:
                continue
            error, fine = found[name]["standard_error"], found[name]["no_worse"]
            said = f"{error:.4f}" if error is not None else "not known from one seed"
            verdict = "no worse" if fine else "not shown to be no worse"
            yield f"On {what} ours is {verdict}; standard error of the mean difference: {said}."


def main() -> None:
    """The commands of the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    rows = commands.add_parser("rows", help="write the rows of every split, with the project's Python")
    rows.add_argument("application")
    rows.add_argument("folder", type=Path)
    peer = commands.add_parser("peer", help="train fastai on them, with its Python")
    peer.add_argument("folder", type=Path)
    page = commands.add_parser("page", help="print the page of all comparisons")
    page.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "rows":
        write_rows(arguments.application, arguments.folder)
    elif arguments.command == "peer":
        compare(arguments.folder)
    else:
        print("\n".join(lines_of(arguments.folders)))


if __name__ == "__main__":
    main()
