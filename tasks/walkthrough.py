"""One example on its way through an application: cleaned, in a batch, through the network, with shapes."""

from collections.abc import Iterator
from typing import Any

from data.examples import PARTS, Items
from tasks.checkpoint import read_trained, weights_file
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
    judge = read_trained(weights_file(workspace, application, entry, "judge"))
    yield from _learned(recipe, entry.fine_tune, items, workspace.state / "cache" / application, judge)


def _learned(recipe: Any, settings: Any, items: Items, cache: Any, judge: Any) -> Iterator[str]:
    import torch

    learning = recipe.learn(items, settings, cache)
    facts = ", ".join(f"{name} {_shown(value)}" for name, value in learning.facts.items())
    yield f"facts    {facts}"
    network = recipe.network(settings, learning.facts).eval()
    phases = recipe.phases(settings, network, learning, judge)
    for phase in phases:
        train, valid = learning.loaders(phase)
        steps = f"{len(train)} steps, then {len(valid) if valid else 0} to validate"
        yield f"phase    {phase.name}: {phase.epochs} epochs of {steps}"
    train, _ = learning.loaders(phases[0])
    batch = next(iter(train.epoch(1)))
    for tensor in _tensors(batch):
        low, high = (f"{each.item():g}" for each in tensor.aminmax()) if tensor.numel() else ("–", "–")
        yield f"batch    {_shown(tensor)} from {low} to {high}"
    shapes: list[str] = []
    for name, module in network.named_children():
        module.register_forward_hook(_recorder(shapes, name))
    phases[0].objective.start_epoch()
    with torch.no_grad():
        answer = phases[0].objective.judge(batch).outputs
    weights = sum(each.numel() for each in network.parameters())
    yield f"network  {type(network).__name__}, {weights:,} weights"
    yield from (f"           {line}" for line in shapes)
    yield from (f"answer   {_shown(tensor)}" for tensor in _tensors(answer))


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors of a batch or an answer, however they are nested."""
    if hasattr(value, "aminmax"):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors(inner)


def _recorder(shapes: list[str], name: str) -> Any:
    def record(module: Any, _inputs: Any, output: Any) -> None:
        found = ", ".join(_shown(tensor) for tensor in _tensors(output))
        shapes.append(f"{name:<12} {type(module).__name__:<20} {found}")

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
