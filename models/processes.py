"""Training in several processes: each takes some rows of every batch, and together they do what one would.

All processes run the same code on the same data with the same seeds. Only the rows differ: process `rank` of
`size` has rows rank, rank + size, ... of each batch. Wherever the other rows matter, the processes talk:
gradients and losses are those of the whole batch, batch norm sees all of it, random numbers are drawn for all
of it. Why not DistributedDataParallel: docs/decisions/0011-processes.md.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from models.hardware import device as own_device
from models.objective import Update
from models.whole_batch import WholeBatch, each_tensor

WAIT = timedelta(hours=12)
"""How long a process waits for the others, of which one may be decoding a data set. Nobody waits for a dead
one: its connections close."""


class LostError(RuntimeError):
    """Another process of this training is gone."""


class World:
    """The processes of a training. This class is one alone, for which everything is whole already."""

    rank, size = 0, 1
    divided = False
    """Whether the last batch was shared out; one with fewer rows than processes is worked on by all."""

    @property
    def lead(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0

    @property
    def counts(self) -> bool:
        """Whether what this process makes of the last batch is to be counted."""
        return self.lead or self.divided

    def in_turn(self) -> AbstractContextManager[None]:
        """A stretch that the first process of each machine does before the others: it fills caches."""
        return nullcontext()

    def align(self, modules: Iterable[nn.Module]) -> None:
        """Give the modules of all processes the leading one's parameters and buffers."""

    def hand_out(self, state: Any) -> Any:
        """The leading process's `state` (what a checkpoint may hold), for all."""
        return state

    def tell(self, *numbers: float) -> tuple[float, ...]:
        """The leading process's numbers, for all."""
        return numbers

    def add(self, *numbers: float) -> tuple[float, ...]:
        """Sums over the processes."""
        return numbers

    def share(self, value: Any) -> Any:
        """This process's rows of a batch: of each tensor in nested tuples, lists and dicts."""
        return value

    def whole(self, value: Any) -> Any:
        """The reverse: all rows of tensors of which each process has the rows of its share."""
        return value

    def as_one(self) -> AbstractContextManager[Any]:
        """To compute in on a share of a batch as on the whole of it; see `WholeBatch`."""
        return nullcontext()

    def weigh(self, update: Update) -> tuple[Update, Tensor]:
        """The update with the loss (which has no graph) and the count of the whole batch, and this process's
        part of that loss, which has one.

        Losses of shares are averaged by their counts. That is the loss of the whole batch where a loss is a
        mean over what it counts; one that divides by something else is approximated so.
        """
        return Update(update.name, update.loss.detach(), update.count), update.loss

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over the processes, in place."""

    def draw_alike(self) -> None:
        """Give torch's generators the leading process's state."""


ALONE = World()


class Processes(World):
    """Process `rank` of `size`, which talk through `group`.

    The group is not torch's default one. torchmetrics would take that as an order to merge its metrics, which
    see all rows here; and its merging aborts where processes hold unequal numbers of boxes.
    Every method but `lead` is a meeting: all processes must come, in the same order.
    """

    def __init__(self, group: Any, *, rank: int, size: int, local_rank: int, device: torch.device) -> None:
        self.group, self.device = group, device
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self.rows = 0
        """Of the last batch, whole."""

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The processes of a machine after its first one."""
        if self.local_rank:
            self.add(0.0)
        yield
        if not self.local_rank:
            self.add(0.0)

    def align(self, modules: Iterable[nn.Module]) -> None:
        """By name of the state dict."""
        for module in modules:
            for tensor in module.state_dict().values():
                tensor.copy_(self._told(tensor))

    def hand_out(self, state: Any) -> Any:
        """As bytes, which are read without unpickling code."""
        stream = io.BytesIO()
        torch.save(state if self.lead else None, stream)
        (length,) = self.tell(len(stream.getvalue()))
        content = torch.zeros(int(length), dtype=torch.uint8)
        if self.lead:
            content = torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)
        stored = io.BytesIO(self._told(content).cpu().numpy().tobytes())
        return torch.load(stored, map_location="cpu", weights_only=True)

    def tell(self, *numbers: float) -> tuple[float, ...]:
        """In double precision."""
        return tuple(self._told(torch.tensor(numbers, dtype=torch.float64)).tolist())

    def add(self, *numbers: float) -> tuple[float, ...]:
        """In double precision."""
        return tuple(self._sum_up(torch.tensor(numbers, dtype=torch.float64)).tolist())

    def share(self, value: Any) -> Any:
        """Rows rank, rank + size, ...: documents sorted by length are shared out evenly."""
        self.rows = next(_rows(value), self.rows)
        self.divided = self.rows >= self.size
        return (
            each_tensor(value, lambda tensor: tensor[self.rank :: self.size].clone())
            if self.divided
            else value
        )

    def whole(self, value: Any) -> Any:
        """Every process holds the rows in the order of the batch."""
        return each_tensor(value, self._joined) if self.divided else value

    def as_one(self) -> AbstractContextManager[Any]:
        """Nothing where all processes have the whole batch."""
        if not self.divided:
            return nullcontext()
        return WholeBatch(rank=self.rank, size=self.size, rows=self.rows, sum_up=self._sum_up)

    def weigh(self, update: Update) -> tuple[Update, Tensor]:
        """One sum, before the way back: in it batch norms of several processes meet."""
        if not self.divided:
            return Update(update.name, update.loss.detach(), update.count), update.loss / self.size
        total = float(update.loss.detach()) * update.count if update.count else 0.0
        count, total = self.add(update.count, total)
        loss = update.loss.detach().new_tensor(total / count if count else float("nan"))
        return Update(update.name, loss, int(count)), update.loss * (update.count / max(count, 1))

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """In one message. A parameter without a gradient in all processes is left without."""
        held = list(parameters)
        flat = [(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in held]
        there = torch.tensor([float(each.grad is not None) for each in held], device=held[0].device)
        summed = self._sum_up(torch.cat([*flat, there]))
        *sums, there = torch.split(summed, [*map(len, flat), len(held)])
        for parameter, total, used in zip(held, sums, there.tolist(), strict=True):
            if used:
                parameter.grad = torch.empty_like(parameter).copy_(total.view(parameter.shape))

    def draw_alike(self) -> None:
        """Where documents have other numbers of pieces, processes have drawn other numbers of numbers."""
        torch.set_rng_state(self._told(torch.get_rng_state()))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self._told(torch.cuda.get_rng_state()))

    def _joined(self, share: Tensor) -> Tensor:
        """The tensor of all rows."""
        whole = share.new_zeros((self.rows, *share.shape[1:]))
        whole[self.rank :: self.size] = share
        return self._sum_up(whole)

    def _told(self, tensor: Tensor) -> Tensor:
        """The leading process's tensor."""
        return self._sum_up(tensor.detach().clone() if self.lead else torch.zeros_like(tensor))

    def _sum_up(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, the same bits in each, where the tensor was."""
        plain = tensor.dtype in (torch.float32, torch.float64, torch.int64, torch.uint8)
        sent = tensor.to(self.device, None if plain else torch.float64).contiguous()
        try:
            self.group.allreduce([sent]).wait()
        except RuntimeError as error:
            raise LostError(f"another process of this training is gone ({error})") from error
        return sent.to(tensor.device, tensor.dtype)


def join() -> World:
    """The processes that torchrun started with this one.

    They talk by NCCL where there are accelerators, else by gloo. ValueError where there are too few of them.
    """
    local_rank, accelerators = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if 0 < accelerators <= local_rank:
        raise ValueError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes were started, but {accelerators} accelerators are"
            " visible, one for each; CUDA_VISIBLE_DEVICES='' hides them all, to train on the processor"
        )
    store, rank, size = next(rendezvous("env://", timeout=WAIT))
    device = own_device()
    group: Any
    if device.type == "cuda":
        torch.cuda.set_device(device)
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = WAIT
        group = dist.ProcessGroupNCCL(store, rank, size, options)
    else:
        group = dist.ProcessGroupGloo(store, rank, size, WAIT)
    return Processes(group, rank=rank, size=size, local_rank=local_rank, device=device)


def _rows(value: Any) -> Iterator[int]:
    """Rows of each tensor."""
    if isinstance(value, Tensor):
        yield len(value)
    elif isinstance(value, Mapping | tuple | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _rows(each)
