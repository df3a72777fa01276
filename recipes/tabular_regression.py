"""Which quantity belongs to a row of a table?

One example of the shops: store 7 on a Tuesday in June, promotion, 24 degrees, competition for 20 months, ...
and its sales of that day. Names become learned vectors (embeddings), numbers are normalised, a few linear
layers answer a number; training lowers the squared error, of the logarithm where shares matter. Course:
lesson 6 of 2019 and lessons 3 and 4 of 2018 (Rossmann).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data.tables.cleaning import clean_numbers, table_schema
from data.tables.settings import NumberCleaning
from models.settings import ExportSettings
from models.tabular.settings import TabularLearning
from recipes.evaluation import tables
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from models.export import Program
    from models.phases import Phase


class NumberTraining(
    Training, TabularLearning, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
):
    """How a quantity is learned."""

    log_target: bool = False
    """Learn the logarithm, so that errors count as shares (course: yes, for sales)."""
    headroom: float | None = Field(default=None, gt=1)
    """Answers end, by a sigmoid, at the largest training target times this (course: 1.2). Empty: no end."""


def learn(items: Items, settings: NumberTraining, cache: Path) -> Learning:
    """The rows as tensors; vocabularies, medians, deviations and the target's range from the training
    rows."""
    from data.tables.coding import learn_columns, learn_target

    facts = learn_columns(items, inputs=settings.inputs, leave_out=settings.leave_out)
    facts["target"] = learn_target(items, log=settings.log_target, headroom=settings.headroom)
    return Learning(loaders=lambda phase: tables.open_parts(items, settings, facts), facts=facts)


def network(settings: NumberTraining, facts: Mapping[str, Any]) -> nn.Module:
    """Embeddings and layers with random weights, one output in the target's units."""
    from data.tables.coding import coded_columns
    from models.tabular.network import Quantity, TabularNet

    target = facts["target"]
    body = TabularNet(
        settings.network, columns=coded_columns(facts), numbers=len(facts["numbers"]), outputs=1
    )
    limits = tuple(target["limits"]) if target["limits"] else None
    return Quantity(body, limits=limits, mean=target["mean"], std=target["std"])


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Take over what another network learned about the same names."""
    from data.tables.coding import coded_columns
    from models.tabular.network import body_of, start_from

    known = coded_columns(trained.facts)
    return start_from(body_of(module), trained.state, columns=coded_columns(facts), trained=known)


def phases(
    settings: NumberTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """Squared error, in deviations of the target, through the block's phases."""
    from models.objective import Supervised
    from models.phases import build_phase
    from models.tabular.losses import absolute_error, rmspe, scaled_squares

    target = learning.facts["target"]
    objective = Supervised(module, scaled_squares(target["std"]))
    return tuple(
        build_phase(
            phase, objective, name=f"{number}-{phase.schedule}", optimiser=settings.optimiser,
            metrics={"rmspe": rmspe(log=target["log"]), "mae": absolute_error(log=target["log"])},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: NumberTraining, export: ExportSettings
) -> Program:
    """Codes and numbers to the quantity; vocabularies and statistics travel with it."""
    from data.tables.coding import coded_columns, question
    from models.tabular.program import row_program

    return row_program(
        module, columns=coded_columns(facts), numbers=len(facts["numbers"]), output="prediction",
        preprocess={**question(facts), "log": facts["target"]["log"]},
    )  # fmt: skip


RECIPE = Recipe(
    title="Regression on table rows",
    lesson="2019 lesson 6; 2018 lessons 3 and 4",
    family="tabular",
    blocks={
        "clean": NumberCleaning,
        "fine_tune": NumberTraining,
        "evaluate": tables.TableEvaluation,
        "export": ExportSettings,
    },
    schema=table_schema,
    clean=clean_numbers,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("rmspe", "mape", "rmse", "mae", "r2"),
    higher_is_better=False,
    predict=tables.predict_numbers,
    score=tables.score_numbers,
    tables=tables.number_tables,
    review=tables.review,
    interpret=tables.interpret,
    signature=signature,
    limits=(
        "A name that training never saw counts as a missing one, and a missing number as the training rows'"
        " median: it answers such rows as well.",
        "It knows the time that its training rows come from; what changed since then it cannot know.",
    ),
)
