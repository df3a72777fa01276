"""Two processes for tests of the loop: they run a function side by side and send back what it returns."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
import torch
from torch import distributed as dist

from models.processes import WAIT, Processes, World


def together(function: Callable[[World], Any], folder: Path, *, size: int = 2) -> list[Any]:
    """What `function(world)` returns in each of `size` processes; `function` must be a module's own."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    ranks = [
        context.Process(target=_rank, args=(function, str(folder / "store"), rank, size, answers))
        for rank in range(size)
    ]
    for each in ranks:
        each.start()
    found: dict[int, Any] = {}
    while len(found) < size:
        try:
            found.update([answers.get(timeout=0.2)])
        except Empty:
            assert not any(each.exitcode for each in ranks), "a process died: see its traceback"
    for each in ranks:
        each.join()
    return [found[rank] for rank in range(size)]


def _rank(function: Callable[[World], Any], store: str, rank: int, size: int, answers: Any) -> None:
    loopback = [
        name
        for name, all_of in psutil.net_if_addrs().items()
        if any(each.address == "127.0.0.1" for each in all_of)
    ]
    os.environ["GLOO_SOCKET_IFNAME"] = loopback[0]
    torch.set_num_threads(1)
    group = dist.ProcessGroupGloo(dist.FileStore(store, size), rank, size, WAIT)
    cpu = torch.device("cpu")
    world = Processes(group, rank=rank, size=size, local_rank=rank, device=cpu)
    answers.put((rank, function(world)))
