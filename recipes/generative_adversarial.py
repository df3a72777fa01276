"""What else could there be among these pictures?

One example of the digits: `mnist_png/training/7/13.png`, 28 grey pixels a side; its label is not looked at. A
generator makes pictures from noise, a critic scores them beside real ones, and each learns from the other's
steps. Nobody says what a good picture is: a second network, trained to classify, tells how far the made
pictures are from held-out ones in its features (Fréchet distance).
Course: lesson 12 of 2018 and lesson 7 of 2019 (WGAN on bedrooms).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from data.images.cleaning import image_schema
from data.images.settings import Augmentation
from data.images.unlabelled import PictureCleaning, clean_pictures
from models.generative.settings import AdversarialNetworkSettings, WassersteinSettings, doublings
from models.settings import ExportSettings, OptimiserSettings, PhaseSettings
from recipes.evaluation import sample_figures, samples
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from data.images.batches import ImageBatches
    from models.export import Program
    from models.phases import Phase

ADAM = OptimiserSettings(name="adamw", weight_decay=0.0, momentum_decay=0.0, square_decay=0.99)
"""The course's for both networks (lesson 7 of 2019): no momentum, which turns would mislead."""


class AdversarialTraining(Training, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How generator and critic learn. The defaults are the course's for bedrooms (lesson 7 of 2019)."""

    network: AdversarialNetworkSettings = AdversarialNetworkSettings()
    """Which networks."""
    channels: Literal[1, 3] = 3
    """RGB, or grey."""
    size: int = Field(default=64, ge=8, le=256)
    """Pixels a side of the pictures (course: 64); 4 to 7, doubled some times."""
    resize: Literal["crop", "squish"] = "crop"
    """How a picture becomes a square."""
    batch_size: int = Field(default=128, ge=2)
    """Pictures per step (course: 128)."""
    wasserstein: WassersteinSettings = WassersteinSettings()
    """Turns, and the bound of the critic."""
    phases: Annotated[tuple[PhaseSettings, ...], Field(strict=False, min_length=1)] = (
        PhaseSettings(epochs=30, rates=(2e-4,), schedule="constant"),
    )
    """Stretches of training, one after the other; `size` and `freeze` have no meaning here."""
    critic_optimiser: OptimiserSettings = ADAM
    """Of the critic (course of 2019: Adam without momentum; of 2018: RMSProp)."""
    generator_optimiser: OptimiserSettings = ADAM
    """Of the generator."""
    augmentation: Augmentation | None = None
    """What training pictures undergo, which made ones will then show as well (course: nothing)."""
    precision: Literal["auto", "float32", "bf16"] = "float32"
    """Scores that differ little want float32."""

    @field_validator("size")
    @classmethod
    def _can_be_halved(cls, size: int) -> int:
        doublings(size)
        return size

    @field_validator("phases")
    @classmethod
    def _one_size_and_nothing_frozen(cls, phases: tuple[PhaseSettings, ...]) -> tuple[PhaseSettings, ...]:
        for phase in phases:
            if phase.size is not None or phase.freeze != "none":
                raise ValueError("phases of this recipe have neither size nor freeze: leave them out")
        return phases


class SampleEvaluation(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How made pictures are judged."""

    samples: int = Field(default=2000, ge=2)
    """Pictures of each kind (held out, made, made before training) that are compared at most; with fewer, the
    distance comes out larger. It never takes more than there are held out."""
    seed: int = Field(default=0, ge=0)
    """Of the noise of those pictures."""
    shown: int = Field(default=16, ge=1, le=64)
    """Pictures per figure."""


def learn(items: Items, settings: AdversarialTraining, cache: Path) -> Learning:
    """Batches of pictures in [0, 1]; there is nothing to know but the pictures."""
    train = samples.open_part(items, "train", settings, cache)
    held_out = items.table(["valid"], ["item_id"]).num_rows > 0
    valid = samples.open_part(items, "valid", settings, cache) if held_out else None

    def loaders(phase: Phase) -> tuple[ImageBatches, ImageBatches | None]:
        return train, valid

    return Learning(loaders=loaders, facts={})


def network(settings: AdversarialTraining, facts: Mapping[str, Any]) -> nn.Module:
    """Generator and critic with random weights."""
    from models.generative.dcgan import build_adversaries

    return build_adversaries(
        settings.network, settings.wasserstein, channels=settings.channels, size=settings.size
    )


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Go on from both networks of another training of this recipe."""
    from models.generative.dcgan import Adversaries, start_from

    assert isinstance(module, Adversaries)
    return start_from(module, trained.state)


def phases(
    settings: AdversarialTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """The two networks in turns, the distance measured after each epoch."""
    from models.generative.dcgan import Adversaries
    from models.generative.frechet import FrechetDistance
    from models.generative.wasserstein import Wasserstein
    from models.phases import build_phase

    assert isinstance(module, Adversaries)
    objective = Wasserstein(module, settings.wasserstein, seed=settings.seed)
    optimisers = {"critic": settings.critic_optimiser, "generator": settings.generator_optimiser}
    metrics = {"frechet": FrechetDistance(samples.judge_of(judge))}
    return tuple(
        build_phase(phase, objective, name=f"{number}-turns", optimiser=optimisers, metrics=metrics)
        for number, phase in enumerate(settings.phases, start=1)
    )


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: AdversarialTraining, export: ExportSettings
) -> Program:
    """Noise to pictures in [0, 1]; a user sends seeds."""
    from models.export import Program
    from models.generative.dcgan import Adversaries, FromNoise, draw_noise

    assert isinstance(module, Adversaries)
    width = settings.network.noise
    return Program(
        module=FromNoise(module).eval(),
        example={"noise": draw_noise(2, width, seed=0)},
        outputs=("images",),
        preprocess={"kind": "seeds", "noise": width, "size": settings.size, "channels": settings.channels},
    )


RECIPE = Recipe(
    title="Generative adversarial network",
    lesson="2019 lesson 7; 2018 lesson 12",
    family="generative",
    blocks={
        "clean": PictureCleaning,
        "fine_tune": AdversarialTraining,
        "evaluate": SampleEvaluation,
        "export": ExportSettings,
    },
    schema=image_schema,
    clean=clean_pictures,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=samples.METRICS,
    higher_is_better=False,
    predict=samples.predict,
    score=samples.score,
    tables=samples.tables,
    review=samples.review,
    interpret=sample_figures.interpret,
    signature=signature,
    sample=sample_figures.sample,
    limits=samples.LIMITS,
)
