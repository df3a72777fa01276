"""What the Prefect server does by itself: cancel what is late, end what is dead, tell of failures."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import AutomationCore
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture

from flows.dead_runs import RESCHEDULED, schedule_again

TAG = "practicum"
"""On every deployment of ours and, through it, on every run of it."""
PREFIX = "practicum: "
"""How the names of our automations begin."""
PAGE = 200
"""Automations that the server lists at once."""
FAILURES = f"{PREFIX}tell of failures"
HEARTBEAT_SECONDS = 30
"""Between signs of life that a worker gives of a run (Prefect's least)."""
DEAD_SECONDS = 6 * HEARTBEAT_SECONDS
"""Silence after which a run counts as dead: its process was killed, or its machine has gone."""
ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "TimedOut", "Crashed", "Cancelled")}
BLOCK = "practicum-failures"
"""Name of the block that holds the address, which may be a secret."""
PAYLOAD = (
    '{"text": {{ ("practicum: run " ~ flow_run.name ~ " " ~ flow_run.state.name ~ ": " ~'
    ' flow_run.state.message ~ " " ~ flow_run|ui_url) | tojson }}}'
)
"""`text` is what Slack, Mattermost, Rocket.Chat and Google Chat show."""


def late_tag(hours: float) -> str:
    """Tag of deployments whose runs may wait so long."""
    return f"late-after-{hours:g}h"


def sync(client: SyncPrefectClient, late_hours: Iterable[float], *, webhook: str | None) -> list[str]:
    """Make the server's automations these; returns one line per change.

    `webhook` is the address that is told of failures; None leaves what is there, empty takes it away.
    """
    wanted = [_cancel_late(hours) for hours in sorted(set(late_hours))] + [schedule_again(), _end_dead()]
    if webhook:
        wanted.append(_tell_of_failures(webhook))
    kept = {each.name for each in wanted} | ({FAILURES} if webhook is None else set())
    there = {each.name: each for each in _ours(client)}
    changes = []
    for name, each in there.items():
        if name not in kept:
            client.delete_automation(each.id)
            changes.append(f"automation removed: {name}")
    for automation in wanted:
        found = there.get(automation.name)
        if found is None:
            client.create_automation(automation)
            changes.append(f"automation made: {automation.name}")
        elif (found.trigger, found.actions) != (automation.trigger, automation.actions):
            client.update_automation(found.id, automation)
            changes.append(f"automation changed: {automation.name}")
    return changes


def _ours(client: SyncPrefectClient) -> Iterator[Any]:
    seen = 0
    while page := client.read_automations(sort=AutomationSort.NAME_ASC, limit=PAGE, offset=seen):
        seen += len(page)
        yield from (each for each in page if each.name.startswith(PREFIX))


def _cancel_late(hours: float) -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}cancel runs that are late by {hours:g} h",
        description="A run that has not begun by then waits for the next time of its schedule.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_tagged(late_tag(hours)),
            for_each={"prefect.resource.id"},
            after={"prefect.flow-run.Late"},
            expect={"prefect.flow-run.Pending", "prefect.flow-run.Running", *ENDS},
            within=timedelta(hours=hours),
        ),
        actions=[ChangeFlowRunState(state=StateType.CANCELLED, message=f"not begun within {hours:g} hours")],
    )


def _end_dead() -> AutomationCore:
    return AutomationCore(
        name=f"{PREFIX}end runs without a sign of life",
        description="Killed, or on a machine that has gone; they would hold their place for ever.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_tagged(TAG),
            for_each={"prefect.resource.id"},
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", f"prefect.flow-run.{RESCHEDULED}", *ENDS},
            within=timedelta(seconds=DEAD_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message=f"no sign of life for {DEAD_SECONDS} s")
        ],
    )


def _tell_of_failures(address: str) -> AutomationCore:
    return AutomationCore(
        name=FAILURES,
        description="Posts a line of text to an address: of a chat, or a program of one's own.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_tagged(TAG),
            for_each={"prefect.resource.id"},
            expect={"prefect.flow-run.Failed", "prefect.flow-run.TimedOut", "prefect.flow-run.Crashed"},
            threshold=1,
        ),
        actions=[CallWebhook(block_document_id=_block(address), payload=PAYLOAD)],
    )


def _tagged(tag: str) -> dict[str, str]:
    return {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"}


def _block(address: str) -> UUID:
    """The block that holds the address. ValueError where it is none."""
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"--webhook {address}: write an address that begins with http:// or https://")
    saved = Webhook(url=address).save(BLOCK, overwrite=True)
    return UUID(str(saved))
