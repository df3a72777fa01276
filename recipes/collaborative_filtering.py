"""How many points would this user give to that item?

One example of the films: user 1 gave `Toy Story (1995)` 4.0 points. Every user and every item is a vector,
learned from all ratings; the product of two vectors, with a bias of each, is the rating. What nobody wrote
down (how dark, how old, how well made a film is) comes to stand in the vectors by itself.
Course: lessons 4 and 5 of 2019, lesson 5 of 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from data.ratings.cleaning import clean_ratings, rating_schema
from data.ratings.settings import RatingCleaning
from models.ratings.settings import NetworkSettings
from models.settings import ExportSettings, OptimiserSettings, PhaseSettings
from recipes.evaluation import ratings
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from data.ratings.batches import RatingBatches
    from models.export import Program
    from models.phases import Phase


class RatingTraining(Training, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How ratings are learned. The defaults are the course's for MovieLens 100k (lesson 4 of 2019)."""

    network: NetworkSettings = NetworkSettings()
    """Which network."""
    batch_size: int = Field(default=64, ge=1)
    """Ratings per step (course: 64)."""
    phases: Annotated[tuple[PhaseSettings, ...], Field(strict=False, min_length=1)] = (
        PhaseSettings(epochs=5, rates=(5e-3,)),
    )
    """Stretches of training, one after the other."""
    optimiser: OptimiserSettings = OptimiserSettings(weight_decay=0.1)
    """Which optimiser (course: weight decay 0.1, which also acts on the biases of users and items)."""
    precision: Literal["auto", "float32", "bf16"] = "float32"
    """A regression of small sums: 16 bits would round the ratings."""


class RatingEvaluation(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How predicted ratings are judged."""

    shown: int = Field(default=10, ge=1, le=50)
    """Rows of each list in figures and tables."""
    well_known: int = Field(default=1000, ge=2)
    """Items that are listed by bias and laid on the map: the most rated ones (course: 1000)."""
    mapped: int = Field(default=50, ge=2, le=200)
    """Titles on the map of items: the most rated ones (course: 50)."""
    candidates: int = Field(default=50, ge=0)
    """Rows of `corrections.csv`, worst first; `delete` is the action that ratings know."""


def learn(items: Items, settings: RatingTraining, cache: Path) -> Learning:
    """Batches of all training ratings in a new order each epoch; users and items from training rows only."""
    from data.ratings.batches import open_part, vocabulary

    facts = vocabulary(items)
    train = open_part(items, "train", facts, batch_size=settings.batch_size, seed=settings.seed)
    valid = open_part(items, "valid", facts, batch_size=ratings.AT_ONCE)

    def loaders(phase: Phase) -> tuple[RatingBatches, RatingBatches | None]:
        return train, valid if len(valid) else None

    return Learning(loaders=loaders, facts=facts)


def network(settings: RatingTraining, facts: Mapping[str, Any]) -> nn.Module:
    """The network with a vector for every user and item of the training ratings."""
    from models.ratings.embeddings import build_network

    return build_network(
        settings.network,
        users=len(facts["users"]),
        items=len(facts["items"]),
        lowest=facts["lowest"],
        highest=facts["highest"],
    )


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Vectors of the users and items that an earlier network of this recipe knows, by their names."""
    from models.ratings.embeddings import Dot, DotBias, Net, start_from

    if not {"users", "items"} <= trained.facts.keys():
        raise ValueError(
            "starts_from: ratings start from another application's fine_tune folder of this recipe"
        )
    assert isinstance(module, Dot | DotBias | Net)
    return start_from(
        module,
        trained.state,
        rows={"user": facts["users"], "item": facts["items"]},
        theirs={"user": trained.facts["users"], "item": trained.facts["items"]},
    )


def phases(
    settings: RatingTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """Mean squared error through the block's phases."""
    from torch.nn import MSELoss

    from models.metrics import Average
    from models.objective import Supervised
    from models.phases import build_phase

    objective = Supervised(module, MSELoss())
    return tuple(
        build_phase(
            phase, objective, name=f"{number}-{phase.freeze}", optimiser=settings.optimiser,
            metrics={"mse": Average(lambda given, wanted: (given - wanted) ** 2)},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: RatingTraining, export: ExportSettings
) -> Program:
    """Codes of users and items to ratings; names, titles and what was rated travel with it."""
    import torch

    from models.export import Program

    known = ("users", "items", "titles", "seen", "lowest", "highest", "variance")
    return Program(
        module=module.eval(),
        # the first known of each; and one that training never saw
        example={"user": torch.tensor([1, 0]), "item": torch.tensor([1, 1])},
        outputs=("rating",),
        preprocess={"kind": "ratings", **{name: facts[name] for name in known}},
    )


RECIPE = Recipe(
    title="Collaborative filtering",
    lesson="2019 lessons 4 and 5; 2018 lesson 5",
    family="ratings",
    blocks={
        "clean": RatingCleaning,
        "fine_tune": RatingTraining,
        "evaluate": RatingEvaluation,
        "export": ExportSettings,
    },
    schema=rating_schema,
    clean=clean_ratings,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("mse", "rmse", "mae"),
    higher_is_better=False,
    predict=ratings.predict,
    score=ratings.score,
    tables=ratings.tables,
    review=ratings.review,
    interpret=ratings.interpret,
    signature=signature,
    limits=(
        "It knows the users and items of its training ratings only: anyone else is the average user until"
        " they give ratings of their own, and a new item is the average item.",
        "People rate what they chose to see: a predicted rating says little about a thing that nobody like"
        " them would choose. Its validation ratings were chosen in the same way.",
    ),
)
