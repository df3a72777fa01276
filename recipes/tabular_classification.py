"""Which of N classes does a row of a table belong to?

One example of the census: age 49, workclass Private, education Assoc-acdm, ... and the label `>=50k`. Names
become learned vectors (embeddings), numbers are normalised, a few linear layers answer a probability for each
class; training lowers the cross-entropy with the labels.
Course: lesson 4 of 2019 (Adult), with the audit by groups that its lessons on ethics ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data.tables.cleaning import clean_classes, table_schema
from data.tables.settings import ClassCleaning
from models.settings import ExportSettings
from models.tabular.settings import TabularLearning
from recipes.evaluation import tables
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from models.export import Program
    from models.phases import Phase


class ClassTraining(
    Training, TabularLearning, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
):
    """How a classifier of rows learns."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""


def learn(items: Items, settings: ClassTraining, cache: Path) -> Learning:
    """The rows as tensors; vocabularies, medians and deviations from the training rows."""
    from data.tables.coding import class_names, learn_columns

    facts = learn_columns(items, inputs=settings.inputs, leave_out=settings.leave_out)
    facts["classes"] = class_names(items)
    return Learning(loaders=lambda phase: tables.open_parts(items, settings, facts), facts=facts)


def network(settings: ClassTraining, facts: Mapping[str, Any]) -> nn.Module:
    """Embeddings and layers with random weights, one output per class."""
    from data.tables.coding import coded_columns
    from models.tabular.network import TabularNet

    return TabularNet(
        settings.network,
        columns=coded_columns(facts),
        numbers=len(facts["numbers"]),
        outputs=len(facts["classes"]),
    )


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Take over what another network learned about the same names."""
    from data.tables.coding import coded_columns
    from models.tabular.network import body_of, start_from

    known = coded_columns(trained.facts)
    return start_from(body_of(module), trained.state, columns=coded_columns(facts), trained=known)


def phases(
    settings: ClassTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """Cross-entropy through the block's phases."""
    from torch.nn import CrossEntropyLoss

    from models.metrics import accuracy, error_rate
    from models.objective import Supervised
    from models.phases import build_phase

    objective = Supervised(module, CrossEntropyLoss(label_smoothing=settings.label_smoothing))
    return tuple(
        build_phase(
            phase, objective, name=f"{number}-{phase.schedule}", optimiser=settings.optimiser,
            metrics={"accuracy": accuracy(), "error_rate": error_rate()},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: ClassTraining, export: ExportSettings
) -> Program:
    """Codes and numbers to probabilities; vocabularies and statistics travel with it."""
    from data.tables.coding import coded_columns, question
    from models.tabular.program import row_program

    return row_program(
        module, columns=coded_columns(facts), numbers=len(facts["numbers"]), output="probabilities",
        preprocess=question(facts), labels=tuple(facts["classes"]),
    )  # fmt: skip


RECIPE = Recipe(
    title="Classification of table rows",
    lesson="2019 lesson 4",
    family="tabular",
    blocks={
        "clean": ClassCleaning,
        "fine_tune": ClassTraining,
        "evaluate": tables.ClassEvaluation,
        "export": ExportSettings,
    },
    schema=table_schema,
    clean=clean_classes,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("accuracy", "error_rate", "macro_f1", "roc_auc", "loss"),
    higher_is_better=True,
    predict=tables.predict_classes,
    score=tables.score_classes,
    tables=tables.class_tables,
    review=tables.review,
    interpret=tables.interpret,
    signature=signature,
    limits=(
        "A name that training never saw counts as a missing one, and a missing number as the training rows'"
        " median: it answers such rows as well, less surely than its probability says.",
        "It repeats what its training rows did to groups of people; look at the audit, where there is one,"
        " before it decides about anybody.",
    ),
)
