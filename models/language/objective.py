"""Truncated back-propagation through time: the state is carried from batch to batch, the gradient is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.language.encoder import State, detached
from models.language.model import LanguageModel
from models.metrics import Average
from models.objective import Batch, Outcome, Update

NOTHING = -100
"""Target where there is nothing to predict; cross-entropy passes over it."""


class LanguageModelling:
    """Batches (codes, targets), (N, T) each: row n of a batch goes on where row n of the last one ended.

    activation: factor of the mean square of the dropped-out vectors (AR of Merity and others, 2017,
      arXiv:1708.01009; fastai's alpha 2).
    change: factor of the mean square of the difference of successive vectors (their TAR; fastai's beta 1).
    Both are added to the training loss only. Rows and targets that end are marked with NOTHING.
    """

    def __init__(self, network: LanguageModel, *, activation: float = 0.0, change: float = 0.0) -> None:
        self.network = network
        self.activation, self.change = activation, change
        self.carried: State | None = None

    def trainable(self) -> Mapping[str, nn.Module]:
        """The network."""
        return {"network": self.network}

    def start_epoch(self) -> None:
        """The next batch is a beginning."""
        self.carried = None

    def updates(self, batch: Batch) -> Iterator[Update]:
        """One step per batch."""
        codes, targets = batch
        dropped, vectors, after = self.network.read(codes, self.carried)
        self.carried = detached(after)
        loss = self.network.loss(dropped, targets, nothing=NOTHING)
        if self.activation:
            loss = loss + self.activation * dropped.float().pow(2).mean()
        if self.change and vectors.shape[1] > 1:
            loss = loss + self.change * (vectors[:, 1:] - vectors[:, :-1]).float().pow(2).mean()
        yield Update("network", loss, _count(targets))

    def judge(self, batch: Batch) -> Outcome:
        """Cross-entropy in nats per token, and the scores of every token that is to be predicted."""
        codes, targets = batch
        scores, _, _, after = self.network.run(codes, self.carried)
        self.carried = detached(after)
        wanted = targets != NOTHING
        return Outcome(
            _cross_entropy(scores, targets), _count(targets), scores[wanted].float(), targets[wanted]
        )

    def state(self) -> dict[str, Any]:
        """What is carried; nothing at the beginning of an epoch."""
        return {"carried": None if self.carried is None else [list(held) for held in self.carried]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue in mid-text."""
        held = state["carried"]
        if held is None:
            self.carried = None
            return
        device = next(self.network.parameters()).device
        self.carried = [tuple(each.to(device).clone() for each in layer) for layer in held]


def token_accuracy() -> Average:
    """Share of the tokens that were thought likeliest of all."""
    return Average(lambda scores, targets: (scores.argmax(1) == targets).float())


def token_loss() -> Average:
    """Cross-entropy in nats per token."""
    return Average(lambda scores, targets: F.cross_entropy(scores, targets, reduction="none"))


def _cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1).float(), targets.flatten(), ignore_index=NOTHING)


def _count(targets: Tensor) -> int:
    return int(torch.count_nonzero(targets != NOTHING))
