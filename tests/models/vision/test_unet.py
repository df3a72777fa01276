"""U-Nets on any body: sizes, groups, starting weights, and losses that know what is void."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from data.images import masks
from models.phases import layer_groups
from models.vision import unet
from models.vision.classifier import build_classifier
from models.vision.settings import NetworkSettings
from models.vision.unet import MaskLoss, UNet, Upsampling, build_unet, pixel_accuracy, start_from
from models.vision.unet_settings import UNetSettings


def built(classes: int = 5, **settings: Any) -> UNet:
    torch.manual_seed(0)
    return build_unet(UNetSettings(**settings), classes=classes, mean=[0.5] * 3, std=[0.25] * 3)


@pytest.mark.parametrize(
    "name", ["resnet18", "squeezenet1_0", "squeezenet1_1", "vgg16_bn", "densenet121", "cnn", "resnet"]
)
@pytest.mark.parametrize("size", [(48, 64), (37, 51)])
def test_every_pixel_gets_an_answer_on_any_body(name: str, size: tuple[int, int]) -> None:
    network = built(name=name, width=8).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size)).shape == (2, 5, *size)


def test_no_weight_stands_twice_in_the_state() -> None:
    network = built(name="resnet18", width=8)
    tensors = list(network.state_dict().values())
    assert len({tensor.data_ptr() for tensor in tensors if tensor.numel()}) == len(tensors)
    assert all(
        name.split(".")[0] in {"body", "middle", "stages", "finish", "mean", "std"}
        for name in network.state_dict()
    )


def test_building_leaves_the_body_s_statistics_alone() -> None:
    network = built(name="resnet18", width=8)
    counted = [
        module.num_batches_tracked for module in network.modules() if isinstance(module, nn.BatchNorm2d)
    ]
    assert not any(int(count) for count in counted if count is not None)
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(("name", "groups"), [("squeezenet1_0", 4), ("resnet18", 3), ("resnet", 2)])
def test_layer_groups_hold_the_body_and_then_the_decoder(name: str, groups: int) -> None:
    assert len(layer_groups(built(name=name, width=8))) == groups


def test_upsampling_begins_without_chequers() -> None:
    features = Upsampling(6, 4)(torch.randn(2, 6, 5, 7), (10, 14))
    blocks = features.unfold(2, 2, 2).unfold(3, 2, 2)
    assert torch.allclose(blocks.amax((-1, -2)), blocks.amin((-1, -2)))


def test_it_starts_from_published_weights(imagenet_weights: Any) -> None:
    network = built(name="squeezenet1_0", width=8)
    loaded = start_from(network, load_file(imagenet_weights))
    assert set(loaded) == {f"body.{key}" for key in network.body.state_dict()}


def test_it_starts_from_a_classifier_with_the_same_body() -> None:
    settings = NetworkSettings(name="resnet", widths=(8, 16))
    other = build_classifier(settings, classes=3, mean=[0.1] * 3, std=[0.9] * 3)
    network = built(name="resnet", widths=(8, 16), width=8)
    loaded = start_from(network, other.state_dict())
    assert {"mean", "std"} <= set(loaded)
    assert float(network.mean.view(-1)[0]) == pytest.approx(0.1)
    for key, tensor in other.body.state_dict().items():
        assert torch.equal(network.body.state_dict()[key], tensor)


def test_it_goes_on_from_another_u_net_but_for_the_names_of_classes() -> None:
    other, network = built(classes=7, name="cnn_bn", width=8), built(classes=4, name="cnn_bn", width=8)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    loaded = start_from(network, other.state_dict())
    missing = set(network.state_dict()) - set(loaded)
    assert missing == {"finish.logits.weight", "finish.logits.bias"}
    assert torch.equal(network.middle.state_dict()["0.weight"], other.middle.state_dict()["0.weight"])


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the body of resnet: "):
        start_from(
            built(name="resnet", widths=(8, 8), width=8),
            built(name="resnet", widths=(8, 16), width=8).state_dict(),
        )
    with pytest.raises(ValueError, match="no network of ours"):
        start_from(built(name="resnet", width=8), {"features.0.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"name": "mlp"}, "no feature maps"), ({"name": "resnet18", "widths": (8,)}, "widths has no effect")],
)
def test_a_setting_without_effect_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetSettings(**settings)


def test_void_is_one_number_in_data_and_models() -> None:
    assert unet.VOID == masks.VOID


def example(void: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 6, 5, generator=generator)
    truth = torch.randint(0, 4, (3, 6, 5), generator=generator)
    truth[torch.rand(3, 6, 5, generator=generator) < void] = unet.VOID
    return logits, truth


@pytest.mark.parametrize("dice", [0.0, 1.0])
def test_void_pixels_move_nothing(dice: float) -> None:
    logits, truth = example()
    logits.requires_grad_(True)
    loss = MaskLoss(dice=dice)
    (gradient,) = torch.autograd.grad(loss(logits, truth), logits)
    assert (gradient.movedim(1, -1)[truth == unet.VOID] == 0).all()
    assert (gradient.movedim(1, -1)[truth != unet.VOID] != 0).any()
    changed = torch.where((truth == unet.VOID)[:, None], logits + 9 * torch.randn_like(logits), logits)
    assert torch.allclose(loss(changed, truth), loss(logits, truth))


def test_the_loss_is_the_mean_over_what_counts() -> None:
    logits, truth = example()
    expected = nn.functional.cross_entropy(logits, truth, ignore_index=unet.VOID)
    assert torch.allclose(MaskLoss()(logits, truth), expected)
    assert float(MaskLoss(dice=1.0)(logits, torch.full_like(truth, unet.VOID))) == pytest.approx(1.0)
    assert float(MaskLoss()(logits, torch.full_like(truth, unet.VOID))) == 0.0


def test_dice_rewards_the_right_mask() -> None:
    _, truth = example(void=0.1)
    sure = 20 * nn.functional.one_hot(torch.where(truth == unet.VOID, 0, truth), 4).movedim(-1, 1).float()
    loss = MaskLoss(dice=1.0)
    assert float(loss(sure, truth)) < 0.02
    assert float(loss(-sure, truth)) > 1.0


def test_pixel_accuracy_counts_pixels_and_not_pictures() -> None:
    logits, truth = example()
    metric = pixel_accuracy()
    for start in range(3):
        metric.update(logits[start : start + 1], truth[start : start + 1])
    counted = truth != unet.VOID
    expected = (logits.argmax(1) == truth)[counted].float().mean()
    assert metric.compute() == pytest.approx(float(expected))
