"""The process of one variant: makes rounds ready and times them, on request, one line of JSON each way.

Started by `race.py` with the Python of the variant; needs nothing but the standard library and what the
variant itself imports.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

SEED = 42


def seed_all() -> None:
    """Of every generator that a library may use."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


def spent() -> float:
    """Processor seconds of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def rate(module: Any, case: Any) -> dict[str, float]:
    """Operations of a unit of the case's work, and what the hardware does of them in bf16 a second."""
    from benchmarks.hardware_rate import bf16_rate

    return {"operations": module.operations(case.sizes), "hardware": bf16_rate()}


def on_device() -> dict[str, int]:
    """The most memory of the accelerator that the round took, where there is one."""
    if "torch" not in sys.modules:
        return {}
    from benchmarks.hardware_rate import device_memory

    most = device_memory()
    return {} if most is None else {"device_memory": most}


def main() -> None:
    """Arguments: module, case, variant, folder, threads."""
    module_name, case_name, variant, folder, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        import torch

        torch.set_num_threads(int(threads))
    except ImportError:
        pass
    module = importlib.import_module(module_name)
    case = next(each for each in module.CASES if each.name == case_name)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    seed_all()
    ready = module.VARIANTS[variant](Path(folder), case.sizes)
    answer(ready=True)
    for line in sys.stdin:
        if line.strip() == "rate":
            answer(**rate(module, case))
            continue
        seed_all()
        work = ready()
        gc.collect()
        start, before = time.perf_counter(), spent()
        check = work()
        seconds, processor = time.perf_counter() - start, spent() - before
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer(seconds=seconds, processor=processor, memory=memory, check=check, **on_device())


if __name__ == "__main__":
    main()
