"""The course's networks from scratch: logistic regression, MLP, plain CNN, CNN with batch norm, ResNet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from models.vision.head import initialise

HIDDEN = (50,)
"""Widths of the MLP's hidden layers (lesson 5 of 2019: 784-50-10)."""
WIDTHS = (8, 16, 32, 16)
"""Channels after each convolution of stride 2 (lesson 7 of 2019; the head is the fifth)."""


class FlatPixels(nn.Module):
    """Images (N, C, H, W) to rows (N, `pixels`). ValueError where they are of another size."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, images: Tensor) -> Tensor:
        """Flatten."""
        if images.shape[1:].numel() != self.pixels:
            raise ValueError(
                f"this network sees images of {self.pixels} values, not of {tuple(images.shape[1:])};"
                " it cannot change the size between phases"
            )
        return images.flatten(1)


class Halving(nn.Conv2d):
    """3x3 convolution of stride 2 that is right also where a picture is down to one place.

    There only the middle of the kernel counts, so stride 1 gives the same. torch 2.15 on processors with bf16
    computes garbage for stride 2 under autocast: gradients of 1e36 or nan, on one place only.
    """

    def __init__(self, inward: int, outward: int, *, bias: bool) -> None:
        super().__init__(inward, outward, 3, stride=2, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / 2), ceil(W / 2))."""
        stride = 1 if input.shape[-2:] == (1, 1) else 2
        return functional.conv2d(input, self.weight, self.bias, stride=stride, padding=1)


class Residual(nn.Module):
    """x + two convolutions of x (lesson 7 of 2019: `res_block`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width, stride=1)
        self.second = convolution(width, width, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        deviation: Tensor = self.second(self.first(x))
        return x + deviation


def convolution(inward: int, outward: int, *, stride: int = 2, norm: bool = True) -> nn.Sequential:
    """3x3 convolution, ReLU, batch norm, in the course's order."""
    layers: list[nn.Module] = [
        Halving(inward, outward, bias=not norm)
        if stride == 2
        else nn.Conv2d(inward, outward, 3, padding=1, bias=not norm),
        nn.ReLU(inplace=True),
    ]
    return nn.Sequential(*layers, *([nn.BatchNorm2d(outward)] if norm else []))


def build_flat(pixels: int, classes: int, *, hidden: Sequence[int]) -> tuple[nn.Sequential, nn.Sequential]:
    """Body and head of an MLP on `pixels` values per image; logistic regression where `hidden` is empty."""
    body: list[nn.Module] = [FlatPixels(pixels)]
    for wide, narrow in pairwise([pixels, *hidden]):
        body += [nn.Linear(wide, narrow), nn.ReLU(inplace=True)]
    return _initialised(body, [nn.Linear([pixels, *hidden][-1], classes)])


def build_convolutional(
    channels: int, classes: int, *, widths: Sequence[int], norm: bool, residual: bool
) -> tuple[nn.Sequential, nn.Sequential]:
    """Body and head of a network that halves the picture once per width and once more in the head.

    At 28 pixels and the widths of the course this is the network of lesson 7 of 2019; larger pictures leave
    more than one place, over which the logits are averaged.
    """
    body: list[nn.Module] = []
    for inward, outward in pairwise([channels, *widths]):
        body.append(convolution(inward, outward, norm=norm))
        if residual:
            body.append(Residual(outward))
    head: list[nn.Module] = [Halving(widths[-1], classes, bias=not norm)]
    if norm:
        head.append(nn.BatchNorm2d(classes))
    return _initialised(body, [*head, nn.AdaptiveAvgPool2d(1), nn.Flatten()])


def _initialised(body: Sequence[nn.Module], head: Sequence[nn.Module]) -> tuple[nn.Sequential, nn.Sequential]:
    parts = nn.Sequential(*body), nn.Sequential(*head)
    for part in parts:
        part.apply(initialise)
    return parts
