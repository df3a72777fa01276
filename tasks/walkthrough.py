"""One example on its way through an application: cleaned, in a batch, through the network, with shapes."""

from collections.abc import Iterator
from typing import Any

from data.examples import PARTS, Items
from tasks.parameters import load_parameters
from tasks.workspace import Workspace


def walk_through(application: str, workspace: Workspace) -> Iterator[str]:
    """Lines for people. Yields what is there: stages that have not run yet are named as such."""
    parameters = load_parameters(workspace.root / "params.yaml")
    entry, recipe = parameters.application(application)
    clean, split = (workspace.folder(application, stage) for stage in ("clean", "split"))
    for stage, folder in (("clean", clean), ("split", split)):
        if not folder.is_dir():
            yield f"{stage} has not run yet; after `dvc repro {stage}@{application}` an example appears here"
            return
    import pyarrow.parquet as pq

    items = Items(clean, split)
    columns = pq.read_schema(items.shards()[0]).names
    row = next(items.batches(["train"], columns, rows=1)).slice(0, 1).to_pylist()[0]
    counts = {part: items.table([part], ["item_id"]).num_rows for part in PARTS}
    yield f"clean    {row['item_id']}, the first of {counts['train']} in part train ({counts})"
    for name in columns:
        yield f"           {name:<12} {_shown(row[name])}"
    yield from _learned(recipe, entry.fine_tune, items, workspace.state / "cache" / application)


def _learned(recipe: Any, settings: Any, items: Items, cache: Any) -> Iterator[str]:
    import torch

    learning = recipe.learn(items, settings, cache)
    facts = ", ".join(f"{name} {_shown(value)}" for name, value in learning.facts.items())
    yield f"facts    {facts}"
    network = recipe.network(settings, learning.facts).eval()
    phases = recipe.phases(settings, network, learning)
    for phase in phases:
        train, valid = learning.loaders(phase)
        steps = f"{len(train)} steps, then {len(valid)} to validate"
        yield f"phase    {phase.name}: {phase.epochs} epochs of {steps}"
    train, _ = learning.loaders(phases[0])
    batch = next(iter(train.epoch(1)))
    for tensor in batch:
        low, high = tensor.min().item(), tensor.max().item()
        yield f"batch    {_shown(tensor)} from {low:g} to {high:g}"
    shapes: list[str] = []
    for name, module in network.named_children():
        module.register_forward_hook(_recorder(shapes, name))
    with torch.no_grad():
        answer = network(*batch[:-1])
    weights = sum(each.numel() for each in network.parameters())
    yield f"network  {type(network).__name__}, {weights:,} weights"
    yield from (f"           {line}" for line in shapes)
    yield f"answer   {_shown(answer)}"


def _recorder(shapes: list[str], name: str) -> Any:
    def record(module: Any, _inputs: Any, output: Any) -> None:
        shapes.append(f"{name:<12} {type(module).__name__:<20} {_shown(output)}")

    return record


def _shown(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"{len(value)} values, the first {value[0]!r}"
    text = repr(value)
    return text if len(text) <= 70 else text[:67] + "..."
