"""The Fréchet distance (Heusel 2017) in the features of any trained classifier of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.hardware import device
from models.vision.classifier import ImageClassifier, build_classifier
from models.vision.settings import NetworkSettings

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601, as Pillow converts)."""


class Judge(nn.Module):
    """Pictures (N, C, H, W) in [0, 1] of any size, grey or RGB, to features (N, D) of a frozen classifier.

    The features are what its last layer with weights sees, averaged over places.
    """

    def __init__(self, classifier: ImageClassifier, *, channels: int, size: int) -> None:
        super().__init__()
        self.classifier, self.channels, self.size = classifier, channels, size
        self.eval().requires_grad_(False)
        self.seen = torch.empty(0)
        layers = [layer for layer in classifier.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        layers[-1].register_forward_pre_hook(self._keep)
        with torch.no_grad():
            self.num_features = self(torch.zeros(2, channels, size, size)).shape[1]

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen = inputs[0]

    def forward(self, pictures: Tensor) -> Tensor:
        """Features in float32; another size is resized, grey becomes RGB or RGB grey."""
        self.classifier(self.fit(pictures.float()))
        features, self.seen = self.seen.float(), torch.empty(0)
        return features.mean((2, 3)) if features.dim() == 4 else features

    def fit(self, pictures: Tensor) -> Tensor:
        """The pictures as the classifier was trained to see them."""
        if pictures.shape[1] == 3 and self.channels == 1:
            weights = torch.tensor(LUMA, device=pictures.device).view(1, 3, 1, 1)
            pictures = (pictures * weights).sum(1, keepdim=True)
        pictures = pictures.expand(-1, self.channels, -1, -1)
        if pictures.shape[-2:] == (self.size, self.size):
            return pictures
        resized = functional.interpolate(
            pictures, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True
        )
        return resized.clamp(0, 1)


def build_judge(state: Mapping[str, Tensor], facts: Mapping[str, Any], settings: Mapping[str, Any]) -> Judge:
    """The judge from what a training of an image classifier left: its weights, facts and settings.

    ValueError where they are not those of an image classifier.
    """
    lacking = [name for name in ("classes", "mean", "std") if name not in facts]
    lacking += [name for name in ("network", "channels", "size") if name not in settings]
    if lacking:
        raise ValueError(
            f"judge: no trained image classifier lies there (it says nothing of {', '.join(lacking)});"
            " name the fine_tune folder of one, such as artifacts/APP/fine_tune"
        )
    classifier = build_classifier(
        NetworkSettings.model_validate(settings["network"]),
        classes=len(facts["classes"]),
        channels=settings["channels"],
        mean=facts["mean"],
        std=facts["std"],
        size=settings["size"],
    )
    classifier.load_state_dict(dict(state))
    return Judge(classifier, channels=settings["channels"], size=settings["size"])


@torch.no_grad()
def features_of(judge: Judge, pictures: Tensor, *, batch_size: int = 256) -> Tensor:
    """(N, D) float32 on the CPU."""
    here = device()
    judge.to(here)
    return torch.cat([judge(some.to(here)).cpu() for some in torch.split(pictures, batch_size)])


def frechet_distance(real: Tensor, made: Tensor) -> float:
    """Between the normal distributions fitted to two sets of features (N, D), at least two each; never
    negative, as rounding could make it."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(made.double(), real=False)
    return max(float(metric.compute()), 0.0)


class _Features(nn.Module):
    """In the place of a network, where features are at hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


class FrechetDistance:
    """The metric over validation batches: outputs are made pictures, targets real ones, both in [0, 1]."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.made: list[Tensor] = []
        self.real: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in one batch."""
        self.made.append(features_of(self.judge, outputs))
        self.real.append(features_of(self.judge, targets))

    def compute(self) -> float:
        """The distance over all batches; nan with fewer than two pictures."""
        made, real = torch.cat(self.made), torch.cat(self.real)
        return frechet_distance(real, made) if len(real) > 1 else float("nan")
