"""Class and box by one head: shapes on any body, and the course's joint loss."""

import pytest
import torch

from models.vision.anchors import PADDING
from models.vision.boxes_settings import BodySettings
from models.vision.largest import Answered, JointLoss, accuracy, build_largest, l1_pixels

BOXES = torch.tensor([[[0.25, 0.25, 0.75, 0.75]], [[0.0, 0.5, 0.5, 1.0]]])
LABELS = torch.tensor([[2], [0]])


@pytest.mark.parametrize("name", ["squeezenet1_0", "cnn", "resnet"])
def test_any_body_answers_with_a_box_and_a_probability_for_each_class(name: str) -> None:
    network = build_largest(
        BodySettings.model_validate({"name": name}), classes=3, channels=3, size=128, hidden=16, dropout=0.5,
        mean=[0.5] * 3, std=[0.25] * 3,
    ).eval()  # fmt: skip
    with torch.no_grad():
        box, probabilities = Answered(network)(torch.rand(2, 3, 128, 128))
    assert box.shape == (2, 4)
    assert bool(((box >= 0) & (box <= 1)).all())
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))


def outputs() -> torch.Tensor:
    """Right in the first image; in the second one the class is wrong."""
    logits = torch.full((2, 3), -9.0)
    logits[:, 2] = 9
    return torch.cat([torch.logit(BOXES[:, 0], eps=1e-6), logits], dim=1)


def test_the_loss_is_the_course_s() -> None:
    loss = JointLoss(class_weight=20.0)
    given = outputs()
    entropy = torch.nn.functional.cross_entropy(given[:, 4:], LABELS[:, 0])
    assert loss(given, (BOXES, LABELS)) == pytest.approx(20 * entropy.item(), rel=1e-3)
    shifted = BOXES + 0.1
    assert loss(given, (shifted, LABELS)) == pytest.approx(20 * entropy.item() + 22.4, rel=1e-3)


def test_an_object_that_augmentation_moved_out_teaches_nothing() -> None:
    loss = JointLoss(class_weight=20.0)
    with_gap = torch.tensor([[2], [PADDING]])
    assert loss(outputs(), (BOXES, with_gap)) < 0.01
    nothing = torch.full((2, 1), PADDING)
    assert loss(outputs(), (BOXES, nothing)) == 0


def test_metrics_tell_classes_and_pixels() -> None:
    right, distance = accuracy(), l1_pixels()
    for metric in (right, distance):
        metric.update(outputs(), (BOXES + 0.1, LABELS))  # type: ignore[arg-type]
    assert right.compute() == 0.5
    assert distance.compute() == pytest.approx(22.4, rel=1e-3)
