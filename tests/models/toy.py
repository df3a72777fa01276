"""Small problems for the loop: tensors in batches, and states kept as files are."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from models.fit import Batches, Loaders
from models.metrics import accuracy
from models.objective import Supervised
from models.phases import Phase
from models.settings import OptimiserSettings


class Tensors:
    """Batches of rows of tensors, shuffled anew each epoch."""

    def __init__(self, *tensors: Tensor, size: int = 16, shuffle: bool = True) -> None:
        self.tensors, self.size, self.shuffle = tensors, size, shuffle

    def __len__(self) -> int:
        return -(-len(self.tensors[0]) // self.size)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        order = torch.arange(len(self.tensors[0]))
        if self.shuffle:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(number))
        for step in range(start, len(self)):
            places = order[step * self.size : (step + 1) * self.size]
            yield tuple(tensor[places] for tensor in self.tensors)


def same(batches: Batches) -> Loaders:
    """Train and validate on the same."""
    return lambda phase: (batches, batches)


def two_classes(rows: int = 96) -> Tensors:
    """Eight numbers; the class is the sign of a product of two of them: no linear problem."""
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(3))
    return Tensors(x, (x[:, 0] * x[:, 1] > 0).long())


def network() -> nn.Sequential:
    """With all that makes continuing hard: dropout, batch norm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))


def phase(net: nn.Module, **changes: Any) -> Phase:
    settings: dict[str, Any] = {
        "name": "whole",
        "objective": Supervised(net, nn.functional.cross_entropy),
        "epochs": 3,
        "rates": (1e-2,),
        "metrics": {"accuracy": accuracy()},
    }
    return Phase(**settings | changes)


def sgd(**changes: Any) -> OptimiserSettings:
    """SGD without momentum or weight decay."""
    settings: dict[str, Any] = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    return OptimiserSettings(**settings | changes)


def shelf() -> tuple[list[bytes], Callable[[Any], None]]:
    """A `save` that stores states as files are stored, and what it stored."""
    kept: list[bytes] = []

    def save(state: Any) -> None:
        stream = io.BytesIO()
        torch.save(state, stream)
        kept.append(stream.getvalue())

    return kept, save


def load(stored: bytes) -> Any:
    """Read a stored state without unpickling code."""
    return torch.load(io.BytesIO(stored), weights_only=True)


def bits(*modules: nn.Module) -> list[bytes]:
    """Every parameter and buffer as bytes."""
    return [value.numpy().tobytes() for module in modules for value in module.state_dict().values()]
