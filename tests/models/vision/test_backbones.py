"""Bodies as pyramids of feature maps."""

import pytest
import torch

from models.vision.backbones import BACKBONES, FeatureMaps, build_backbone
from models.vision.small import build_convolutional


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "squeezenet1_0", "vgg16_bn", "densenet121"])
def test_a_published_body_gives_one_map_per_size_down_to_its_own(name: str) -> None:
    torch.manual_seed(0)
    body = build_backbone(name).eval()
    maps = FeatureMaps(body)
    images = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        found = maps(images)
        torch.testing.assert_close(found[-1], body(images))
    assert [each.shape[1] for each in found] == list(maps.channels)
    assert maps.channels[-1] == BACKBONES[name].channels
    heights = [each.shape[2] for each in found]
    assert heights == sorted(set(heights), reverse=True)
    assert len(heights) >= 4


def test_our_own_body_halves_once_per_width() -> None:
    body, _ = build_convolutional(1, 10, widths=(8, 16, 32), norm=True, residual=True)
    found = FeatureMaps(body, channels=1)(torch.rand(2, 1, 40, 40))
    assert [tuple(each.shape[1:]) for each in found] == [(8, 20, 20), (16, 10, 10), (32, 5, 5)]


def test_looking_for_the_sizes_leaves_the_body_as_it_was() -> None:
    body = build_backbone("resnet18")
    before = {name: value.clone() for name, value in body.state_dict().items()}
    maps = FeatureMaps(body)
    assert body.training
    assert all(torch.equal(before[name], value) for name, value in body.state_dict().items())
    assert sum(each.numel() for each in maps.parameters()) == sum(each.numel() for each in body.parameters())
