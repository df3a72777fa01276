"""Bodies of published networks, cut before pooling and divided into layer groups as fastai does."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per channel of RGB in [0, 1]: what torchvision's ImageNet weights expect."""


@dataclass(frozen=True)
class Cut:
    """How a torchvision network becomes a body."""

    channels: int
    """Channels of its last feature map."""
    groups: tuple[int, ...]
    """Where the later layer groups begin, as places among the layers (fastai's splits)."""
    dropped: str
    """The classifier's name in torchvision."""


_RESNET = (6,)  # conv1, bn1, relu, maxpool, layer1, layer2 | layer3, layer4
BACKBONES: Mapping[str, Cut] = {
    "resnet18": Cut(512, _RESNET, "fc"),
    "resnet34": Cut(512, _RESNET, "fc"),
    "resnet50": Cut(2048, _RESNET, "fc"),
    "resnet101": Cut(2048, _RESNET, "fc"),
    "squeezenet1_0": Cut(512, (5, 8), "classifier"),
    "squeezenet1_1": Cut(512, (5, 8), "classifier"),
    "vgg16_bn": Cut(512, (22,), "classifier"),
    "densenet121": Cut(1024, (7,), "classifier"),
}


def build_backbone(name: str, *, channels: int = 3) -> nn.Sequential:
    """The body `name` with random weights: images (N, `channels`, H, W) to features (N, C, H', W').

    Its modules keep torchvision's names. With other than three channels the first layer is a new one.
    """
    import torchvision.models  # takes seconds: only who needs a backbone pays

    network = getattr(torchvision.models, name)(weights=None)
    kept = [(part, module) for part, module in network.named_children() if part not in ("avgpool", "fc")]
    body = nn.Sequential(OrderedDict((part, module) for part, module in kept if part != "classifier"))
    if channels != 3:
        where, first = next(
            (path, module) for path, module in body.named_modules() if isinstance(module, nn.Conv2d)
        )
        fresh = nn.Conv2d(
            channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            stride=first.stride,  # type: ignore[arg-type]
            padding=first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        parent, _, child = where.rpartition(".")
        setattr(body.get_submodule(parent), child, fresh)
    return body


class FeatureMaps(nn.Module):
    """A body as a pyramid: images (N, C, H, W) to its maps (N, C', H', W'), each smaller than the one before.

    Per size the last map is given, so the first is of the images' own size where a layer works on that, and
    the last is the body's own. Uses the body's layers in place: it has no weights beside them.
    """

    def __init__(self, body: nn.Sequential, *, channels: int = 3, size: int = 64) -> None:
        """channels, size: of the images with which the sizes are found; the body's state stays as it is."""
        super().__init__()
        self.layers = _layers(body)
        self.kept, self.channels = _reductions(self.layers, channels=channels, size=size)

    def forward(self, images: Tensor) -> list[Tensor]:
        """From the largest map to the smallest; `channels` says how many channels each has."""
        maps, features = [], images
        for place, layer in enumerate(self.layers):
            features = layer(features)
            if place in self.kept:
                maps.append(features)
        return maps


def _layers(body: nn.Sequential) -> nn.Sequential:
    """The layers one after the other, whether or not torchvision wraps them as `features`."""
    inner = dict(body.named_children()).get("features")
    return inner if isinstance(inner, nn.Sequential) else body


@torch.no_grad()
def _reductions(
    layers: nn.Sequential, *, channels: int, size: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Places of the last layer of each size, and the channels of its map, found by one pass of an image."""
    modes = [(module, module.training) for module in layers.modules()]
    layers.eval()  # batch norms must not take this image for an example
    features = torch.zeros(1, channels, size, size)
    shapes = []
    for layer in layers:
        features = layer(features)
        shapes.append(features.shape)
    for module, mode in modes:
        module.training = mode
    last = {shape[-1]: place for place, shape in enumerate(shapes)}
    kept = tuple(last.values())
    return kept, tuple(int(shapes[place][1]) for place in kept)


def backbone_groups(name: str, body: nn.Sequential) -> list[list[nn.Module]]:
    """The layer groups of a body, from the picture's side on."""
    layers = list(_layers(body))
    edges = [0, *BACKBONES[name].groups, len(layers)]
    return [layers[start:end] for start, end in pairwise(edges)]


def body_weights(name: str, body: nn.Module, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a torchvision state dict that belongs to the body, for a strict load.

    A first layer for three channels is summed into one for grey pictures (equal to showing it the picture
    three times).
    """
    weights = {key: value for key, value in published.items() if key.split(".")[0] != BACKBONES[name].dropped}
    for key, own in body.state_dict().items():
        given = weights.get(key)
        if given is not None and own.dim() == 4 and own.shape[1] == 1 and given.shape[1:2] == torch.Size([3]):
            weights[key] = given.sum(1, keepdim=True)
    return weights


def load_strictly(module: nn.Module, weights: Mapping[str, Any], *, what: str) -> list[str]:
    """Load weights whose names and shapes are exactly the module's; returns the names.

    ValueError names the first differences.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    foreign = [key for key in weights if key not in own]
    shapes = [
        f"{key} is {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if missing or foreign or shapes:
        told = [
            *([f"without {', '.join(missing[:3])}{' ...' * (len(missing) > 3)}"] if missing else []),
            *([f"unknown {', '.join(foreign[:3])}{' ...' * (len(foreign) > 3)}"] if foreign else []),
            *shapes[:3],
        ]
        raise ValueError(f"the starting weights do not fit {what}: {'; '.join(told)}")
    module.load_state_dict(dict(weights), strict=False)
    return list(weights)
