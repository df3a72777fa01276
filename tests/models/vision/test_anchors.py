"""Anchors cover the image, answer for objects as they should, and learn from what they answer."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from models.vision.anchors import IGNORED, PADDING, AnchorLoss, decode, encode, make_anchors, match
from models.vision.boxes_settings import AnchorSettings
from models.vision.selection import select


def square(cell: int) -> Tensor:
    """The four quarters of the image as anchors."""
    return make_anchors(AnchorSettings(grids=(cell,), zooms=(1.0,), ratios=((1.0, 1.0),)))


def test_the_course_has_189_anchors() -> None:
    settings = AnchorSettings()
    anchors = make_anchors(settings)
    assert anchors.shape == (189, 4)
    assert settings.per_cell == 9
    torch.testing.assert_close(anchors[-8], torch.tensor([0.125, 0.3125, 0.875, 0.6875]))


def test_a_grid_of_whole_cells_tiles_the_image() -> None:
    expected = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    assert square(2).tolist() == expected


@pytest.mark.parametrize("grids", [(2, 4), (4, 4), (0,), ()])
def test_grids_go_from_fine_to_coarse(grids: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        AnchorSettings(grids=grids)


def test_what_is_encoded_is_decoded() -> None:
    anchors = make_anchors(AnchorSettings())
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(len(anchors), 2, 2, generator=generator).sort(dim=1).values
    boxes = corners.reshape(-1, 4)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-5, rtol=1e-4)


def test_an_anchor_answers_for_what_it_overlaps_most() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.45, 0.5], [0.6, 0.6, 0.7, 0.7], [0.0, 0.0, 0.0, 0.0]]])
    assigned, counts = match(square(2), boxes, torch.tensor([[1, 0, PADDING]]), threshold=0.5)
    assert assigned.tolist() == [[0, -1, -1, 1]], "the small one gets the anchor around it"
    assert counts.all()


def test_an_anchor_on_an_ignored_object_does_not_count() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])
    assigned, counts = match(square(2), boxes, torch.tensor([[IGNORED - 3, 0]]), threshold=0.5)
    assert assigned.tolist() == [[-1, -1, -1, 1]]
    assert counts.tolist() == [[False, True, True, True]]


def test_without_objects_every_anchor_is_background() -> None:
    assigned, counts = match(square(2), torch.zeros(3, 0, 4), torch.zeros(3, 0).long(), threshold=0.5)
    assert (assigned == -1).all()
    assert counts.all()


def loss_of(outputs: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    loss = AnchorLoss(square(2), threshold=0.5, alpha=0.25, gamma=2.0, box_weight=1.0)
    return loss(outputs, (boxes, labels))


def test_the_right_answer_costs_next_to_nothing() -> None:
    boxes = torch.tensor([[[0.05, 0.0, 0.5, 0.5]]])
    right = torch.full((1, 4, 7), -9.0)
    right[..., :4] = 0
    right[0, 0, :4] = encode(boxes[0], square(2)[:1])[0]
    right[0, 0, 4 + 2] = 9.0
    wrong = right.clone()
    wrong[0, 0, 4 + 2], wrong[0, 0, 4 + 1] = -9.0, 9.0
    moved = right.clone()
    moved[0, 0, 0] += 3
    label = torch.tensor([[2]])
    assert loss_of(right, boxes, label) < 1e-3
    assert loss_of(wrong, boxes, label) > 1
    assert loss_of(moved, boxes, label) > 1


@pytest.mark.parametrize("labels", [[[PADDING]], [[IGNORED]], [[5]]])
def test_a_batch_without_a_known_object_has_a_finite_loss(labels: list[list[int]]) -> None:
    outputs = torch.zeros(1, 4, 7, requires_grad=True)
    loss = loss_of(outputs, torch.tensor([[[0.0, 0.0, 0.5, 0.5]]]), torch.tensor(labels))
    loss.backward()
    assert torch.isfinite(loss)
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_of_boxes_that_overlap_the_best_of_each_class_stays() -> None:
    boxes = torch.tensor(
        [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.52], [0.6, 0.6, 0.9, 0.9], [0.3, 0.3, 0.3, 0.4]]
    )
    scores = torch.tensor([[0.6, 0.5], [0.9, 0.1], [0.3, 0.0], [0.99, 0.0]])
    kept, found, kinds = select(boxes, scores, floor=0.2, overlap=0.5, most=10)
    assert found.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert kinds.tolist() == [0, 1, 0]
    assert kept.tolist()[0] == pytest.approx([0.0, 0.0, 0.5, 0.52])
    assert len(select(boxes, scores, floor=0.2, overlap=0.5, most=2)[0]) == 2
    assert len(select(boxes, scores, floor=0.999, overlap=0.5, most=2)[0]) == 0
