"""fine_tune: cleaned and split examples -> trained weights, the facts they rest on, and the history."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.examples import Items
from tasks.checkpoint import Checkpoint, file_digest, fingerprint, starting_weights
from tasks.pipeline import Job, Receipt
from tasks.tracking import begin_pass


def run(job: Job) -> Receipt:
    """Train through the recipe's phases; continue where a killed run of the same fingerprint stopped.

    Writes `weights.safetensors`, `facts.json` (vocabularies and statistics of the training rows),
    `settings.json` (the block in effect) and `history.parquet` (one row per epoch).
    """
    import torch
    from safetensors.torch import load_file, save_file

    from models.fit import fit
    from models.hardware import device
    from models.watchers import Progress

    settings = job.entry.fine_tune
    torch.set_num_threads(settings.threads)
    items = Items(job.read("clean"), job.read("split"))
    learning = job.recipe.learn(items, settings, cache_folder(job))
    start = starting_weights(job)
    torch.manual_seed(settings.seed)
    network = job.recipe.network(settings, learning.facts)
    if start:
        loaded = job.recipe.start(network, load_file(start))
        print(f"started from {job.entry.starts_from}: {len(loaded)} tensors")
    phases = job.recipe.phases(settings, network, learning)

    identity = fingerprint(job)
    checkpoint = Checkpoint(job.workspace.state / "checkpoints" / job.application, identity)
    resumed = checkpoint.load()
    if resumed:
        print("continuing an unfinished training of the same data and settings")
    with begin_pass(job, identity) as tracker:
        history = fit(
            phases,
            learning.loaders,
            [Progress(), tracker],
            seed=settings.seed,
            device=device(),
            precision=settings.precision,
            channels_last=settings.channels_last,
            clip=settings.clip,
            keep=settings.keep,
            patience=settings.patience,
            headline=job.recipe.metrics[0],
            higher_is_better=job.recipe.higher_is_better,
            resume=resumed,
            save=checkpoint.save,
            save_every=settings.save_every,
        )
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        save_file(weights, job.output / "weights.safetensors")
        write_json(job.output / "facts.json", dict(learning.facts))
        write_json(job.output / "settings.json", settings.model_dump(mode="json"))
        pq.write_table(pa.Table.from_pylist(history.rows), job.output / "history.parquet")
    checkpoint.clear()
    rows = items.table(["train"], ["item_id"]).num_rows
    return Receipt(
        rows=rows,
        digest=file_digest(job.output / "weights.safetensors"),
        numbers={key: value for key, value in history.rows[-1].items() if isinstance(value, int | float)},
    )


def cache_folder(job: Job) -> Any:
    """Where decoded examples of this application are kept: beside the results, never tracked."""
    return job.workspace.state / "cache" / job.application


def write_json(path: Any, value: Any) -> None:
    """Sorted and indented, so that the same value is the same bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
