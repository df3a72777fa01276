"""Which of N classes does a picture show?

One example of the pets: `images/Abyssinian_107.jpg`, 150 kB of JPEG, label `Abyssinian`. A network sees a
batch of such pictures and answers a probability for each class; training lowers the cross-entropy with the
labels.
Course: lesson 1 of 2019 and of 2018 (fine-tuning), lesson 2 of 2019 (bears), lesson 7 of both (from scratch).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from data.images.cleaning import ImageCleaning, clean_images, image_schema
from data.images.settings import Augmentation
from models.settings import ExportSettings, OptimiserSettings
from models.vision.settings import FLAT, ClassifierPhase, NetworkSettings
from recipes.evaluation import classification, pictures
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from models.export import Program
    from models.phases import Phase


class ImageTraining(Training, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a classifier of images learns. The defaults are the course's for pets (lesson 1 of 2019)."""

    network: NetworkSettings = NetworkSettings()
    """Which network."""
    channels: Literal[1, 3] = 3
    """RGB, or grey."""
    statistics: Literal["imagenet", "training"] = "imagenet"
    """Mean and deviation that normalise the input: ImageNet's for its weights, or the training part's own."""
    size: int = Field(default=224, ge=8, le=1024)
    """Pixels a side that the network sees (course: 224)."""
    resize: Literal["crop", "squish", "none"] = "crop"
    """How a picture becomes a square."""
    batch_size: int = Field(default=64, ge=2)
    """Pictures per step (course: 64)."""
    phases: Annotated[tuple[ClassifierPhase, ...], Field(strict=False, min_length=1)] = (
        ClassifierPhase(epochs=4, rates=(3e-3,), freeze="body"),
        ClassifierPhase(epochs=2, rates=(1e-6, 1e-4)),
    )
    """Stretches of training, one after the other."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """Which optimiser."""
    augmentation: Augmentation = Augmentation()
    """What training pictures undergo, save in phases with `precompute`."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""

    @property
    def varied(self) -> Augmentation | None:
        """The augmentation; none where no phase has it."""
        return None if all(phase.precompute for phase in self.phases) else self.augmentation

    @model_validator(mode="after")
    def _has_a_body_and_no_augmentation(self) -> ImageTraining:
        if self.network.name in FLAT and any(phase.precompute for phase in self.phases):
            raise ValueError(f"phases: precompute needs a body to freeze, which {self.network.name} has not")
        if self.varied is None and self.augmentation != Augmentation():
            raise ValueError("augmentation: has no effect, as every phase has precompute; leave it out")
        return self


class ImageEvaluation(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a trained classifier is judged."""

    views: int = Field(default=0, ge=0, le=32)
    """Augmented views averaged with the picture itself (test-time augmentation; the course of 2018: 4)."""
    shown: int = Field(default=12, ge=1, le=64)
    """Pictures per figure."""
    candidates: int = Field(default=50, ge=0)
    """Rows of `corrections.csv`, worst first."""


def learn(items: Items, settings: ImageTraining, cache: Path) -> Learning:
    """Batches of the training and validation parts at each phase's size; classes from the training labels."""
    from data.images.batches import IMAGENET, channel_statistics, label_vocabulary

    classes = label_vocabulary(items.table(["train"], ["label"])["label"].to_pylist())

    statistics = IMAGENET
    if settings.statistics == "training":
        statistics = channel_statistics(
            items, ["train"], size=settings.size, channels=settings.channels, resize=settings.resize,
            cache=cache,
        )  # fmt: skip
    loaders = partial(pictures.open_phase, items=items, classes=classes, settings=settings, cache=cache)
    return Learning(loaders=loaders, facts={"classes": classes, **statistics})


def network(settings: ImageTraining, facts: Mapping[str, Any]) -> nn.Module:
    """The classifier with random weights; normalisation is inside."""
    from models.vision.classifier import build_classifier

    return build_classifier(
        settings.network, classes=len(facts["classes"]), channels=settings.channels, size=settings.size,
        mean=facts["mean"], std=facts["std"],
    )  # fmt: skip


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Load the body from published weights or from another application's network."""
    from models.vision.classifier import ImageClassifier, start_from

    assert isinstance(module, ImageClassifier)
    return start_from(module, trained.state)


def phases(
    settings: ImageTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """Cross-entropy through the block's phases."""
    from torch.nn import CrossEntropyLoss

    from models.hardware import device
    from models.metrics import accuracy, error_rate
    from models.objective import Supervised
    from models.phases import build_phase
    from models.steps import autocast
    from models.vision.classifier import ImageClassifier
    from models.vision.precompute import HeadAlone

    assert isinstance(module, ImageClassifier)
    loss = CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    whole = Supervised(module, loss)
    head = HeadAlone(module, loss, cast=autocast(settings.precision, device()))
    return tuple(
        build_phase(
            phase, head if phase.precompute else whole, name=f"{number}-{phase.freeze}",
            optimiser=settings.optimiser,
            metrics={"error_rate": error_rate(), "accuracy": accuracy()},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: ImageTraining, export: ExportSettings
) -> Program:
    """Pictures in [0, 1] to probabilities; the preprocessing travels with it."""
    import torch
    from torch.nn import Sequential, Softmax

    from models.export import Program

    shape = (2, settings.channels, settings.size, settings.size)
    example = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float() / 255
    return Program(
        module=Sequential(module, Softmax(dim=1)).eval(),
        example={"images": example},
        outputs=("probabilities",),
        preprocess={
            "kind": "encoded_images", "size": settings.size, "channels": settings.channels,
            "resize": settings.resize,
        },
        labels=tuple(facts["classes"]),
    )  # fmt: skip


RECIPE = Recipe(
    title="Image classification",
    lesson="2019 lessons 1, 2 and 7; 2018 lessons 1, 2 and 7",
    family="vision",
    blocks={
        "clean": ImageCleaning, "fine_tune": ImageTraining, "evaluate": ImageEvaluation,
        "export": ExportSettings,
    },
    schema=image_schema,
    clean=clean_images,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("error_rate", "accuracy", "macro_f1", "loss"),
    higher_is_better=False,
    predict=pictures.predict,
    score=classification.score,
    tables=classification.tables,
    review=classification.review,
    interpret=pictures.interpret,
    signature=signature,
    limits=(
        "It always answers with one of its classes, whatever it is shown; a high probability for something of"
        " another kind means nothing.",
        "Probabilities were not calibrated, and no group of people or places was looked at apart.",
    ),
)  # fmt: skip
