"""A single-shot detector on any body: a box and a score for each class at every anchor, in one pass."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.vision import backbones, small
from models.vision.anchors import IGNORED, PADDING, decode, make_anchors
from models.vision.boxes_settings import AnchorSettings, BodySettings
from models.vision.classifier import ImageClassifier
from models.vision.selection import select

RARE = -4.0
"""Bias of the scores at the start: nearly every anchor is on background (course: -4; Lin et al. 2017: pi)."""


class SingleShot(nn.Module):
    """Maps of a body to (N, A, 4 + C): deviations from the anchors and logits.

    Maps from the finest grid's on are merged from the coarse to the fine ones (feature pyramid: Lin et al.
    2017), coarser grids follow from the last one by convolutions of stride 2 (SSD); one head sees all grids.
    """

    def __init__(
        self,
        sides: Sequence[int],
        channels: Sequence[int],
        *,
        anchors: AnchorSettings,
        classes: int,
        width: int,
        dropout: float,
    ) -> None:
        """sides, channels: of the body's maps, largest first."""
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        available = [*sides]
        while available[-1] > 1:
            available.append(-(-available[-1] // 2))
        for grid in anchors.grids:
            if grid not in available:
                raise ValueError(
                    f"grids: no map has {grid} cells a side; this body and size make"
                    f" {', '.join(map(str, available))}"
                )
        self.first = min(available.index(anchors.grids[0]), len(sides) - 1)
        self.kept = [available.index(grid) - self.first for grid in anchors.grids]
        self.pyramid = FeaturePyramidNetwork(list(channels[self.first :]), width, norm_layer=nn.BatchNorm2d)
        self.coarser = nn.ModuleList(
            small.convolution(width, width)
            for _ in range(available.index(anchors.grids[-1]) - len(sides) + 1)
        )
        self.shared = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.boxes = nn.Conv2d(width, anchors.per_cell * 4, 3, padding=1)
        self.scores = nn.Conv2d(width, anchors.per_cell * classes, 3, padding=1)
        for layer in (*self.shared.modules(), self.boxes, self.scores):
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01 if layer is self.scores else 0.03)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        assert self.scores.bias is not None
        nn.init.constant_(self.scores.bias, RARE)
        self.classes = classes

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(N, A, 4 + C), in the order of `make_anchors`."""
        levels = OrderedDict((str(place), each) for place, each in enumerate(maps[self.first :]))
        merged = list(self.pyramid(levels).values())
        for coarser in self.coarser:
            merged.append(coarser(merged[-1]))
        answers = []
        for place in self.kept:
            features = self.shared(merged[place])
            answers.append(
                torch.cat([_rows(self.boxes(features), 4), _rows(self.scores(features), self.classes)], 2)
            )
        return torch.cat(answers, dim=1)


def _rows(answer: Tensor, values: int) -> Tensor:
    """(N, k * values, H, W) to (N, H * W * k, values)."""
    return answer.permute(0, 2, 3, 1).reshape(answer.shape[0], -1, values)


class Detector(ImageClassifier):
    """Float images (N, C, S, S) in [0, 1] to (N, A, 4 + C); normalisation is inside."""

    anchors: Tensor

    def __init__(
        self,
        name: str,
        body: nn.Sequential,
        head: SingleShot,
        pyramid: backbones.FeatureMaps,
        anchors: Tensor,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(name, body, nn.Sequential(head), mean=mean, std=std)
        self._pyramid = (pyramid,)  # not a second place of the body's weights in the state
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Deviations from the anchors, and logits."""
        answer: Tensor = self.head(self._pyramid[0]((images - self.mean) / self.std))
        return answer


class Decoded(nn.Module):
    """A detector as it is exported: images to boxes (N, A, 4) in shares of the image, scores (N, A, C)."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes of all anchors, and probabilities of the classes."""
        return read(self.detector(images), self.detector.anchors)


def read(outputs: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """(N, A, 4 + C) as boxes in shares of the image, and scores in [0, 1]."""
    return decode(outputs[..., :4], anchors), outputs[..., 4:].sigmoid()


def build_body(settings: BodySettings, *, channels: int) -> nn.Sequential:
    """The body with random weights from torch's generator."""
    if settings.name in backbones.BACKBONES:
        return backbones.build_backbone(settings.name, channels=channels)
    body, _ = small.build_convolutional(
        channels,
        1,
        widths=settings.widths or small.WIDTHS,
        norm=settings.name != "cnn",
        residual=settings.name == "resnet",
    )
    return body


def build_detector(
    settings: BodySettings,
    anchors: AnchorSettings,
    *,
    classes: int,
    channels: int,
    size: int,
    width: int,
    dropout: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> Detector:
    """A detector with random weights from torch's generator, for images of `size` pixels a side.

    ValueError where the body makes no map of a grid.
    """
    body = build_body(settings, channels=channels)
    pyramid = backbones.FeatureMaps(body, channels=channels, size=size)
    head = SingleShot(
        map_sides(pyramid, channels=channels, size=size),
        pyramid.channels,
        anchors=anchors,
        classes=classes,
        width=width,
        dropout=dropout,
    )
    return Detector(settings.name, body, head, pyramid, make_anchors(anchors), mean=mean, std=std)


@torch.no_grad()
def map_sides(body: nn.Module, *, channels: int, size: int) -> list[int]:
    """Sides of the maps that a body makes of an image of `size` pixels; its state stays as it is."""
    modes = [(module, module.training) for module in body.modules()]
    body.eval()
    found = body(torch.zeros(1, channels, size, size))
    for module, mode in modes:
        module.training = mode
    return [int(each.shape[-1]) for each in ([found] if isinstance(found, Tensor) else found)]


class MeanPrecision:
    """mAP at an intersection over union of 0.5 over the validation batches (torchmetrics), for the loop."""

    def __init__(self, anchors: Tensor, *, floor: float, overlap: float, most: int) -> None:
        self.anchors = anchors
        self.options: dict[str, Any] = {"floor": floor, "overlap": overlap, "most": most}
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.metric = mean_precision()

    def update(self, outputs: Tensor, targets: tuple[Tensor, Tensor]) -> None:
        """Take in one batch."""
        boxes, scores = read(outputs, self.anchors.to(outputs.device))
        for found, score, truth, labels in zip(boxes, scores, *targets, strict=True):
            given = dict(
                zip(("boxes", "scores", "labels"), select(found, score, **self.options), strict=True)
            )
            real = labels != PADDING
            kinds = labels[real]
            wanted = {
                "boxes": truth[real],
                "labels": torch.where(kinds <= IGNORED, IGNORED - kinds, kinds),
                "iscrowd": (kinds <= IGNORED).long(),
            }
            self.metric.update([_on_host(given)], [_on_host(wanted)])

    def compute(self) -> float:
        """Mean over the classes that occur; nan where none does."""
        value = float(self.metric.compute()["map"])
        return value if value >= 0 else float("nan")


def _on_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def mean_precision(**options: Any) -> Any:
    """torchmetrics' mean average precision at 0.5, on boxes as corners."""
    from torchmetrics.detection import MeanAveragePrecision

    make: Callable[..., Any] = MeanAveragePrecision
    return make(
        box_format="xyxy", iou_type="bbox", iou_thresholds=[0.5], backend="faster_coco_eval", **options
    )
