"""Unattended runs: a Prefect deployment for every application of params.yaml, served here or by workers."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect import serve as serve_deployments
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import DeploymentSort
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from flows.automations import TAG, late_tag, sync
from flows.chain import run_application
from flows.server import UNATTENDED
from tasks.parameters import Parameters, load_parameters

POOL = "practicum"
"""Name of the work pool, unless another one is given."""
PAGE = 200
"""Deployments that the server lists at once."""


def serve(names: Sequence[str], root: Path, *, limit: int, webhook: str | None) -> None:
    """Run applications as scheduled, in processes of this one, until it is stopped.

    ValueError or OSError for faults of params.yaml and of the server, before anything is changed there.
    """
    parameters = load_parameters(root / "params.yaml")
    wanted = deployments(names, parameters)
    with connected() as client:
        for each in wanted:
            found = _find(client, each)
            if found is not None and found.work_pool_name is not None:  # no update takes it out of its pool
                client.delete_deployment(found.id)
        for line in [*_tidy(client, parameters, webhook), *(_line(each) for each in wanted)]:
            print(line, flush=True)
        for each in wanted:
            _clear_schedules(client, each)
    print(f"serving {len(wanted)} applications, at most {limit} at once; Ctrl-C ends it", flush=True)
    serve_deployments(*wanted, pause_on_shutdown=False, limit=limit, print_starting_message=False)


def deploy(
    names: Sequence[str], root: Path, *, pool: str, limit: int | None, webhook: str | None
) -> Iterator[str]:
    """Make deployments for the workers of a pool; yields a line per application. Twice changes nothing.

    `limit`: runs of the whole pool at once; None leaves that of a pool that exists. Errors as for `serve`.
    """
    parameters = load_parameters(root / "params.yaml")
    wanted = deployments(names, parameters, pool=pool)
    with connected() as client:
        yield from _ready_pool(client, pool, limit)
        for each in wanted:
            found = _find(client, each)
            if found is not None and _content(found) == _wanted(each):
                yield f"{_line(each)}  (as before)"
                continue
            _clear_schedules(client, each)
            each.apply()
            yield f"{_line(each)}  ({'made' if found is None else 'changed'})"
        yield from _tidy(client, parameters, webhook)


def deployments(
    names: Sequence[str], parameters: Parameters, *, pool: str | None = None
) -> list[RunnerDeployment]:
    """One per application, by its schedule: no run beside another one of the same application."""
    made = []
    for name in names:
        schedule = parameters.schedule_of(name)
        entry, recipe = parameters.application(name)
        deployment = run_application.to_deployment(
            name,
            description=f"{recipe.title} on {entry.source}",
            schedules=[Cron(schedule.cron, timezone=schedule.timezone)] if schedule.cron else [],
            parameters={
                "application": name,
                "check_sources": True,
                "time_limit_hours": schedule.time_limit_hours,
            },
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
            ),
            tags=[TAG, late_tag(schedule.late_hours)],
            entrypoint_type=EntrypointType.MODULE_PATH,  # of the checkout in which it is run
            work_pool_name=pool,
            job_variables={"working_dir": ".", "env": UNATTENDED} if pool else None,
        )
        assert isinstance(deployment, RunnerDeployment)  # a coroutine only where a loop runs
        made.append(deployment)
    return made


@contextmanager
def connected() -> Iterator[SyncPrefectClient]:
    """A client of the server that PREFECT_API_URL names. ValueError without one, OSError if it is silent."""
    address = os.environ.get("PREFECT_API_URL")
    start = "`prefect server start` starts one; `export PREFECT_API_URL=http://127.0.0.1:4200/api` names it"
    if not address:
        raise ValueError(f"PREFECT_API_URL is not set, and schedules need a server that stays: {start}")
    with get_client(sync_client=True) as client:
        try:
            client.hello()
        except httpx.HTTPError as error:
            raise OSError(f"no Prefect server answers at {address} ({error}): {start}") from None
        yield client


def _tidy(client: SyncPrefectClient, parameters: Parameters, webhook: str | None) -> Iterator[str]:
    """Take away what params.yaml no longer has, and only ours; make the automations fit."""
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    there: list[DeploymentResponse] = []
    by_name = DeploymentSort.NAME_ASC
    while page := client.read_deployments(
        deployment_filter=ours, sort=by_name, limit=PAGE, offset=len(there)
    ):
        there += page
    for each in there:
        if each.name not in parameters.applications:
            client.delete_deployment(each.id)
            yield f"{each.name}  (removed: params.yaml has no such application)"
    late = [parameters.schedule_of(name).late_hours for name in parameters.applications]
    yield from sync(client, late, webhook=webhook)


def _ready_pool(client: SyncPrefectClient, pool: str, limit: int | None) -> Iterator[str]:
    from prefect.client.schemas.actions import WorkPoolUpdate

    try:
        found = client.read_work_pool(pool)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", concurrency_limit=limit or 1))
        yield f"work pool {pool} made: at most {limit or 1} runs at once (--limit)"
        return
    if found.type != "process":
        raise ValueError(
            f"the work pool {pool} is of type {found.type}, not process; name another with --pool"
        )
    if limit is not None and found.concurrency_limit != limit:
        client.update_work_pool(pool, WorkPoolUpdate(concurrency_limit=limit))
        yield f"work pool {pool}: at most {limit} runs at once"


def _find(client: SyncPrefectClient, deployment: RunnerDeployment) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return None


def _clear_schedules(client: SyncPrefectClient, deployment: RunnerDeployment) -> None:
    """An update with no schedule would leave the old one."""
    found = _find(client, deployment)
    if found is not None and not deployment.schedules:
        for schedule in found.schedules:
            client.delete_deployment_schedule(found.id, schedule.id)


def _wanted(deployment: RunnerDeployment) -> dict[str, Any]:
    limit, options = deployment.concurrency_limit, deployment.concurrency_options
    return {
        "entrypoint": deployment.entrypoint,
        "description": deployment.description,
        "parameters": deployment.parameters,
        "tags": sorted(deployment.tags),
        "pool": deployment.work_pool_name,
        "job_variables": deployment.job_variables,
        "limit": (limit, str(options and options.collision_strategy)),
        "schedules": [_clock(each.schedule) for each in deployment.schedules or []],
    }


def _content(found: DeploymentResponse) -> dict[str, Any]:
    limit, options = found.global_concurrency_limit, found.concurrency_options
    return {
        "entrypoint": found.entrypoint,
        "description": found.description,
        "parameters": found.parameters,
        "tags": sorted(found.tags),
        "pool": found.work_pool_name,
        "job_variables": found.job_variables,
        "limit": (limit and limit.limit, str(options and options.collision_strategy)),
        "schedules": [_clock(each.schedule) for each in found.schedules],
    }


def _clock(schedule: Any) -> tuple[str, str | None]:
    return schedule.cron, schedule.timezone


def _line(deployment: RunnerDeployment) -> str:
    times = [" ".join(filter(None, _clock(each.schedule))) for each in deployment.schedules or []]
    return f"{deployment.name}  {', '.join(times) or 'on demand'}"
