"""Every network learns, real published weights land where they belong, and misfits are named."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from models.fit import fit
from models.phases import layer_groups
from models.vision.backbones import BACKBONES, IMAGENET_MEAN, IMAGENET_STD
from models.vision.classifier import ImageClassifier, build_classifier, start_from
from models.vision.head import build_head
from models.vision.settings import Name, NetworkSettings
from tests.models.toy import Tensors, phase, same

SMALL = ("logistic", "mlp", "cnn", "cnn_bn", "resnet")


def build(
    name: str, *, channels: int = 3, classes: int = 3, size: int = 28, **settings: Any
) -> ImageClassifier:
    torch.manual_seed(0)
    return build_classifier(
        NetworkSettings.model_validate({"name": name} | settings),
        classes=classes,
        channels=channels,
        mean=IMAGENET_MEAN[:channels],
        std=IMAGENET_STD[:channels],
        size=size,
    )


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_small_networks_overfit_a_batch(name: str, channels: int) -> None:
    draw = torch.Generator().manual_seed(0)
    batch = Tensors(torch.rand(12, channels, 28, 28, generator=draw), torch.arange(12) % 3)
    net = build(name, channels=channels)
    only = phase(net, epochs=30, rates=(1e-2,) * len(layer_groups(net)))
    history = fit([only], same(batch), seed=1)
    assert history.rows[-1]["train_loss"] < 0.2 * history.rows[0]["train_loss"]
    assert history.rows[-1]["accuracy"] > 0.9


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_backbones_overfit_a_batch(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    batch = Tensors(torch.rand(8, 3, 32, 32, generator=draw), torch.arange(8) % 2)
    net = build(name, classes=2, dropout=0.0)
    only = phase(net, epochs=12, rates=(1e-3,) * len(layer_groups(net)))
    assert fit([only], same(batch), seed=1).rows[-1]["train_loss"] < 0.1


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_go_forward_and_back_in_their_layer_groups(name: str) -> None:
    net = build(name, classes=4)
    features = net.features(torch.rand(2, 3, 64, 64))
    assert features.shape[:2] == (2, BACKBONES[name].channels)
    net.head(features).sum().backward()
    groups = layer_groups(net)
    assert len(groups) == len(BACKBONES[name].groups) + 2
    assert all(
        parameter.grad is not None for group in groups for each in group for parameter in each.parameters()
    )


def test_every_name_is_a_network() -> None:
    assert set(get_args(Name)) == {*SMALL, *BACKBONES}


@pytest.mark.parametrize("name", ["cnn", "cnn_bn", "resnet"])
def test_convolutional_networks_see_any_size(name: str) -> None:
    net = build(name, widths=(4, 8)).eval()
    assert {net(torch.rand(2, 3, size, size)).shape for size in (8, 28, 65)} == {(2, 3)}


def test_the_mlp_is_that_of_the_course() -> None:
    """784-50-10: 39,760 weights and biases (lesson 5 of 2019)."""
    net = build("mlp", channels=1, classes=10)
    assert sum(parameter.numel() for parameter in net.parameters()) == 784 * 50 + 50 + 50 * 10 + 10
    logistic = build("logistic", channels=1, classes=10)
    assert sum(parameter.numel() for parameter in logistic.parameters()) == 7850


def test_the_head_is_that_of_the_course() -> None:
    head = build_head(512, 37)
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == [
        "ConcatPool",
        *("BatchNorm1d", "Dropout", "Linear", "ReLU"),
        *("BatchNorm1d", "Dropout", "Linear"),
    ]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(1024, 512), (512, 37)]
    assert linear[0].weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert linear[0].bias.abs().max() == 0
    features = torch.randn(2, 512, 3, 3)
    assert head[0](features)[:, :512].equal(features.amax((2, 3)))


def test_normalisation_is_inside() -> None:
    net = build("cnn").eval()
    image = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand(1, 3, 28, 28)
    assert net.features(image).equal(net.body(torch.zeros(1, 3, 28, 28)))


def test_real_published_weights_give_torchvisions_own_features(imagenet_weights: Path) -> None:
    from torchvision.models import squeezenet1_0

    published = load_file(imagenet_weights)
    theirs = squeezenet1_0(weights=None).eval()
    theirs.load_state_dict(published)
    net = build("squeezenet1_0").eval()
    loaded = start_from(net, published)
    assert len(loaded) == len([key for key in published if key.startswith("features.")]) == 50
    images = torch.rand(2, 3, 96, 96)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        assert net.features(images).equal(theirs.features((images - mean) / std))


def test_published_weights_see_a_grey_picture_as_three_equal_channels(imagenet_weights: Path) -> None:
    published = load_file(imagenet_weights)
    grey, colour = build("squeezenet1_0", channels=1).eval(), build("squeezenet1_0").eval()
    start_from(grey, published)
    start_from(colour, published)
    picture = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            grey.body(picture), colour.body(picture.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3
        )


def test_a_classifier_starts_from_another_with_other_classes() -> None:
    source, net = build("resnet"), build("resnet", classes=7)
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    source.mean.fill_(0.3)
    loaded = start_from(net, source.state_dict())
    assert set(loaded) == {name for name in net.state_dict() if not name.startswith("head.")}
    assert all(net.state_dict()[name].equal(source.state_dict()[name]) for name in loaded)
    with pytest.raises(ValueError, match=r"do not fit the head of resnet: .*is \(3, .*instead of \(7, "):
        start_from(net, source.state_dict(), head=True)
    twin = build("resnet")
    assert set(start_from(twin, source.state_dict(), head=True)) == set(twin.state_dict())


def test_weights_that_do_not_fit_are_named(imagenet_weights: Path) -> None:
    published = load_file(imagenet_weights)
    net = build("resnet18")
    before = net.body.conv1.weight.clone()  # type: ignore[union-attr, operator]
    with pytest.raises(ValueError, match=r"do not fit the body of resnet18: without conv1\.weight.*unknown"):
        start_from(net, published)
    assert torch.equal(before, net.body.conv1.weight)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="body of resnet18"):
        start_from(net, build("resnet34").state_dict())
    with pytest.raises(ValueError, match="the body of cnn needs"):
        start_from(build("cnn"), published)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cnn", "dropout": 0.5}, "dropout has no effect on the network cnn"),
        ({"name": "resnet34", "widths": [8]}, "widths has no effect"),
        ({"name": "logistic", "hidden": [8]}, "hidden has no effect"),
        ({"name": "resnet35"}, "name"),
    ],
)
def test_settings_without_effect_are_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NetworkSettings.model_validate(settings)


def test_arguments_that_do_not_fit_are_errors() -> None:
    settings = NetworkSettings(name="mlp")
    with pytest.raises(ValueError, match="sees images of one size"):
        build_classifier(settings, classes=2, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    with pytest.raises(ValueError, match="at least two classes"):
        build_classifier(settings, classes=1, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=8)
    with pytest.raises(ValueError, match="3 values, all of std above 0"):
        build_classifier(settings, classes=2, mean=IMAGENET_MEAN, std=(1.0, 0.0, 1.0), size=8)
    net = build("mlp", size=28)
    with pytest.raises(ValueError, match="images of 2352 values"):
        net(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalising_is_the_plain_formula_in_the_layout_of_the_images(layout: torch.memory_format) -> None:
    net = build("resnet18")
    images = torch.rand(5, 3, 14, 18).to(memory_format=layout)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    made = net.normalised(images)
    assert torch.equal(made, (images - mean) / std)
    assert made.is_contiguous(memory_format=layout)
