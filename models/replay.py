"""Long trainings of small networks: forward and backward are recorded once and then replayed, bit for bit.

Where a step takes a millisecond, a quarter of it is autograd's: the graph that it makes anew and walks back.
A network that does the same operations on every batch needs no new graph. torch's tracer writes down which
kernels ran, in their order, those of the way back included; a program calls just these
(docs/decisions/0017-replay.md).
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from models.objective import Batch, Objective, Supervised, Update

if TYPE_CHECKING:
    from torch.fx import Graph

FROM_STEPS = 10_000
"""Steps of a phase that earn back the tracer's import and its work: 1.5 s, against 0.1 to 0.3 ms a step."""

AFTER = 2
"""Batches of a shape that go before its recording: the rest at an epoch's end comes too seldom."""

Program = Callable[..., tuple[Tensor | None, ...]]
"""State and batch -> loss and gradients, all of them tensors."""


class Steps(Protocol):
    """What the loop asks for the steps of a batch."""

    def updates(self, batch: Batch) -> Iterator[Update]:
        """As an objective's."""
        ...


def replayed(objective: Objective, *, steps: int) -> Steps:
    """The objective, or where so many steps earn it and the network allows it, its replay.

    A network allows it by `replayable = True`: its operations hang on the shapes of the batch alone, not on
    values, not on anything that Python remembers or draws. Training on a processor in float32 is presumed.
    """
    if isinstance(objective, Supervised) and steps >= FROM_STEPS:
        return Replay(objective) if getattr(objective.network, "replayable", False) else objective
    return objective


class Replay:
    """The steps of a supervised objective; while it lives, no parameter is frozen, thawed or replaced.

    Every recording is tried on the next batch of its shape beside the plain way. Where loss, gradients or
    buffers differ in one bit, it is not used.
    """

    def __init__(self, objective: Supervised) -> None:
        self.objective = objective
        self.judged = _Judged(objective)
        named = dict(self.judged.named_parameters())
        self.names = [*named, *(name for name, _ in self.judged.named_buffers())]
        self.trained = [parameter for parameter in named.values() if parameter.requires_grad]
        self.state = [each.detach() for each in (*named.values(), *self.judged.buffers())]
        self.wanted = [each.requires_grad for each in named.values()]
        self.seen: Counter[Any] = Counter()
        self.untried: dict[Any, Program] = {}
        self.programs: dict[Any, Program | None] = {}

    def updates(self, batch: Batch) -> Iterator[Update]:
        """One step; the gradients of a replayed one come with its loss."""
        program = self._program(batch)
        if program is None:
            yield from self.objective.updates(batch)
            return
        with torch.no_grad():
            loss, *gradients = program(*self.state, *batch)
        assert loss is not None
        yield Update("network", loss, len(batch[0]), backward=partial(_hand, self.trained, gradients))

    def _program(self, batch: Batch) -> Program | None:
        """What replays this batch; None while its shape is new, and where it cannot be replayed."""
        shape = tuple([(each.shape, each.dtype, each.stride()) for each in batch])
        if shape in self.programs:
            return self.programs[shape]
        self.seen[shape] += 1
        if self.seen[shape] == AFTER:
            self.untried[shape] = record(self._plain, (*self._copies(), *batch))
        elif self.seen[shape] > AFTER:
            program = self.untried.pop(shape)
            self.programs[shape] = program if self._agree(program, batch) else None
        return None

    def _plain(self, *tensors: Tensor) -> tuple[Tensor | None, ...]:
        """Loss and gradients by autograd. `tensors`: parameters, buffers, and what a batch holds."""
        count = len(self.names)
        held = dict(zip(self.names, tensors[:count], strict=True))
        loss = torch.func.functional_call(self.judged, held, (tensors[count:],))
        trained = [tensor for tensor in tensors[: len(self.wanted)] if tensor.requires_grad]
        return (loss.detach(), *torch.autograd.grad(loss, trained, allow_unused=True))

    def _copies(self) -> list[Tensor]:
        """Of parameters and buffers, so that a trial leaves nothing behind."""
        copies = [each.clone() for each in self.state]
        for copy, wanted in zip(copies, self.wanted, strict=False):
            copy.requires_grad_(wanted)
        return copies

    def _agree(self, program: Program, batch: Batch) -> bool:
        """Whether a program does on this batch what autograd does, to the last bit."""
        found = []
        for way, context in ((self._plain, torch.enable_grad()), (program, torch.no_grad())):
            copies = self._copies()
            with _undrawn(), context:
                answers = way(*copies, *batch)
            found.append([*answers, *copies, torch.get_rng_state()])
        return all(
            one is other or (one is not None and other is not None and torch.equal(one, other))
            for one, other in zip(*found, strict=True)
        )


class _Judged(nn.Module):
    """The objective's loss as a module, so that its parameters can be lent."""

    def __init__(self, objective: Supervised) -> None:
        super().__init__()
        self.network = objective.network
        self._judge = objective.judge

    def forward(self, batch: Batch) -> Tensor:
        return self._judge(batch).loss


def _hand(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


@contextmanager
def _undrawn() -> Iterator[None]:
    """What is drawn inside is drawn again afterwards."""
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)


def record(function: Program, tensors: Sequence[Tensor]) -> Program:
    """A program of the kernels that `function` calls on tensors of these shapes.

    Draws nothing from torch's generator; `tensors` are changed as the function changes them.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    with _undrawn():
        graph = make_fx(function)(*tensors).graph
    return _written(graph)


def _written(graph: Graph) -> Program:
    """The graph as a function of Python. Its own would do, but looks up names for a tenth of the step."""
    from torch.fx import Node

    for node in list(graph.nodes):  # what autograd notes for itself
        if node.target in (torch.ops.aten.alias.default, torch.ops.aten.detach.default):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()
    names: dict[Node, str] = {node: f"v{number}" for number, node in enumerate(graph.nodes)}
    last = {used: node for node in graph.nodes for used in node.all_input_nodes}
    known: dict[str, Any] = {}

    def said(value: Any) -> str:
        if isinstance(value, Node):
            return names[value]
        if isinstance(value, list | tuple):
            return "[" + ", ".join(map(said, value)) + "]"
        known[f"c{len(known)}"] = value
        return f"c{len(known) - 1}"

    inputs, lines = [], []
    for node in graph.nodes:
        if node.op == "placeholder":
            inputs.append(names[node])
        elif node.op == "output":
            lines.append(f"return {said(node.args[0])}")
        elif node.target is operator.getitem:
            lines.append(f"{names[node]} = {said(node.args[0])}[{node.args[1]}]")
        else:
            given = [*map(said, node.args), *(f"{key}={said(value)}" for key, value in node.kwargs.items())]
            kernel = getattr(node.target, "_op", node.target)  # what the operation's own call ends in
            lines.append(f"{names[node]} = {said(kernel)}({', '.join(given)})")
            spent = [
                names[used]
                for used in node.all_input_nodes
                if last[used] is node and used.op != "placeholder"
            ]
            if spent:  # as autograd frees what it has used
                lines.append(f"del {', '.join(spent)}")
    exec("def program(" + ", ".join(inputs) + "):\n    " + "\n    ".join(lines), known)
    program: Program = known["program"]
    return program
