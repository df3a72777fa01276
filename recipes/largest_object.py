"""What is the largest thing in a picture, and where is it?

One example of VOC 2007: `JPEGImages/000005.jpg`, label `chair`, and the box from (262, 210) to (324, 339)
around it. A network sees the picture and answers a probability for each class and the four sides of one box;
training lowers the distance of the box from the annotated one together with the cross-entropy of the class.
Course: lesson 8 of 2018 (pascal: bounding box and class by one network).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from data.images.boxes import BoxCleaning, box_schema, clean_largest
from data.images.settings import Augmentation
from models.settings import ExportSettings, OptimiserSettings, PhaseSettings
from models.vision.boxes_settings import BodySettings
from recipes.evaluation import boxes, classification, largest
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from models.export import Program
    from models.phases import Phase

COURSE = Augmentation(rotate=3.0, zoom=1.0, warp=0.0, lighting=0.05, p_affine=0.5)
"""The course of 2018, lessons 8 and 9: flips, up to 3 degrees half of the time, little lighting."""


class BoxTraining(Training, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a network that answers with boxes learns. Pictures are squished to a square, never cropped."""

    network: BodySettings = BodySettings()
    """Which body."""
    channels: Literal[1, 3] = 3
    """RGB, or grey."""
    statistics: Literal["imagenet", "training"] = "imagenet"
    """Mean and deviation that normalise the input: ImageNet's for its weights, or the training part's own."""
    size: int = Field(default=224, ge=16, le=1024)
    """Pixels a side that the network sees (course: 224)."""
    batch_size: int = Field(default=64, ge=2)
    """Pictures per step (course: 64)."""
    phases: Annotated[tuple[PhaseSettings, ...], Field(strict=False, min_length=1)] = (
        PhaseSettings(epochs=5, rates=(1e-2,), freeze="body"),
        PhaseSettings(epochs=5, rates=(1e-4, 1e-3), freeze=-2),
        PhaseSettings(epochs=5, rates=(1e-5, 1e-3)),
    )
    """Stretches of training, one after the other."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """Which optimiser."""
    augmentation: Augmentation = COURSE
    """What training pictures undergo, and their boxes with them."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout in the head (course: 0.5 for one box, 0.4 for many)."""

    @model_validator(mode="after")
    def _one_size(self) -> BoxTraining:
        if any(phase.size is not None for phase in self.phases):
            raise ValueError(
                "phases: size must stay away, a head for boxes is built for pictures of one size"
            )
        return self


class LargestTraining(BoxTraining, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How class and box of the largest object are learned. The defaults are the course's."""

    hidden: int = Field(default=256, ge=1)
    """Width of the head's layer between map and answers (course: 256)."""
    class_weight: float = Field(default=20.0, gt=0)
    """Weight of the cross-entropy beside the L1 distance in pixels (course: 20)."""


class BoxEvaluation(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a trained network is judged."""

    shown: int = Field(default=12, ge=1, le=64)
    """Pictures per figure."""
    candidates: int = Field(default=50, ge=0)
    """Rows of `corrections.csv`, worst first."""


def learn(items: Items, settings: LargestTraining, cache: Path) -> Learning:
    """Batches of the training and validation parts; classes from the training labels."""
    from data.images.batches import label_vocabulary

    classes = label_vocabulary(items.table(["train"], ["label"])["label"].to_pylist())
    return learning(items, settings, cache, {"classes": classes}, only_largest=True)


def learning(
    items: Items, settings: BoxTraining, cache: Path, facts: dict[str, Any], *, only_largest: bool
) -> Learning:
    """Batches of boxes by phase, and `facts` with the statistics that normalise the pictures."""
    from data.images.batches import IMAGENET, channel_statistics

    statistics = IMAGENET
    if settings.statistics == "training":
        statistics = channel_statistics(
            items, ["train"], size=settings.size, channels=settings.channels, resize="squish", cache=cache
        )
    opened = partial(
        boxes.open_part, items, classes=facts["classes"], settings=settings, cache=cache,
        only_largest=only_largest,
    )  # fmt: skip

    def loaders(phase: Phase) -> tuple[Any, Any]:
        return opened(part="train"), opened(part="valid")

    return Learning(loaders=loaders, facts={**facts, **statistics})


def network(settings: LargestTraining, facts: Mapping[str, Any]) -> nn.Module:
    """The network with random weights; normalisation is inside."""
    from models.vision.largest import build_largest

    return build_largest(
        settings.network, classes=len(facts["classes"]), channels=settings.channels, size=settings.size,
        hidden=settings.hidden, dropout=settings.dropout, mean=facts["mean"], std=facts["std"],
    )  # fmt: skip


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Load the body from published weights or from another application's network."""
    from models.vision.classifier import ImageClassifier, start_from

    assert isinstance(module, ImageClassifier)
    return start_from(module, trained.state)


def phases(
    settings: LargestTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """The joint loss through the block's phases."""
    from models.objective import Supervised
    from models.phases import build_phase
    from models.vision.largest import JointLoss, accuracy, l1_pixels

    objective = Supervised(module, JointLoss(class_weight=settings.class_weight))
    return tuple(
        build_phase(
            phase, objective, name=f"{number}-{phase.freeze}", optimiser=settings.optimiser,
            metrics={"accuracy": accuracy(), "l1_pixels": l1_pixels()},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: LargestTraining, export: ExportSettings
) -> Program:
    """Pictures in [0, 1] to a box in shares of the picture and probabilities of the classes."""
    import torch

    from models.export import Program
    from models.vision.largest import Answered

    shape = (2, settings.channels, settings.size, settings.size)
    example = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float() / 255
    return Program(
        module=Answered(module).eval(),
        example={"images": example},
        outputs=("box", "probabilities"),
        preprocess={"kind": "image_largest", "size": shape[2], "channels": shape[1], "resize": "squish"},
        labels=tuple(facts["classes"]),
    )


RECIPE = Recipe(
    title="Largest object: its class and its box",
    lesson="2018 lesson 8",
    family="vision",
    blocks={
        "clean": BoxCleaning,
        "fine_tune": LargestTraining,
        "evaluate": BoxEvaluation,
        "export": ExportSettings,
    },
    schema=box_schema,
    clean=clean_largest,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("accuracy", "l1_pixels", "iou", "located"),
    higher_is_better=True,
    predict=largest.predict,
    score=largest.score,
    tables=largest.tables,
    review=classification.review,
    interpret=largest.interpret,
    signature=signature,
    limits=("It always answers with one box and one of its classes, whatever the picture shows.",),
)
