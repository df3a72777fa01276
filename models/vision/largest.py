"""Class and box of one object: the course's joint head on any body, its loss and metrics (2018, lesson 8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.metrics import Average
from models.vision.anchors import PADDING
from models.vision.boxes_settings import BodySettings
from models.vision.classifier import ImageClassifier
from models.vision.detector import build_body, map_sides
from models.vision.head import initialise

PIXELS = 224
"""Side of the image in which distances are told, whatever the network sees (the course's figures are)."""
MOST_CELLS = 8
"""Side of a body's map above which it is pooled by halves (ResNet: 7 at 224 pixels)."""


def build_largest(
    settings: BodySettings,
    *,
    classes: int,
    channels: int,
    size: int,
    hidden: int,
    dropout: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> ImageClassifier:
    """Images (N, C, S, S) to (N, 4 + classes): logits of the box's corners in shares of the image, and of the
    classes. The map is flattened, not pooled away: where something is matters."""
    body = build_body(settings, channels=channels)
    side = map_sides(body, channels=channels, size=size)[-1]
    with torch.no_grad():
        modes = [(module, module.training) for module in body.modules()]
        deep = int(body.eval()(torch.zeros(1, channels, size, size)).shape[1])
        for module, mode in modes:
            module.training = mode
    pools: list[nn.Module] = []
    while side > MOST_CELLS:
        pools.append(nn.MaxPool2d(2, ceil_mode=True))
        side = -(-side // 2)
    head = nn.Sequential(
        *pools,
        nn.Flatten(),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(deep * side * side, hidden),
        nn.ReLU(),
        nn.BatchNorm1d(hidden),
        nn.Dropout(dropout),
        nn.Linear(hidden, 4 + classes),
    )
    head.apply(initialise)
    return ImageClassifier(settings.name, body, head, mean=mean, std=std)


class JointLoss:
    """L1 of the box in pixels at 224, and `class_weight` times the cross-entropy (course: 20)."""

    def __init__(self, *, class_weight: float) -> None:
        self.class_weight = class_weight

    def __call__(self, outputs: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Scalar from (N, 4 + C) and (boxes (N, 1, 4), labels (N, 1))."""
        boxes, labels = targets[0][:, 0], targets[1][:, 0]
        there = labels != PADDING  # augmentation may have moved the object out of the image
        count = there.sum().clamp(min=1)
        distance = (box_of(outputs) - boxes).abs().mean(dim=1) * PIXELS
        entropy = functional.cross_entropy(outputs[:, 4:], labels, ignore_index=PADDING, reduction="sum")
        return (distance * there).sum() / count + self.class_weight * entropy / count


def box_of(outputs: Tensor) -> Tensor:
    """(N, 4) x_min, y_min, x_max, y_max in shares of the image."""
    return outputs[:, :4].sigmoid()


def accuracy() -> Average:
    """Share of the images whose class is right."""
    return Average(lambda outputs, targets: (outputs[:, 4:].argmax(1) == targets[1][:, 0]).float())


def l1_pixels() -> Average:
    """Mean distance of a corner's coordinate from the truth, in pixels of an image of 224 a side."""
    return Average(lambda outputs, targets: (box_of(outputs) - targets[0][:, 0]).abs().mean(1) * PIXELS)


class Answered(nn.Module):
    """The network as it is exported: images to a box (N, 4) in shares, and probabilities (N, C)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Box, and probabilities of the classes."""
        outputs = self.network(images)
        return box_of(outputs), outputs[:, 4:].softmax(dim=1)
