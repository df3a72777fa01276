"""One step of training: forward under the chosen precision, backward, clip, descend, and look for nan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.checkpoint import Position
from models.objective import Batch, Update
from models.optimisers import Optimiser, build_optimiser
from models.phases import Phase, freeze, layer_groups
from models.processes import ALONE, World
from models.replay import Steps
from models.whole_batch import each_tensor

Precision = Literal["auto", "float32", "bf16"]


class Losses:
    """The losses of one epoch: added up in the order of the steps, each looked at for nan and infinity.

    On the CPU after every step; on an accelerator, which reading would make wait, every 16 steps.
    """

    def __init__(self, device: torch.device, phase: str, at: Position) -> None:
        self.every = 1 if device.type == "cpu" else 16
        self.phase, self.at = phase, at
        self.pending: list[tuple[int, Sequence[Update]]] = []

    def add(self, updates: Sequence[Update]) -> None:
        """Take in the updates of the step that `at.step` counts as completed."""
        self.pending.append((self.at.step, updates))
        if len(self.pending) >= self.every:
            self.settle()

    def settle(self) -> None:
        """Add up what is pending. FloatingPointError names the first step whose loss is not finite."""
        pending, self.pending = self.pending, []
        sums, counts = self.at.sums, self.at.counts
        for step, updates in pending:
            for update in updates:
                value = update.loss.item()
                if not math.isfinite(value):
                    what = f"loss of {update.name!r} is {value}"
                    raise FloatingPointError(diagnosis(what, self.phase, self.at.epochs + 1, step))
                sums[update.name] = sums.get(update.name, 0.0) + value * update.count
                counts[update.name] = counts.get(update.name, 0) + update.count

    def means(self) -> dict[str, float]:
        """Mean loss of the epoch: `train_loss`, or one `train_loss_NAME` per module that took steps."""
        means = {name: total / self.at.counts[name] for name, total in self.at.sums.items()}
        if len(means) == 1:
            return {"train_loss": next(iter(means.values()))}
        return {f"train_loss_{name}": mean for name, mean in means.items()}


def take_steps(
    objective: Steps,
    batch: Batch,
    optimisers: Mapping[str, Optimiser],
    *,
    cast: Callable[[], AbstractContextManager[Any]],
    clip: float | None,
    world: World = ALONE,
) -> Iterator[Update]:
    """Every step that the objective asks for on this batch, or on this process's share of it: the heart of
    the loop. The updates that come out tell of the whole batch; their losses have no graph."""
    updates = iter(objective.updates(batch))
    while True:
        with world.as_one(), cast():
            update = next(updates, None)
        if update is None:
            return
        optimiser = optimisers[update.name]
        for parameter in parameters_of(optimiser):
            parameter.grad = None
        backward = update.backward
        update, loss = world.weigh(update)
        (backward or loss.backward)()
        world.add_gradients(parameters_of(optimiser))
        if clip is not None:
            nn.utils.clip_grad_norm_(list(parameters_of(optimiser)), clip)
        optimiser.step()
        yield update


def parameters_of(optimiser: Optimiser) -> Iterator[nn.Parameter]:
    """Of all its groups."""
    return (each for group in optimiser.param_groups for each in group["params"])


def build_optimisers(phase: Phase) -> dict[str, Optimiser]:
    """Freeze what the phase freezes, and make the optimiser of each of its modules."""
    optimisers = {}
    for name, module in phase.objective.trainable().items():
        groups = layer_groups(module)
        if len(phase.rates_of(name)) != len(groups):
            raise ValueError(
                f"phase {phase.name!r} has {len(phase.rates_of(name))} rates for {name!r},"
                f" which has {len(groups)} layer groups"
            )
        freeze(module, phase.frozen_of(name))
        optimisers[name] = build_optimiser(phase.optimiser_of(name), groups)
    return optimisers


def autocast(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """The context in which networks compute: bf16 autocast, or nothing. "auto" asks the hardware."""
    if precision == "float32" or (precision == "auto" and not computes_bf16(device)):
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def computes_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively (no emulation, which would be slower than float32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Choose kernels that give the same bits every time, where the device has them; torch warns of others.

    Processors need none of this. cuBLAS also wants CUBLAS_WORKSPACE_CONFIG set before the process starts.
    """
    if device.type != "cuda":
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def to_device(value: Any, device: torch.device, *, channels_last: bool) -> Any:
    """A batch on the device; images (N, C, H, W) in channels-last layout where asked."""
    if device.type == "cpu" and not channels_last:
        return value  # batches are drawn there

    def moved(tensor: Tensor) -> Tensor:
        there = tensor.to(device, non_blocking=True)
        images = channels_last and there.dim() == 4
        return there.contiguous(memory_format=torch.channels_last) if images else there

    return each_tensor(value, moved)


def diagnosis(what: str, phase: str, epoch: int, step: int | None = None) -> str:
    """The message of a loss that is not finite: where it came up, and what to try."""
    where = f"phase {phase!r}, epoch {epoch}" + (f", step {step}" if step is not None else "")
    return (
        f"{what} in {where}; lower the rates, clip the gradients, compute in float32,"
        " or look for values in the data that are not finite"
    )
