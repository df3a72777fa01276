"""fine_tune: cleaned and split examples -> trained weights, the facts they rest on, and the history."""

import json
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.examples import Items
from tasks.checkpoint import (
    FACTS,
    SETTINGS,
    WEIGHTS,
    Checkpoint,
    file_digest,
    fingerprint,
    others_of,
    read_trained,
)
from tasks.collector import collect_as_usual
from tasks.launch import launched
from tasks.pipeline import Job, Receipt
from tasks.samples import Samples
from tasks.tracking import begin_pass


def run(job: Job) -> Receipt:
    """Train through the recipe's phases; continue where a killed run of the same fingerprint stopped.

    As one of several processes: with the others, of which only the leading one logs and writes.
    Writes `weights.safetensors`, `facts.json` (vocabularies and statistics of the training rows),
    `settings.json` (the block in effect), `history.parquet` (one row per epoch) and, where the recipe draws
    samples, `samples/epoch-NNN.png`.
    """
    import torch
    from safetensors.torch import save_file

    from models.fit import fit
    from models.hardware import device, keep_freed_memory
    from models.processes import ALONE, join
    from models.watchers import Progress

    settings = job.entry.fine_tune
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    world = join() if launched() else ALONE
    items = Items(job.read("clean"), job.read("split"))
    with world.in_turn():
        learning = job.recipe.learn(items, settings, cache_folder(job))
    start, judge = map(read_trained, others_of(job).values())
    torch.manual_seed(settings.seed)
    network = job.recipe.network(settings, learning.facts)
    if start is not None:
        loaded = job.recipe.start(network, start, learning.facts)
        print(f"started from {job.entry.starts_from}: {len(loaded)} tensors")
    phases = job.recipe.phases(settings, network, learning, judge)

    identity = fingerprint(job)
    checkpoint = Checkpoint(job.workspace.state / "checkpoints" / job.application, identity)
    resumed = world.hand_out(checkpoint.load() if world.lead else None)
    if resumed:
        print("continuing an unfinished training of the same data and settings")
    samples = Samples(job.recipe.sample, network, learning.facts, settings, checkpoint.samples)
    if world.lead:
        samples.open(anew=resumed is None)
    with begin_pass(job, identity) if world.lead else nullcontext() as tracker:
        collect_as_usual()
        history = fit(
            phases,
            learning.loaders,
            [Progress(), tracker, samples, *(job.trial.watchers if job.trial else ())] if tracker else [],
            seed=settings.seed,
            device=device(),
            precision=settings.precision,
            channels_last=settings.channels_last,
            compiled=settings.compiled,
            clip=settings.clip,
            keep=settings.keep,
            patience=settings.patience,
            headline=job.recipe.metrics[0],
            higher_is_better=job.recipe.higher_is_better,
            resume=resumed,
            save=checkpoint.save,
            save_every=settings.save_every,
            world=world,
        )
        if tracker is None:
            return Receipt()
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        save_file(weights, job.output / WEIGHTS)
        write_json(job.output / FACTS, dict(learning.facts))
        write_json(job.output / SETTINGS, settings.model_dump(mode="json"))
        pq.write_table(pa.Table.from_pylist(history.rows), job.output / "history.parquet")
        if samples.keep(job.output / "samples"):
            tracker.attach(job.output / "samples", "samples")
    checkpoint.clear()
    rows = items.count(["train"])
    return Receipt(
        rows=rows,
        digest=file_digest(job.output / WEIGHTS),
        numbers={key: value for key, value in history.rows[-1].items() if isinstance(value, int | float)},
    )


def cache_folder(job: Job) -> Any:
    """Where decoded examples of this application are kept: beside the results, never tracked."""
    return job.workspace.cache / job.application


def write_json(path: Any, value: Any) -> None:
    """Sorted and indented, so that the same value is the same bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
