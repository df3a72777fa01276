"""What this machine computes with."""

import os

import torch


def device() -> torch.device:
    """The accelerator where there is one, else the processor; of several processes each has its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = os.environ.get("LOCAL_RANK")
    return torch.device("cuda") if local is None else torch.device("cuda", int(local))
