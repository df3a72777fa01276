"""Where a classifier looked."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Spatial(Protocol):
    """A network whose body makes a feature map that a head classifies, as `ImageClassifier`."""

    head: nn.Sequential

    def features(self, images: Tensor) -> Tensor:
        """The feature map."""
        ...


def grad_cam(network: Spatial, images: Tensor, classes: Tensor | None = None) -> Tensor:
    """Where evidence for a class lies (Selvaraju 2016): heat maps (N, H, W) in [0, 1], of the images' size.

    images: as the network takes them. classes (N,): which class to explain; the predicted one by default.
    The network must be in evaluation mode, or batch norm mixes the images; weights get no gradients.
    ValueError where the body makes no map of features (an MLP).
    """
    with torch.no_grad():
        features = network.features(images)
    if features.dim() != 4:
        raise ValueError("Grad-CAM needs a network with a map of features; this one flattens its input")
    features = features.detach().requires_grad_()
    with torch.enable_grad():
        logits = network.head(features)
        chosen = logits.argmax(1) if classes is None else classes.to(logits.device)
        score = logits.gather(1, chosen[:, None]).sum()
        (gradients,) = torch.autograd.grad(score, features)
    weights = gradients.mean((2, 3), keepdim=True)
    heat = (weights * features.detach()).sum(1, keepdim=True).relu()
    heat = nn.functional.interpolate(heat.float(), images.shape[-2:], mode="bilinear", align_corners=False)
    heat = heat[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny)
