"""What this machine computes with."""

import ctypes
import os
import sys

import torch


def device() -> torch.device:
    """The accelerator where there is one, else the processor; of several processes each has its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = os.environ.get("LOCAL_RANK")
    return torch.device("cuda") if local is None else torch.device("cuda", int(local))


KEPT_BYTES = 2**30
"""Of freed memory that stays with the process."""
LARGEST_BYTES = 2**28
"""Of one piece that is taken from there."""


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one; other systems are left as they are.

    By default it gives large batches back to the system, which zeroes their pages anew for the next batch: a
    fifth of the time in which pictures are made ready.
    """
    if sys.platform != "linux":
        return
    # mallopt(3): M_TRIM_THRESHOLD is -1, M_MMAP_THRESHOLD -3. Other C libraries of Linux have no mallopt.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-1, KEPT_BYTES)
        mallopt(-3, LARGEST_BYTES)
