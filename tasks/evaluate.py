"""evaluate: weights -> predictions, metrics, tables for DVC's plots, figures, candidates for corrections."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from data.examples import PARTS, Items
from recipes.recipe import Figure, Listing, Subject
from tasks.checkpoint import FACTS, SETTINGS, WEIGHTS, fingerprint, others_of, read_trained
from tasks.fine_tune import cache_folder, write_json
from tasks.pipeline import Job, Receipt
from tasks.tracking import begin_evaluation


def run(job: Job) -> Receipt:
    """Predict the validation and test parts once, and derive everything else from those predictions.

    Writes `predictions.parquet`, `metrics.json` (numbers by part), `plots/`, `tables/`, `figures/*.png`,
    `corrections.csv` (candidates, worst first) and `provenance.json` (the data's and the split's).
    """
    import torch
    from safetensors.torch import load_file

    clean, split, tuned = job.read("clean"), job.read("split"), job.read("fine_tune")
    settings = read_settings(job, tuned)
    facts = json.loads((tuned / FACTS).read_text())
    torch.set_num_threads(settings.threads)
    network = job.recipe.network(settings, facts)
    network.load_state_dict(load_file(tuned / WEIGHTS))
    network.eval()
    subject = Subject(
        network=network, items=Items(clean, split), facts=facts, settings=settings, evaluation=job.block,
        cache=cache_folder(job), judge=read_trained(others_of(job)["judge"]),
    )  # fmt: skip
    predictions = job.recipe.predict(subject)
    pq.write_table(predictions, job.output / "predictions.parquet")

    provenance = summary(clean, split)
    metrics = {"data": provenance["extent"], **score(job, predictions, facts)}
    write_json(job.output / "provenance.json", provenance)
    write_json(job.output / "metrics.json", metrics)
    pyarrow.csv.write_csv(job.recipe.review(predictions, job.block), job.output / "corrections.csv")

    history = pq.read_table(tuned / "history.parquet")
    write_plots(job.output, history, job.recipe.tables(subject, predictions))
    figures = job.output / "figures"
    figures.mkdir()
    for figure in job.recipe.interpret(subject, predictions):
        draw(figure, figures / f"{figure.name}.png")
    begin_evaluation(job, fingerprint(job), metrics=metrics, figures=figures, predictions=predictions)
    numbers = metrics.get("valid") or metrics.get("test") or {}
    return Receipt(rows=predictions.num_rows, numbers=numbers)


def write_plots(output: Path, history: pa.Table, listings: Iterator[Listing]) -> None:
    """Tables in folders by the way that DVC draws them, whatever a recipe has to show (see `dvc.yaml`).

    `plots/curves/NAME.csv` (epoch, NAME) for every number of the history, `plots/confusion/` for tables of
    (actual, predicted), and `tables/` for the others, which are for reading. `tables/card.json` names those
    that the card shows, with their headings.
    """
    curves, confusion, others = (output / name for name in ("plots/curves", "plots/confusion", "tables"))
    for folder in (curves, confusion, others):
        folder.mkdir(parents=True)
    for field in history.schema:
        if field.name != "epoch" and (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)):
            pyarrow.csv.write_csv(history.select(["epoch", field.name]), curves / f"{field.name}.csv")
    shown = []
    for listing in listings:
        folder = confusion if listing.table.column_names == ["actual", "predicted"] else others
        pyarrow.csv.write_csv(listing.table, folder / f"{listing.name}.csv")
        if listing.title:
            shown.append({"name": listing.name, "title": listing.title, "text": listing.text})
    write_json(others / "card.json", shown)


def read_settings(job: Job, tuned: Path) -> Any:
    """The `fine_tune` block that the weights were trained with, from beside them."""
    return job.recipe.blocks["fine_tune"].model_validate_json((tuned / SETTINGS).read_text())


def score(job: Job, predictions: pa.Table, facts: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Metrics of each part that has labels; numbers of examples beside them."""
    metrics = {}
    for part in PARTS:
        rows = predictions.filter(pc.equal(predictions["part"], part))
        if rows.num_rows:
            metrics[part] = {"examples": rows.num_rows, **job.recipe.score(rows, facts)}
    return metrics


def summary(clean: Path, split: Path) -> dict[str, Any]:
    """What the data is and how it was divided: for the card and for whoever reads the metrics."""
    provenance: dict[str, Any] = json.loads((clean / "provenance.json").read_text())
    leaks = json.loads((split / "leaks.json").read_text())
    parts = pq.read_table(split / "split.parquet")["part"].to_pylist()
    return {**provenance, "split": {"parts": dict(sorted(Counter(parts).items())), "leaks": leaks}}


def draw(figure: Figure, path: Path) -> None:
    """One figure as PNG, without a window and without a time in its bytes."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(dpi=100)
    figure.draw(canvas)
    canvas.savefig(path, metadata={"Software": None})
