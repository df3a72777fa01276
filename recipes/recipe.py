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
    from data.chunks import Found
    from data.examples import Items
    from models.export import Program
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
    compiled: bool = False
    """Let `torch.compile` make kernels of the networks. That takes up to minutes at the start and needs a C++
    compiler, so it pays for long trainings; values differ in their last bits."""
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

    loaders: Callable[[Phase], tuple[Batches, Batches | None]]
    """Training and validation batches of a phase; None where there is nothing to validate."""
    facts: Mapping[str, Any]
    """Vocabularies and statistics of the training rows, as JSON; all that later stages need of them."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network that was trained elsewhere: what training starts from, or what judges it."""

    state: Mapping[str, Tensor]
    """Its weights by name."""
    facts: Mapping[str, Any]
    """Its vocabularies and statistics; empty for published weights that have none."""
    settings: Mapping[str, Any]
    """The `fine_tune` block that it was trained with; empty for published weights."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained network that is to be judged, with all that it may be judged by."""

    network: nn.Module
    """In evaluation mode."""
    items: Items
    facts: Mapping[str, Any]
    settings: Any
    """The `fine_tune` block that it was trained with."""
    evaluation: Any
    """The `evaluate` block."""
    cache: Path
    """Where prepared examples may be kept."""
    judge: Trained | None
    """The second network that the entry names."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One table of an evaluation: `evaluate/tables/NAME.csv`.

    One with the columns (actual, predicted) alone is a list of pairs, which DVC draws as a confusion matrix.
    """

    name: str
    table: pa.Table
    title: str = ""
    """Heading of a section of the card that shows it; empty keeps it out of the card."""
    text: str = ""
    """What stands above the table in the card."""


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
    clean: Callable[[Raw, Any], Iterator[Found]]
    """(raw, clean block) -> examples as rows of the schema, and rejects, in a deterministic order: one by
    one, or in chunks where rows are small and many."""
    learn: Callable[[Items, Any, Path], Learning]
    """(items, fine_tune block, cache folder) -> batches and facts."""
    network: Callable[[Any, Mapping[str, Any]], nn.Module]
    """(fine_tune block, facts) -> the network with random weights, from torch's generator."""
    start: Callable[[nn.Module, Trained, Mapping[str, Any]], list[str]]
    """(network, what `starts_from` names, facts) loads what fits; returns the names that were loaded."""
    phases: Callable[[Any, nn.Module, Learning, Trained | None], tuple[Phase, ...]]
    """(fine_tune block, network, learning, judge) -> the phases of training."""
    metrics: tuple[str, ...]
    """Names of the metrics; the first is the headline."""
    higher_is_better: bool
    """Direction of the headline metric."""
    predict: Callable[[Subject], pa.Table]
    """-> one row per item; `item_id` and `part` are its first columns, the others the recipe's own."""
    score: Callable[[pa.Table, Mapping[str, Any]], dict[str, float]]
    """(predictions of one part, facts) -> metrics by name; no metric where nothing is labelled."""
    interpret: Callable[[Subject, pa.Table], Iterator[Figure]]
    """(subject, predictions) -> figures."""
    tables: Callable[[Subject, pa.Table], Iterator[Listing]]
    """(subject, predictions) -> tables, some of them for the card."""
    review: Callable[[pa.Table, Any], pa.Table]
    """(predictions, evaluate block) -> candidates for corrections (`item_id,action,label`), worst first."""
    signature: Callable[[nn.Module, Mapping[str, Any], Any, Any], Program]
    """(network, facts, fine_tune block, export block) -> the network ready to leave the project."""
    sample: Callable[[nn.Module, Mapping[str, Any], Any], Figure] | None = None
    """(network, facts, fine_tune block) -> what it makes by now, drawn after every epoch; None draws nothing.
    Deterministic: draws from a generator of its own."""
    limits: tuple[str, ...] = ()
    """Sentences for the card: what a network of this kind cannot do."""

    @property
    def about(self) -> str:
        """What it is, and where the course teaches it, in one line."""
        return f"{self.title} (course: {self.lesson})"


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
