"""Grad-CAM looks at what was planted; mistakes are ranked as a person would."""

import pytest
import torch

from models.fit import fit
from models.interpret import grad_cam
from models.objective import Supervised
from models.vision.classifier import build_classifier
from models.vision.settings import NetworkSettings
from tests.models.toy import Tensors, phase, same


def planted(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise with a bright or a dark square of 8 pixels somewhere: images, classes, corners (top, left)."""
    draw = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(rows, 3, 32, 32, generator=draw)
    classes = torch.arange(rows) % 2
    corners = torch.randint(0, 24, (rows, 2), generator=draw)
    for image, label, (top, left) in zip(images, classes, corners.tolist(), strict=True):
        image[:, top : top + 8, left : left + 8] = float(label)
    return images, classes, corners


def test_grad_cam_points_at_the_object() -> None:
    images, classes, corners = planted(128)
    torch.manual_seed(0)
    settings = NetworkSettings(name="cnn_bn", widths=(8, 16))
    net = build_classifier(settings, classes=2, mean=(0.5,) * 3, std=(0.25,) * 3)
    only = phase(
        net, objective=Supervised(net, torch.nn.functional.cross_entropy), epochs=6, rates=(1e-2, 1e-2)
    )
    assert fit([only], same(Tensors(images, classes)), seed=1).rows[-1]["accuracy"] > 0.95
    net.eval()
    heat = grad_cam(net, images[:64])
    assert heat.shape == (64, 32, 32)
    assert heat.min() >= 0
    assert heat.amax((1, 2)).allclose(torch.ones(64))
    inside = 0
    for one, (top, left) in zip(heat, corners.tolist(), strict=False):
        row, column = divmod(int(one.argmax()), 32)
        inside += top - 4 <= row < top + 12 and left - 4 <= column < left + 12
    assert inside >= 58  # by chance about one in five


def test_grad_cam_works_on_a_frozen_network_and_for_any_class() -> None:
    images, _, _ = planted(4)
    net = build_classifier(NetworkSettings(name="resnet"), classes=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    net.eval().requires_grad_(False)
    assert grad_cam(net, images, classes=torch.tensor([0, 1, 2, 0])).isfinite().all()


def test_grad_cam_needs_a_map_of_features() -> None:
    net = build_classifier(NetworkSettings(name="mlp"), classes=2, mean=(0.5,) * 3, std=(0.25,) * 3, size=8)
    with pytest.raises(ValueError, match="needs a network with a map of features"):
        grad_cam(net.eval(), torch.rand(1, 3, 8, 8))
