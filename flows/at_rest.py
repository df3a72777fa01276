"""What there is nothing to do about, for one question to DVC: known before Prefect or a server is needed."""

from collections.abc import Collection
from pathlib import Path

from flows.explain import headline_of
from flows.progress import Row, summary
from tasks import sharing, versioning
from tasks.parameters import Parameters, load_parameters
from tasks.pipeline import STAGE_NAMES
from tasks.tracking import send_waiting
from tasks.workspace import checkout

LAST = STAGE_NAMES[-1]


def checked(applications: list[str] | None, workers: int | None) -> tuple[Parameters, list[str]]:
    """The parameters, and the names asked for. ValueError names a wrong name, entry or number."""
    parameters = load_parameters(Path.cwd() / "params.yaml")
    names = list(dict.fromkeys(applications or parameters.applications))
    if not names:
        raise ValueError("params.yaml has no applications")
    for name in names:
        parameters.application(name)
    if workers is not None and workers < 1:
        raise ValueError(f"--workers is {workers}; it must be at least 1")
    return parameters, names


def at_rest(names: Collection[str]) -> dict[str, list[str]]:
    """The stages of each application, upstream ones among them, of which all are current and sent.

    Messages for MLflow that wait are sent on this occasion, as by every run.
    """
    send_waiting(checkout())
    survey = versioning.survey(Path.cwd(), [f"{LAST}@{name}" for name in names])
    plans = {name: survey.plan(f"{LAST}@{name}") for name in names}
    return {name: plan for name, plan in plans.items() if sharing.at_rest(Path.cwd(), survey, plan)}


def resting_row(name: str, application: str, plan: Collection[str], parameters: Parameters) -> Row:
    """The row of a course for what is at rest: no process is asked for it."""
    whole = f"{LAST}@{application}" in plan
    return Row(
        name=name, outcome="done", text=summary(dict.fromkeys(plan, "current")),
        metric=headline_of(application, parameters) if whole else "",
    )  # fmt: skip
