"""A worker of a work pool dies with its machine: the server gives its run to another."""

import subprocess
import sys
from pathlib import Path

from tasks.pipeline import STAGE_NAMES
from tests.machines import Machines
from tests.prefect_server import Server
from tests.scratch import lock_entries, plain
from tests.waiting import until


def test_a_run_of_a_deployment_goes_on_at_another_worker(machines: Machines, server: Server) -> None:
    deploy(server)
    first = machines.start("a", "prefect", "worker", "start", "--pool", "machines", "--type", "process")
    run = server.order("mine")
    until(lambda: machines.in_training("a"), "a training")
    machines.kill(first)
    assert server.states()[run] == "Running"  # and would be so for ever

    machines.start("b", "prefect", "worker", "start", "--pool", "machines", "--type", "process")
    until(lambda: server.states()[run] == "Completed", "the run to be done")
    assert machines.said("b", "fine_tune@mine: ran")
    assert lock_entries(machines.place / "b").keys() == {f"{stage}@mine" for stage in STAGE_NAMES}


def deploy(server: Server) -> None:
    """A work pool, a deployment whose worker works in its own clone, and the automation for dead runs."""
    program = """
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.flows import EntrypointType
from flows.chain import run_application
from flows.dead_runs import schedule_again

run_application.to_deployment(
    "mine", parameters={"application": "mine"}, work_pool_name="machines",
    job_variables={"working_dir": "."}, entrypoint_type=EntrypointType.MODULE_PATH,
    concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy="CANCEL_NEW"),
).apply()
with get_client(sync_client=True) as client:
    client.create_automation(schedule_again())
"""
    server.ask("POST", "/work_pools/", {"name": "machines", "type": "process"})
    subprocess.run(
        [sys.executable, "-c", program], check=True, env=plain(PREFECT_API_URL=server.address),
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
