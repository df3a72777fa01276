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
    """By stage, the best of so many runs after one that warms up: its work, and what its task run takes on
    top of it; and what the flow takes around them (`around`)."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    from flows.chain import run_application

    found: dict[str, dict[str, list[float]]] = {
        "work": {stage: [] for stage in STAGE_NAMES}, "overhead": {stage: [] for stage in STAGE_NAMES},
    }  # fmt: skip
    around: list[float] = []
    for number in range(1 + rounds):
        began = time.perf_counter()
        state: Any = run_application(application, force=True, return_state=True)
        whole = time.perf_counter() - began
        if not number:
            continue
        with get_client(sync_client=True) as client:
            run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
            seconds = {
                each.name.partition("@")[0]: each.total_run_time.total_seconds()
                for each in client.read_task_runs(
                    flow_run_filter=run, sort=TaskRunSort.END_TIME_DESC, limit=50
                )
            }
        for stage in STAGE_NAMES:
            path = Path(".practicum") / "receipts" / application / f"{stage}.json"
            work = json.loads(path.read_text())["seconds"]
            found["work"][stage].append(work)
            found["overhead"][stage].append(seconds[stage] - work)
        around.append(whole - sum(seconds[stage] for stage in STAGE_NAMES))
    return {name: least(each) for name, each in found.items()} | least({"around": around})


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
