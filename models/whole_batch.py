"""Operations that look beyond one row, made those of the whole batch where a process has a share of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

SumUp = Callable[[Tensor], Tensor]
"""The sum of a tensor over the processes; in place where it likes."""


def all_rows(tensor: Tensor) -> Tensor:
    """A tensor with a row for each row of the batch, for a loss that is no mean over rows (one divided by a
    number of objects, say). Of several processes: the rows of all."""
    if has_torch_function_unary(tensor):
        rows: Tensor = handle_torch_function(all_rows, (tensor,), tensor)
        return rows
    return tensor


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested tuples, lists and dicts with their tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)([each_tensor(each, change) for each in value])
    if isinstance(value, Mapping):
        return {key: each_tensor(each, change) for key, each in value.items()}
    return value


class WholeBatch(TorchFunctionMode):
    """Inside, batch norm takes its statistics from the rows of all processes, and what is drawn for the rows
    of the share is drawn for the whole batch, of which the share keeps its own.

    So all processes draw the same numbers as one process would, and their generators stay equal. A tensor
    counts as one of the batch by the number of its rows; where a process has other rows (the later pieces of
    documents of unequal length), it draws for them alone.
    """

    def __init__(self, *, rank: int, size: int, rows: int, sum_up: SumUp) -> None:
        super().__init__()
        self.size, self.rows, self.sum_up = size, rows, sum_up
        self.mine = slice(rank, None, size)
        self.count = len(range(rank, rows, size))
        """Rows of the share."""
        self.place = F.one_hot(torch.tensor(rank), size).float()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called in the place of every function of torch."""
        options = dict(kwargs or {})
        if func is F.batch_norm:
            return self.batch_norm(*args, **options)
        if func is F.dropout:
            return self.dropout(*args, **options)
        if func in DRAWS:
            return self.draw(func, *args, **options)
        if func is all_rows:
            return self.join(*args)
        return func(*args, **options)

    def join(self, share: Tensor) -> Tensor:
        """`all_rows`."""
        whole = share.new_zeros((self.rows, *share.shape[1:]))
        whole[self.mine] = share
        rows: Tensor = _Sum.apply(whole, self.sum_up)
        return rows

    def draw(self, func: Callable[..., Tensor], *shape: Any, **options: Any) -> Tensor:
        """`torch.rand` and `torch.randn`."""
        size = shape[0] if shape and isinstance(shape[0], Sequence) else shape
        if not size or size[0] != self.count:
            return func(*shape, **options)
        return func(self.rows, *size[1:], **options)[self.mine]

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """`torch.nn.functional.dropout`: a mask for the whole batch, in the order in which its values lie."""
        if not training or p == 0 or not x.dim() or len(x) != self.count:
            return F.dropout(x, p, training, inplace)
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        ones = x.new_ones((self.rows, *x.shape[1:])).contiguous(memory_format=layout)
        mask = F.dropout(ones, p)[self.mine]
        return x.mul_(mask) if inplace else x * mask

    def batch_norm(
        self, x: Tensor, mean: Tensor | None, variance: Tensor | None, weight: Tensor | None = None,
        bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        """`torch.nn.functional.batch_norm` (N, C, ...); computed in float32 at least. Its kernels for several
        processes (SyncBatchNorm) are for accelerators only."""
        if not training:
            return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
        seen = x.to(torch.promote_types(x.dtype, torch.float32))
        own = torch.var_mean(seen, [0, *range(2, x.dim())], correction=0)
        count = torch.full_like(own[0][:1], seen.numel() / seen.shape[1])
        place = self.place.to(count)[:, None]
        parts = _Sum.apply(place * torch.cat([*own, count]), self.sum_up)  # (processes, 2 * C + 1)
        variances, means, counts = parts.split([len(own[0]), len(own[0]), 1], dim=1)
        total = counts.sum()
        middle = (counts * means).sum(0) / total
        spread = (counts * (variances + (means - middle) ** 2)).sum(0) / total
        with torch.no_grad():
            if mean is not None and variance is not None:
                mean.lerp_(middle.to(mean), momentum)
                variance.lerp_((spread * total / (total - 1)).to(variance), momentum)
        scale = (spread + eps).rsqrt() if weight is None else weight * (spread + eps).rsqrt()
        shift = -middle * scale if bias is None else bias - middle * scale
        wide = (-1, *[1] * (x.dim() - 2))
        made: Tensor = torch.addcmul(shift.view(wide), seen, scale.view(wide)).to(x.dtype)
        return made


DRAWS = frozenset({torch.rand, torch.randn})


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of theirs, as each has a part of the loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sum_up: SumUp) -> Tensor:
        ctx.sum_up = sum_up
        return sum_up(x.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradient, ctx.sum_up), None
