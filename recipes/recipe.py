"""Recipe: the questions that a problem answers, and how a recipe is found by its file's name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:  # heavy rooms are imported by the functions that need them
    import pyarrow as pa
    from torch import Tensor, nn

    from data.archives import Raw
    from data.examples import Items, Reject
    from models.fit import Batches, Phase


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What `fine_tune` hands to the loop: batches by part, and the facts learned from training rows."""

    train: Batches
    valid: Batches
    facts: Mapping[str, Any]
    """Vocabularies and statistics of the training rows, as JSON; all that later stages need of them."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One picture for `evaluate/figures/NAME.png`."""

    name: str
    draw: Callable[[Any], None]
    """Draws onto a `matplotlib.figure.Figure`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The questions that a problem answers. Fields that are functions take typed settings, never raw YAML."""

    title: str
    """One line for lists and cards."""
    lesson: str
    """Where the course teaches it."""
    family: str
    """Folder of `models/` with its networks and objectives."""
    blocks: Mapping[str, type[BaseModel]]
    """Settings of the stages `clean`, `fine_tune`, `evaluate` and `export`."""
    schema: Callable[[], pa.Schema]
    """Columns of an example in `clean/items-*.parquet`."""
    clean: Callable[[Raw, Any], Iterator[Mapping[str, Any] | Reject]]
    """(raw, clean block) -> examples as rows of the schema, and rejects, in a deterministic order."""
    learn: Callable[[Items, Any, Path], Learning]
    """(items, fine_tune block, cache folder) -> batches and facts."""
    network: Callable[[Any, Mapping[str, Any]], nn.Module]
    """(fine_tune block, facts) -> the network with random weights, from torch's generator."""
    start: Callable[[nn.Module, Mapping[str, Tensor]], list[str]]
    """(network, state dict of `starts_from`) loads what fits; returns the names that were loaded."""
    phases: Callable[[Any, nn.Module, Learning], tuple[Phase, ...]]
    """(fine_tune block, network, learning) -> the phases of training."""
    metrics: tuple[str, ...]
    """Names of the metrics; the first is the headline."""
    higher_is_better: bool
    """Direction of the headline metric."""
    predict: Callable[..., pa.Table]
    """(network, items, facts, fine_tune block, evaluate block, cache folder) -> one row per item."""
    score: Callable[[pa.Table, Mapping[str, Any]], dict[str, float]]
    """(predictions of one part, facts) -> metrics by name; no metric where nothing is labelled."""
    interpret: Callable[..., Iterator[Figure]]
    """(network, items, predictions, facts, fine_tune block, evaluate block, cache folder) -> figures."""
    review: Callable[[pa.Table], pa.Table]
    """(predictions) -> candidates for corrections: `item_id,action,label` plus why, worst first."""
    signature: Callable[..., Any]
    """(network, facts, fine_tune block, export block) -> `models.export.Program`."""


FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The recipes are the files of this folder that are not this one."""
    return sorted(
        file.stem for file in FOLDER.glob("*.py") if file.stem not in {"__init__", Path(__file__).stem}
    )


def find_recipe(name: str) -> Recipe:
    """Import the recipe of that file name."""
    recipe: Recipe = importlib.import_module(f"recipes.{name}").RECIPE
    return recipe
