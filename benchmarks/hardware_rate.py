"""How much of what the hardware can do in bf16 a training does."""

from __future__ import annotations

import time
from typing import Any

SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices that are multiplied to learn the rate."""
ROUNDS = 5


def bf16_rate() -> float:
    """Operations a second of a large matrix product in bf16: the best of so many, after one to warm up."""
    import torch

    from models.hardware import device

    here = device()
    side = SIDE[here.type]
    left, right = (torch.rand(side, side, device=here, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        float((left @ right)[0, 0])  # reading waits for the device
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds)


def operations(network: Any, *inputs: Any) -> int:
    """Of a forward and a backward pass, by torch's own count of products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        network(*inputs).float().sum().backward()
    return int(counter.get_total_flops())


def device_memory() -> int | None:
    """The most bytes that tensors took on the accelerator since the last call; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    most = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return most
