"""Recipe: the questions that a problem answers, and how a recipe is found by its file's name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

if TYPE_CHECKING:  # heavy rooms are imported by the functions that need them
    import pyarrow as pa
    from torch import Tensor, nn

    from data.archives import Raw
    from data.examples import Items, Reject
    from models.fit import Batches
    from models.phases import Phase


class Training(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """What every `fine_tune` block has; a recipe's own block extends it."""

    seed: int = Field(default=42, ge=0)
    """Seed of weights, order of batches, augmentation and dropout."""
    threads: int = Field(default=2, ge=1, le=256)
    """Threads of one training process. They change the last bits of the weights, so they are tracked."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """`auto` takes bf16 autocast where the hardware has it natively."""
    channels_last: bool = True
    """Memory order of convolutions: faster on CPUs and on tensor cores, the same values."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; none by default."""
    keep: Literal["last", "best"] = "last"
    """Weights of the last epoch, or of the best one on the validation part."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without improvement on the validation part after which a phase ends early."""
    save_every: float = Field(default=60.0, gt=0)
    """Seconds between checkpoints inside an epoch; there is always one at its end."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What `fine_tune` hands to the loop: batches by part, and the facts learned from training rows."""

    loaders: Callable[[Phase], tuple[Batches, Batches]]
    """Training and validation batches of a phase."""
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
    tables: Callable[[pa.Table], Iterator[tuple[str, pa.Table]]]
    """(predictions) -> tables by name: DVC draws those of (actual, predicted), the others are for reading."""
    review: Callable[[pa.Table, Any], pa.Table]
    """(predictions, evaluate block) -> candidates for corrections (`item_id,action,label`), worst first."""
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
