"""Which class does every pixel of a picture belong to?

One example of CamVid: a frame of 960 x 720 pixels from a car's window, and a picture of the same size whose
pixels are numbers: 17 for road, 21 for sky, 30 for what nobody named. A network sees batches of such frames
and answers a probability of each class for each pixel; training lowers the cross-entropy with the mask, and
what is void counts nowhere. Whole pictures are squeezed to the network's size: no pixel stays unanswered.
Course: lesson 3 of 2019 (CamVid, U-Net on ResNet-34), lesson 14 of 2018 (Carvana, Dice).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from data.images.masks import MaskCleaning, legend_of
from data.images.masks_cleaning import clean_masks, mask_schema
from data.images.settings import Augmentation
from models.settings import ExportSettings, OptimiserSettings, PhaseSettings
from models.vision.unet_settings import UNetSettings
from recipes.evaluation import masks
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from data.images.masks_batches import MaskBatches
    from models.export import Program
    from models.phases import Phase

Side = Annotated[int, Field(ge=8, le=4096)]


class SegmentationTraining(Training, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a U-Net learns. The defaults are the course's for CamVid at half size (lesson 3 of 2019)."""

    network: UNetSettings = UNetSettings()
    """Which network."""
    statistics: Literal["imagenet", "training"] = "imagenet"
    """Mean and deviation that normalise the input: ImageNet's for its weights, or the training part's own."""
    size: Side | Annotated[tuple[Side, Side], Field(strict=False)] = (360, 480)
    """Pixels that the network sees: of a square's side, or `[height, width]` (course: [360, 480]). A phase's
    `size` is the shorter side, in the same proportions."""
    batch_size: int = Field(default=8, ge=1)
    """Pictures per step (course: 8)."""
    phases: Annotated[tuple[PhaseSettings, ...], Field(strict=False, min_length=1)] = (
        PhaseSettings(epochs=10, rates=(3e-3,), freeze="body", warm=0.9),
        PhaseSettings(epochs=12, rates=(3e-3 / 400, 3e-3 / 4), warm=0.8),
    )
    """Stretches of training, one after the other."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """Which optimiser."""
    augmentation: Augmentation = Augmentation()
    """What training pictures undergo; the mask moves along, and what comes from outside of it is void."""
    dice: float = Field(default=0.0, ge=0, le=10)
    """Weight of the soft Dice loss beside the cross-entropy: helps where the classes are of very different
    size (course: 0)."""


class SegmentationEvaluation(
    BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
):
    """How a trained U-Net is judged."""

    shown: int = Field(default=6, ge=1, le=32)
    """Pictures per figure."""
    candidates: int = Field(default=50, ge=0)
    """Rows of `corrections.csv`, worst first."""


def learn(items: Items, settings: SegmentationTraining, cache: Path) -> Learning:
    """Batches of both parts at each phase's size; the classes are those that stand beside the masks."""
    from data.images.batches import IMAGENET
    from data.images.cache import pixel_statistics
    from data.images.masks_batches import scaled

    (text,) = items.table(["train"], ["legend"])["legend"].unique().to_pylist()
    legend = legend_of(text)

    def loaders(phase: Phase) -> tuple[MaskBatches, MaskBatches]:
        size = scaled(settings.size, phase.size)
        train = masks.open_part(
            items, "train", settings, cache, size=size, augmentation=settings.augmentation
        )
        return train, masks.open_part(items, "valid", settings, cache, size=size)

    statistics = IMAGENET
    if settings.statistics == "training":
        statistics = pixel_statistics(masks.open_part(items, "train", settings, cache).images)
    values = [list(value) if isinstance(value, tuple) else value for value in legend.values]
    return Learning(loaders=loaders, facts={"classes": list(legend.classes), "values": values, **statistics})


def network(settings: SegmentationTraining, facts: Mapping[str, Any]) -> nn.Module:
    """The U-Net with random weights; normalisation is inside."""
    from models.vision.unet import build_unet

    return build_unet(settings.network, classes=len(facts["classes"]), mean=facts["mean"], std=facts["std"])


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Load the body from published weights or from another application's network."""
    from models.vision.unet import UNet, start_from

    assert isinstance(module, UNet)
    return start_from(module, trained.state)


def phases(
    settings: SegmentationTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """The loss of the pixels that count, through the block's phases."""
    from models.objective import Supervised
    from models.phases import build_phase
    from models.vision.unet import MaskLoss, pixel_accuracy

    objective = Supervised(module, MaskLoss(dice=settings.dice))
    return tuple(
        build_phase(
            phase, objective, name=f"{number}-{phase.freeze}", optimiser=settings.optimiser,
            metrics={"pixel_accuracy": pixel_accuracy()},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: SegmentationTraining, export: ExportSettings
) -> Program:
    """Pictures in [0, 1] to probabilities of each class at each pixel; the preprocessing travels with it."""
    import torch
    from torch.nn import Sequential, Softmax

    from data.images.prepare import height_and_width
    from models.export import Program

    height, width = height_and_width(settings.size)
    generator = torch.Generator().manual_seed(0)
    example = torch.randint(0, 256, (2, 3, height, width), generator=generator).float() / 255
    return Program(
        module=Sequential(module, Softmax(dim=1)).eval(),
        example={"images": example},
        outputs=("probabilities",),
        preprocess={"kind": "image_masks", "size": [height, width], "values": facts["values"]},
        labels=tuple(facts["classes"]),
    )


RECIPE = Recipe(
    title="Segmentation",
    lesson="2019 lesson 3; 2018 lesson 14",
    family="vision",
    blocks={
        "clean": MaskCleaning,
        "fine_tune": SegmentationTraining,
        "evaluate": SegmentationEvaluation,
        "export": ExportSettings,
    },
    schema=mask_schema,
    clean=clean_masks,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("pixel_accuracy", "mean_iou", "dice", "loss"),
    higher_is_better=True,
    predict=masks.predict,
    score=masks.score,
    tables=masks.tables,
    review=masks.review,
    interpret=masks.interpret,
    signature=signature,
    limits=(
        "Every pixel gets one of the classes, also where it shows something else; what was void in training"
        " is answered by guess.",
        "Metrics count pixels at the network's size, so large things weigh most: thin and rare ones may be"
        " missed by a network whose pixel accuracy is high. The table of classes tells.",
    ),
)
