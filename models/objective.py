"""What is learned: an objective says which modules train, what an update costs, how outputs are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from models.whole_batch import all_rows, each_tensor

Batch = tuple[Any, ...]
"""One batch: tensors (inputs first, targets last), on the device of the training."""


@dataclass(frozen=True, slots=True)
class Update:
    """One step that an objective asks for: descend `loss` with the optimiser of the module called `name`."""

    name: str
    loss: Tensor
    """Scalar, with a graph: a mean over the examples."""
    count: int = 1
    """Weight of this loss in the epoch's mean: the number of examples."""
    backward: Callable[[], None] | None = None
    """Sets the gradients where they came with the loss, which has no graph; None: autograd finds them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one validation batch was judged."""

    loss: Tensor
    """Scalar: the mean over the examples of the batch."""
    count: int
    """Number of examples; the epoch's loss is the mean weighted by it."""
    outputs: Any = None
    """What metrics compare with `targets`; None where no metric applies to this objective."""
    targets: Any = None


class Objective(Protocol):
    """What the loop needs to know about a problem. Control flow of a family lives in its objective.

    The loop resumes `updates` only after it has taken the step that was asked for, so what stands after a
    `yield` sees the new weights (clamp them, advance a carried state, ask for the next module's step).
    """

    def trainable(self) -> Mapping[str, nn.Module]:
        """Modules by name, in a fixed order; each gets an optimiser of its own."""
        ...

    def updates(self, batch: Batch) -> Iterator[Update]:
        """The steps of one training batch, one after the other; none is allowed."""
        ...

    def judge(self, batch: Batch) -> Outcome:
        """Loss and outputs of one validation batch; called without gradients and in evaluation mode."""
        ...

    def start_epoch(self) -> None:
        """Forget what is carried from batch to batch; called before each pass over a part."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beyond the trainable modules: numbers, strings, tensors with a row for each
        row of the last batch; in lists and dicts."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        ...


class Stateless:
    """The part of an objective that carries nothing from batch to batch."""

    def start_epoch(self) -> None:
        """Nothing is carried."""

    def state(self) -> dict[str, Any]:
        """Nothing beyond the trainable modules."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""


class Supervised(Stateless):
    """Inputs and targets: the network sees all of a batch but its last element, the loss compares that.

    `loss(outputs, targets)` must be a scalar mean over the examples. Outputs reach it in float32, whatever
    precision the network ran in.
    """

    def __init__(self, network: nn.Module, loss: Callable[[Tensor, Any], Tensor]) -> None:
        self.network = network
        self.loss = loss

    def trainable(self) -> Mapping[str, nn.Module]:
        """The network."""
        return {"network": self.network}

    def updates(self, batch: Batch) -> Iterator[Update]:
        """One step per batch."""
        outcome = self.judge(batch)
        yield Update("network", outcome.loss, outcome.count)

    def judge(self, batch: Batch) -> Outcome:
        """The mean loss and the raw outputs."""
        *inputs, targets = batch
        outputs = self.network(*inputs).float()
        loss = self.loss(all_rows(outputs), each_tensor(targets, all_rows))
        return Outcome(loss, len(inputs[0]), outputs, targets)
