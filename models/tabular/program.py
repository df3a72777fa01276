"""A network on tables as a program: codes and numbers of rows in, probabilities or quantities out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.export import Program
from models.tabular.network import Columns


class Asked(nn.Module):
    """The network called with the inputs that there are: codes, numbers, or both."""

    def __init__(self, network: nn.Module, *, codes: bool, numbers: bool, probabilities: bool) -> None:
        super().__init__()
        self.network = network
        self.codes, self.numbers, self.probabilities = codes, numbers, probabilities

    def forward(self, *inputs: Tensor) -> Tensor:
        """(N, classes) or (N,)."""
        first = inputs[0]
        codes = first if self.codes else first.new_zeros((first.shape[0], 0), dtype=torch.int64)
        numbers = inputs[-1] if self.numbers else first.new_zeros((first.shape[0], 0), dtype=torch.float32)
        answer: Tensor = self.network(codes, numbers)
        return answer.softmax(1) if self.probabilities else answer


def row_program(
    network: nn.Module,
    *,
    columns: Columns,
    numbers: int,
    output: str,
    preprocess: Mapping[str, Any],
    labels: tuple[str, ...] = (),
) -> Program:
    """The program of a network on tables; its example is two rows drawn from what the columns may hold."""
    draw = torch.Generator().manual_seed(0)
    example = {}
    if columns:
        codes = [torch.randint(0, len(words) + 1, (2,), generator=draw) for _, words in columns]
        example["codes"] = torch.stack(codes, dim=1)
    if numbers:
        example["numbers"] = torch.randn(2, numbers, generator=draw)
    asked = Asked(network, codes=bool(columns), numbers=bool(numbers), probabilities=bool(labels))
    return Program(
        module=asked.eval(),
        example=example,
        outputs=(output,),
        preprocess={"kind": "table_rows", **preprocess},
        labels=labels,
    )
