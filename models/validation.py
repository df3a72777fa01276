"""Judging: loss and metrics of one pass over the validation part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from models.objective import Batch
from models.phases import Phase
from models.processes import World
from models.steps import diagnosis, to_device


def judge(
    phase: Phase,
    batches: Iterable[Batch],
    *,
    epoch: int,
    device: torch.device,
    cast: Callable[[], AbstractContextManager[Any]],
    channels_last: bool,
    world: World,
) -> dict[str, float]:
    """`valid_loss` and the phase's metrics, in evaluation mode; the modules are left in it.

    Several processes judge a share of each batch each. A metric that can `merge` is merged, every other one
    sees all rows. FloatingPointError where the loss is not finite; `epoch` is for its message.
    """
    for module in phase.objective.trainable().values():
        module.eval()
    for metric in phase.metrics.values():
        metric.reset()
        if isinstance(metric, nn.Module):  # torchmetrics counts on a device
            metric.to(device)
    phase.objective.start_epoch()
    total, count = torch.zeros((), dtype=torch.float64, device=device), 0
    for batch in batches:
        batch = to_device(world.share(batch), device, channels_last=channels_last)
        with torch.no_grad(), world.as_one(), cast():
            outcome = phase.objective.judge(batch)
        if outcome.count and world.counts:
            total = total + outcome.loss.double() * outcome.count
            count += outcome.count
        for metric in phase.metrics.values():
            outputs, targets = outcome.outputs, outcome.targets
            if not hasattr(metric, "merge"):
                outputs, targets = world.whole(outputs), world.whole(targets)
            if world.lead or (world.counts and hasattr(metric, "merge")):
                metric.update(outputs, targets)
    summed, counted = world.add(float(total), count)
    loss = summed / max(counted, 1)
    if not math.isfinite(loss):
        raise FloatingPointError(diagnosis(f"validation loss is {loss}", phase.name, epoch))
    figures = []
    for metric in phase.metrics.values():
        if hasattr(metric, "merge"):
            metric.merge(world.add)
        figures.append(float(metric.compute()) if world.lead else 0.0)
    return {"valid_loss": loss, **dict(zip(phase.metrics, world.tell(*figures), strict=True))}
