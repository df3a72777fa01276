"""A head that trains on what its frozen body made once (the `precompute` of the course of 2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.objective import Supervised
from models.vision.classifier import ImageClassifier


class HeadAlone(Supervised):
    """Features and targets: of a classifier only the head's layers with weights are run.

    The whole network is what trains, so that checkpoints and later phases know it. Its body gets no gradient
    and no step.
    """

    def __init__(
        self,
        network: ImageClassifier,
        loss: Callable[[Tensor, Any], Tensor],
        *,
        cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """cast: what the training computes in, such as bf16 autocast."""
        super().__init__(network.learned(), loss)
        self.whole, self.cast = network, cast

    def trainable(self) -> Mapping[str, nn.Module]:
        """The whole network."""
        return {"network": self.whole}

    def features(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to what `judge` and `updates` take in their place, with the body in
        evaluation mode."""
        self.whole.body.eval()
        with torch.no_grad(), self.cast():
            return self.whole.fixed(images)
