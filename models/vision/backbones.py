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
    import torchvision.models  # type: ignore[import-untyped]  # takes seconds: only who needs a backbone pays

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


def backbone_groups(name: str, body: nn.Sequential) -> list[list[nn.Module]]:
    """The layer groups of a body, from the picture's side on."""
    layers = list(body.features if "features" in dict(body.named_children()) else body)  # type: ignore[arg-type]
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
