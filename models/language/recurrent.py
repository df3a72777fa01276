"""One recurrent layer: PyTorch's fused kernels while training, and a loop that can be exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kind = Literal["rnn", "gru", "lstm"]
Held = tuple[Tensor, ...]
"""What a layer carries from step to step: (N, width) each; one tensor, or two for an LSTM (output, cell)."""

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


class Recurrent(nn.Module):
    """A layer of `kind` over (N, T, inputs), with PyTorch's equations and order of gates.

    weight_dropout: share of the weights from state to state that is zeroed while training, anew for each
      batch and the same for all its steps (Merity and others, 2018, arXiv:1708.02182).
    """

    def __init__(self, kind: Kind, inputs: int, width: int, *, weight_dropout: float = 0.0) -> None:
        super().__init__()
        self.kind, self.width, self.weight_dropout = kind, width, weight_dropout
        rows = GATES[kind] * width
        self.weight_ih = nn.Parameter(torch.empty(rows, inputs))
        self.weight_hh = nn.Parameter(torch.empty(rows, width))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))
        for parameter in self.parameters():  # as nn.RNN, nn.GRU and nn.LSTM do
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def initial(self, streams: int) -> Held:
        """The state before the first token: zeros."""
        return tuple(self.weight_hh.new_zeros(streams, self.width) for _ in range(self.states()))

    def states(self) -> int:
        """Tensors of the state."""
        return 2 if self.kind == "lstm" else 1

    def forward(self, x: Tensor, held: Held) -> tuple[Tensor, Held]:
        """(N, T, inputs) and the state before them -> outputs (N, T, width) and the state after them."""
        weight = F.dropout(self.weight_hh, self.weight_dropout, self.training)
        if torch.compiler.is_exporting():  # the kernels would be unrolled for the example's T
            return self._loop(x, held, weight)
        weights = [self.weight_ih, weight, self.bias_ih, self.bias_hh]
        options = (True, 1, 0.0, self.training, False, True)
        state = tuple(each.unsqueeze(0).contiguous() for each in held)
        if self.kind == "lstm":
            outputs, *after = torch.lstm(x, state, weights, *options)
        else:
            kernel: Callable[..., Any] = torch.gru if self.kind == "gru" else torch.rnn_tanh
            outputs, *after = kernel(x, state[0], weights, *options)
        return outputs, tuple(each.squeeze(0) for each in after)

    def _loop(self, x: Tensor, held: Held, weight: Tensor) -> tuple[Tensor, Held]:
        """The same for any T as one loop in the program (ONNX: `Scan`)."""
        from torch._higher_order_ops.scan import scan

        bias = self.bias_hh
        steps: dict[str, Callable[[Held, Tensor], tuple[Held, Tensor]]] = {
            "rnn": lambda held, x: _rnn(held, x, weight, bias),
            "gru": lambda held, x: _gru(held, x, weight, bias),
            "lstm": lambda held, x: _lstm(held, x, weight, bias),
        }
        inputs = F.linear(x, self.weight_ih, self.bias_ih).transpose(0, 1)
        after, outputs = scan(steps[self.kind], tuple(each.contiguous() for each in held), inputs)
        return outputs.transpose(0, 1), tuple(after)


# One step each: the state (N, width) and the input's share of the gates (N, gates * width) -> state, output.
# The output is a copy, because a loop may not return one tensor twice.


def _rnn(held: Held, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Held, Tensor]:
    output = torch.tanh(x + F.linear(held[0], weight, bias))
    return (output,), output.clone()


def _gru(held: Held, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Held, Tensor]:
    reset_x, update_x, new_x = x.chunk(3, dim=1)
    reset_h, update_h, new_h = F.linear(held[0], weight, bias).chunk(3, dim=1)
    new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
    output = new + torch.sigmoid(update_x + update_h) * (held[0] - new)
    return (output,), output.clone()


def _lstm(held: Held, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Held, Tensor]:
    enter, forget, new, leave = (x + F.linear(held[0], weight, bias)).chunk(4, dim=1)
    cell = torch.sigmoid(forget) * held[1] + torch.sigmoid(enter) * torch.tanh(new)
    output = torch.sigmoid(leave) * torch.tanh(cell)
    return (output, cell), output.clone()
