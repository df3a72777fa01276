"""Anchors: boxes that cover an image, which object each of them answers for, and the loss of their answers.

Single Shot MultiBox Detector: Liu et al. 2016; focal loss: Lin et al. 2017; course of 2018, lesson 9. Boxes
are x_min, y_min, x_max, y_max in shares of the image's width and height unless said otherwise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.vision.boxes_settings import AnchorSettings

PADDING = -1
"""Class of a row of a batch that is no object: images have different numbers of them."""
IGNORED = -2
"""Class of an object that is neither to be found nor to be missed, and is of class 0; of class k: -2 - k."""

CENTRE, SIDE = 0.1, 0.2
"""Units in which a box's centre and the logarithms of its sides are counted from an anchor (Liu et al. 2016:
the variances)."""
LARGEST = math.log(1000 / 16)
"""Largest logarithm of a box's side over its anchor's: no overflow (torchvision's limit)."""
BEND = 0.5
"""Deviation, in those units, up to which the loss of a box is quadratic."""


def make_anchors(settings: AnchorSettings) -> Tensor:
    """(A, 4): grid by grid, row by row, cell by cell, zoom by zoom, ratio by ratio. They may reach beyond."""
    made = []
    for grid in settings.grids:
        middles = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid
        y, x = torch.meshgrid(middles, middles, indexing="ij")
        for_cell = [
            (zoom * wide / grid, zoom * high / grid)
            for zoom in settings.zooms
            for wide, high in settings.ratios
        ]
        sides = torch.tensor(for_cell, dtype=torch.float64)
        centres = torch.stack([x, y], -1).view(-1, 1, 2).expand(-1, len(sides), 2)
        halves = (sides / 2).expand(grid * grid, -1, -1)
        made.append(torch.cat([centres - halves, centres + halves], -1).view(-1, 4))
    return torch.cat(made).float()


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """How `boxes` (..., 4) deviate from their `anchors` (..., 4): (x, y, log width, log height) in units."""
    centres, sides = _centres(boxes)
    from_centres, from_sides = _centres(anchors)
    moved = (centres - from_centres) / from_sides / CENTRE
    return torch.cat([moved, (sides.clamp(min=1e-6) / from_sides).log() / SIDE], -1)


def decode(deviations: Tensor, anchors: Tensor) -> Tensor:
    """The boxes (..., 4) that deviate so from their anchors, within the image."""
    from_centres, from_sides = _centres(anchors)
    centres = from_centres + deviations[..., :2] * CENTRE * from_sides
    halves = (deviations[..., 2:] * SIDE).clamp(max=LARGEST).exp() * from_sides / 2
    return torch.cat([centres - halves, centres + halves], -1).clamp(0, 1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


@torch.no_grad()
def match(anchors: Tensor, boxes: Tensor, labels: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Which object each anchor answers for: (N, A) places among the objects, -1 for none; and (N, A) whether
    it counts.

    anchors (A, 4); boxes (N, M, 4); labels (N, M) with PADDING and IGNORED. An anchor answers for the object
    that it overlaps most, from an intersection over union of `threshold` on; beside that each object has the
    anchor that overlaps it most. An anchor without an object that overlaps an ignored one does not count.
    """
    from torchvision.ops import box_iou  # takes seconds to import

    images, objects = labels.shape
    if not objects:
        nothing = torch.full((images, len(anchors)), -1, device=labels.device)
        return nothing, torch.ones_like(nothing, dtype=torch.bool)
    overlap = box_iou(boxes.reshape(-1, 4), anchors).view(images, objects, len(anchors))
    known = torch.where((labels >= 0)[..., None], overlap, -1.0)
    most, place = known.max(dim=1)
    assigned = torch.where(most >= threshold, place, -1)
    nearest, rows = known.argmax(dim=2), torch.arange(images, device=labels.device)
    for number in range(objects):  # one after the other: where two share their best anchor, the last has it
        has = known[rows, number, nearest[:, number]] > 0
        assigned[rows[has], nearest[has, number]] = number
    left_out = torch.where((labels <= IGNORED)[..., None], overlap, -1.0).amax(dim=1) >= threshold
    return assigned, (assigned >= 0) | ~left_out


class AnchorLoss:
    """Focal loss of the classes, without one for the background, and smooth L1 of the matched boxes; both are
    sums over the batch divided by its number of matched anchors."""

    def __init__(
        self, anchors: Tensor, *, threshold: float, alpha: float, gamma: float, box_weight: float
    ) -> None:
        self.anchors = anchors
        self.threshold, self.alpha, self.gamma, self.box_weight = threshold, alpha, gamma, box_weight

    def __call__(self, outputs: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Scalar from (N, A, 4 + C) and (boxes (N, M, 4), labels (N, M))."""
        from torchvision.ops import sigmoid_focal_loss

        boxes, labels = targets
        unseen = labels >= outputs.shape[-1] - 4  # a class of held-out images alone
        labels = torch.where(unseen, IGNORED, labels)
        anchors = self.anchors.to(outputs.device)
        assigned, counts = match(anchors, boxes, labels, threshold=self.threshold)
        found = assigned >= 0
        place = assigned.clamp(min=0)
        truth = torch.zeros_like(outputs[..., 4:])
        if labels.shape[1]:
            kind = labels.gather(1, place).clamp(min=0)
            truth = functional.one_hot(kind, outputs.shape[-1] - 4).to(outputs.dtype) * found[..., None]
        focal = sigmoid_focal_loss(outputs[..., 4:], truth, alpha=self.alpha, gamma=self.gamma)
        matched = found.sum().clamp(min=1)
        loss: Tensor = (focal.sum(-1) * counts).sum() / matched
        if found.any():
            wanted = boxes.gather(1, place[..., None].expand(-1, -1, 4))[found]
            own = anchors.expand(len(boxes), -1, -1)[found]
            deviation = functional.smooth_l1_loss(
                outputs[..., :4][found], encode(wanted, own), beta=BEND, reduction="sum"
            )
            loss = loss + self.box_weight * deviation / matched
        return loss
