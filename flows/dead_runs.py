"""A run whose worker died is scheduled again by the Prefect server, so that another worker does its work.

A worker that is killed with its machine can report nothing. Its run's sign of life (flows/claims.py) is what
the server misses: an automation of its own, which needs no process of ours.
"""

from datetime import timedelta

from prefect.automations import AutomationCore
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture

from flows.claims import ALIVE, lease_seconds

NAME = "practicum: schedule dead runs again"
RESCHEDULED = "Rescheduled"
"""Name of the state that a dead run is given."""
SHORTEST = 10.0
"""Seconds: Prefect waits for a missing event no less."""


def schedule_again() -> AutomationCore:
    """The automation, for a server's own list.

    It concerns runs of deployments only: nobody would start another one again. It waits for the length of a
    lease, ten seconds at least. ValueError as of `lease_seconds`.
    """
    return AutomationCore(
        name=NAME,
        description="A run that gave no sign of life for a whole lease is Scheduled again for any worker.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "deployment"},
            for_each={"prefect.resource.id"},
            after={ALIVE},
            expect={ALIVE, "prefect.flow-run.*"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=max(SHORTEST, lease_seconds())),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name=RESCHEDULED, message="its worker gave no sign of life"
            )
        ],
    )
