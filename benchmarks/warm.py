"""A process that stays: what a stage costs there around its own work, and what recording one costs.

Called by `chain.py` in a scratch project, whose own code it runs; answers with one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tasks import versioning
from tasks.pipeline import STAGE_NAMES


def flow(application: str, rounds: int) -> dict[str, Any]:
    """By stage, the best of so many runs after one that warms up: its own work, and the time until the next.

    The time of a stage begins where the one before it has ended its work, so that all that the flow does is
    someone's; that of the last one ends with the flow.
    """
    from flows.chain import run_application

    work: dict[str, list[float]] = {stage: [] for stage in STAGE_NAMES}
    overhead: dict[str, list[float]] = {stage: [] for stage in STAGE_NAMES}
    for number in range(1 + rounds):
        ended = time.time()
        run_application(application, force=True)
        after = time.time()
        if not number:
            continue
        for stage in STAGE_NAMES:
            path = Path(".practicum") / "receipts" / application / f"{stage}.json"
            receipt = json.loads(path.read_text())
            work[stage].append(receipt["seconds"])
            overhead[stage].append(receipt["started"] - ended)
            ended = receipt["started"] + receipt["seconds"]
        overhead[STAGE_NAMES[-1]][-1] += after - ended
    return {"work": least(work), "overhead": least(overhead)}


def record(application: str, rounds: int) -> dict[str, float]:
    """Recording of a stage that is done: by the flow, and of it DVC's own way to write `dvc.lock`."""
    from dvc.dvcfile import Lockfile

    root, name = Path.cwd(), f"{STAGE_NAMES[-1]}@{application}"
    found: dict[str, list[float]] = {"flow": [], "dvc": []}
    for _ in range(1 + rounds):
        began = time.perf_counter()
        with versioning.recorded(root, name):
            pass
        found["flow"].append(time.perf_counter() - began)
        with versioning.opened(root) as repo:
            stage = versioning.find(repo, name)
            began = time.perf_counter()
            Lockfile(repo, str(root / "dvc.lock")).dump(stage)
            found["dvc"].append(time.perf_counter() - began)
    return least(found)


def least(found: dict[str, list[float]]) -> dict[str, float]:
    """The shortest of each: noise only adds."""
    return {name: round(min(each), 3) for name, each in found.items()}


if __name__ == "__main__":
    print(json.dumps({"flow": flow, "record": record}[sys.argv[2]](sys.argv[1], int(sys.argv[3]))))
