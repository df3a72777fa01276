"""The course's head: what stands between a body's features and the classes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class ConcatPool(nn.Module):
    """Features (N, C, H, W) to (N, 2C): the maximum of each map beside its mean."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool over all places."""
        return torch.cat([features.amax((2, 3)), features.mean((2, 3))], 1)


def build_head(
    channels: int, classes: int, *, hidden: tuple[int, ...] = (512,), dropout: float = 0.5, norm: bool = False
) -> nn.Sequential:
    """fastai's `create_head`: pooled features (2C) through batch norm, dropout and linear layers to logits.

    hidden: widths of the layers in between (course: 512).
    dropout: share before the last layer; half of it before the earlier ones (course: 0.5).
    norm: a batch norm with momentum 0.01 after the last layer (fastai's `bn_final`, lesson 6 of 2019).
    """
    widths = [2 * channels, *hidden, classes]
    layers: list[nn.Module] = [ConcatPool()]
    for place, (wide, narrow) in enumerate(pairwise(widths)):
        last = place == len(widths) - 2
        layers += [
            nn.BatchNorm1d(wide),
            nn.Dropout(dropout if last else dropout / 2),
            nn.Linear(wide, narrow),
        ]
        layers += [] if last else [nn.ReLU(inplace=True)]
    if norm:
        layers.append(nn.BatchNorm1d(classes, momentum=0.01))
    head = nn.Sequential(*layers)
    head.apply(initialise)
    return head


def initialise(module: nn.Module) -> None:
    """Kaiming-normal weights and zero biases for linear and convolutional layers (He 2015; fastai)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
