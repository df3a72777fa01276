"""Which things does a picture show, and where is each of them?

One example of VOC 2007: `JPEGImages/000012.jpg` with a box around every object of 20 classes. The picture is
covered with anchors, boxes of several places, sizes and shapes; for each the network answers how an object
deviates from it and how probable each class is. Training lowers the focal loss of the classes and the
distance of the matched boxes; of answers that overlap, the best one stays.
Course: lesson 9 of 2018 (pascal-multi: SSD).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from data.images.boxes import BoxCleaning, box_schema, clean_boxes
from models.settings import ExportSettings
from models.vision.boxes_settings import AnchorSettings
from recipes.evaluation import boxes
from recipes.largest_object import BoxEvaluation, BoxTraining, learning, start
from recipes.recipe import Learning, Recipe, Trained

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from models.export import Program
    from models.phases import Phase


class DetectionTraining(BoxTraining, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a single-shot detector learns. The defaults are the course's."""

    anchors: AnchorSettings = AnchorSettings()
    """Boxes that the picture is covered with."""
    width: int = Field(default=256, ge=1)
    """Channels of the maps from which boxes are read (course: 256)."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout in the head (course: 0.4)."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Intersection over union from which an anchor answers for an object (course: 0.5)."""
    alpha: float = Field(default=0.25, gt=0, lt=1)
    """Focal loss: weight of a class that is there against one that is not (course: 0.25)."""
    gamma: float = Field(default=2.0, ge=0)
    """Focal loss: how much less what is already right counts (course: 2)."""
    box_weight: float = Field(default=1.0, gt=0)
    """Weight of the boxes beside the classes."""


class Choice(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Which of the answers stay."""

    floor: float = Field(default=0.02, ge=0, lt=1)
    """Lowest score. Precision over recall wants nearly all answers, a person those from 0.25 on (course)."""
    overlap: float = Field(default=0.5, gt=0, le=1)
    """Of two boxes of one class with a greater intersection over union the better one stays (course: 0.5)."""
    most: int = Field(default=50, ge=1, le=1000)
    """Boxes of a picture (course: 50)."""


class DetectionEvaluation(
    Choice, BoxEvaluation, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
):
    """How a trained detector is judged."""

    drawn: float = Field(default=0.25, ge=0, lt=1)
    """Score from which a box counts in figures and candidates (course: 0.25)."""


class DetectionExport(
    ExportSettings, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
):
    """What is exported, and which boxes the exported model answers with."""

    choice: Choice = Choice(floor=0.25)
    """Of the pyfunc; the programs themselves answer for every anchor."""


def learn(items: Items, settings: DetectionTraining, cache: Path) -> Learning:
    """Batches of the training and validation parts; classes from the objects of the training part."""
    from data.images.boxes_batches import object_classes

    if items.table(columns=["label"])["label"].null_count < items.table(columns=["item_id"]).num_rows:
        raise ValueError(
            "corrections: relabel has no effect on pictures of several objects; delete them, or mend boxes"
        )
    counts = object_classes(items, ["train"])
    facts = {"classes": list(counts), "objects": counts}
    return learning(items, settings, cache, facts, only_largest=False)


def network(settings: DetectionTraining, facts: Mapping[str, Any]) -> nn.Module:
    """The detector with random weights; normalisation is inside."""
    from models.vision.detector import build_detector

    return build_detector(
        settings.network, settings.anchors, classes=len(facts["classes"]), channels=settings.channels,
        size=settings.size, width=settings.width, dropout=settings.dropout, mean=facts["mean"],
        std=facts["std"],
    )  # fmt: skip


def phases(
    settings: DetectionTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """Focal loss and boxes through the block's phases."""
    from models.objective import Supervised
    from models.phases import build_phase
    from models.vision.anchors import AnchorLoss
    from models.vision.detector import Detector, MeanPrecision

    assert isinstance(module, Detector)
    loss = AnchorLoss(
        module.anchors, threshold=settings.threshold, alpha=settings.alpha, gamma=settings.gamma,
        box_weight=settings.box_weight,
    )  # fmt: skip
    objective = Supervised(module, loss)
    metric = MeanPrecision(module.anchors, **Choice().model_dump())
    return tuple(
        build_phase(
            phase, objective, name=f"{number}-{phase.freeze}", optimiser=settings.optimiser,
            metrics={"map_50": metric},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: DetectionTraining, export: DetectionExport
) -> Program:
    """Pictures in [0, 1] to a box in shares of the picture and scores of the classes, at every anchor."""
    import torch

    from models.export import Program
    from models.vision.detector import Decoded, Detector

    assert isinstance(module, Detector)
    shape = (2, settings.channels, settings.size, settings.size)
    example = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float() / 255
    options = {"size": settings.size, "channels": settings.channels, "resize": "squish"}
    return Program(
        module=Decoded(module).eval(),
        example={"images": example},
        outputs=("boxes", "scores"),
        preprocess={"kind": "image_boxes", **options, "choice": export.choice.model_dump()},
        labels=tuple(facts["classes"]),
    )


RECIPE = Recipe(
    title="Object detection: class and box of everything",
    lesson="2018 lesson 9",
    family="vision",
    blocks={
        "clean": BoxCleaning,
        "fine_tune": DetectionTraining,
        "evaluate": DetectionEvaluation,
        "export": DetectionExport,
    },
    schema=box_schema,
    clean=clean_boxes,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("map_50", "map", "recall"),
    higher_is_better=True,
    predict=boxes.predict,
    score=boxes.score,
    tables=boxes.tables,
    review=boxes.review,
    interpret=boxes.interpret,
    signature=signature,
    limits=(
        "It finds only classes that it was trained on; anything else is background to it.",
        "Scores were not calibrated: choose the lowest one that you accept by precision and recall on your"
        " pictures.",
        "Things that are much smaller than the smallest anchor, or that hide one another, are missed.",
    ),
)
