"""The Wasserstein GAN: two networks that learn against each other, in the turns of one objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.generative.dcgan import Adversaries, draw_noise
from models.generative.settings import WassersteinSettings
from models.objective import Batch, Outcome, Update

OPENING_STEPS = 100
"""Steps of the critic before each of the generator's first ones (course of 2018, after Arjovsky 2017)."""


class Wasserstein:
    """The critic learns to score real pictures above made ones, the generator to be scored high.

    A batch is pictures (N, C, H, W) in [0, 1] first; the rest of it is not looked at. Noise of the training
    comes from torch's generator, noise of judging from the seed, the same in every epoch.
    """

    def __init__(self, network: Adversaries, settings: WassersteinSettings, *, seed: int = 0) -> None:
        self.network, self.settings, self.seed = network, settings, seed
        self.waited = 0
        """Steps of the critic since the generator's last one."""
        self.taken = 0
        """Steps of the generator."""
        self.judged = torch.Generator()

    def trainable(self) -> Mapping[str, nn.Module]:
        """Both networks."""
        return {"critic": self.network.critic, "generator": self.network.generator}

    def updates(self, batch: Batch) -> Iterator[Update]:
        """One step of the critic; after enough of them, one of the generator.

        The critic's loss is the mean score of made pictures less that of real ones: its negative estimates
        the Wasserstein distance. The generator's is the negative mean score of what it makes.
        """
        real = batch[0] * 2 - 1
        with torch.no_grad():
            made = self.make(real)
        loss = self.scores(made).mean() - self.scores(real).mean()
        if self.settings.penalty:
            loss = loss + self.settings.penalty * self.steepness(real, made)
        yield Update("critic", loss, len(real))
        if self.settings.clamp is not None:
            clamp(self.network.critic, self.settings.clamp)
        self.waited += 1
        if self.waited < (
            OPENING_STEPS if self.taken < self.settings.opening else self.settings.critic_steps
        ):
            return
        yield Update("generator", -self.scores(self.make(real)).mean(), len(real))
        self.waited, self.taken = 0, self.taken + 1

    def judge(self, batch: Batch) -> Outcome:
        """The critic's loss on held-out pictures; outputs are as many made pictures, targets the real ones,
        both in [0, 1]."""
        real = batch[0]
        noise = torch.randn(len(real), self.network.noise, generator=self.judged).to(real.device)
        made = self.network(noise).float()
        loss = self.scores(made * 2 - 1).mean() - self.scores(real * 2 - 1).mean()
        return Outcome(loss, len(real), made, real)

    def make(self, like: Tensor) -> Tensor:
        """As many pictures in [-1, 1] as `like` has."""
        noise = draw_noise(len(like), self.network.noise).to(like.device)
        made: Tensor = self.network.generator(noise)
        return made

    def scores(self, pictures: Tensor) -> Tensor:
        """The critic's score of each, in float32: their differences are small."""
        scores: Tensor = self.network.critic(pictures).float()
        return scores

    def steepness(self, real: Tensor, made: Tensor) -> Tensor:
        """Mean squared distance from 1 of the critic's slope at points between real and made pictures."""
        share = torch.rand(len(real), 1, 1, 1).to(real.device)
        between = (share * real + (1 - share) * made.float()).requires_grad_()
        (slope,) = torch.autograd.grad(self.scores(between).sum(), between, create_graph=True)
        squared: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        return squared

    def start_epoch(self) -> None:
        """Turns go on across epochs; the noise of judging starts again."""
        self.judged.manual_seed(self.seed)

    def state(self) -> dict[str, Any]:
        """Where the turns stand."""
        return {"waited": self.waited, "taken": self.taken}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with that turn."""
        self.waited, self.taken = state["waited"], state["taken"]


@torch.no_grad()
def clamp(module: nn.Module, most: float) -> None:
    """Move every parameter into [-most, most]."""
    for parameter in module.parameters():
        parameter.clamp_(-most, most)
