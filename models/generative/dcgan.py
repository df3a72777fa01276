"""DCGAN (Radford 2015) in the course's form: noise to pictures, and pictures to a score."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.generative.settings import AdversarialNetworkSettings, WassersteinSettings, doublings

SLOPE = 0.2
"""Of LeakyReLU below zero, in both networks (course; DCGAN has it in the critic only)."""

FIRST_DEVIATION = 0.02
"""Deviation of the first weights, normal around zero (Radford 2015, 4)."""


class Generator(nn.Sequential):
    """Noise (N, `noise`) to pictures (N, C, size, size) in [-1, 1]."""

    def __init__(self, settings: AdversarialNetworkSettings, *, channels: int, size: int) -> None:
        side, times = doublings(size)
        width = settings.features * 2 ** (times - 1)
        layers: list[nn.Module] = [
            nn.Unflatten(1, (settings.noise, 1, 1)),
            *_layer(nn.ConvTranspose2d(settings.noise, width, side, bias=False)),
        ]
        for _ in range(times - 1):
            layers += _layer(nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1, bias=False))
            width //= 2
        for _ in range(settings.extra_layers):
            layers += _layer(nn.Conv2d(width, width, 3, padding=1, bias=False))
        layers += [nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1, bias=False), nn.Tanh()]
        super().__init__(*layers)


class Critic(nn.Sequential):
    """Pictures (N, C, size, size) in [-1, 1] to a score (N,), without bounds: higher for more real."""

    def __init__(
        self, settings: AdversarialNetworkSettings, *, channels: int, size: int, norm: bool = True
    ) -> None:
        side, times = doublings(size)
        width = settings.features
        first = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        layers: list[nn.Module] = [*_layer(first, norm=False)]
        for _ in range(settings.extra_layers):
            layers += _layer(nn.Conv2d(width, width, 3, padding=1, bias=not norm), norm=norm)
        for _ in range(times - 1):
            deeper = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=not norm)
            layers += _layer(deeper, norm=norm)
            width *= 2
        super().__init__(*layers, nn.Conv2d(width, 1, side, bias=False), nn.Flatten(0))


def _layer(convolution: nn.Conv2d | nn.ConvTranspose2d, *, norm: bool = True) -> list[nn.Module]:
    """Convolution, batch norm, LeakyReLU."""
    norms = [nn.BatchNorm2d(convolution.out_channels)] if norm else []
    return [convolution, *norms, nn.LeakyReLU(SLOPE, inplace=True)]


class Adversaries(nn.Module):
    """Both networks in one, so that one file of weights holds them; as a whole it is the generator.

    Pictures outside are in [0, 1], as everywhere in the project; those between the two are in [-1, 1].
    """

    def __init__(
        self, settings: AdversarialNetworkSettings, *, channels: int, size: int, norm: bool = True
    ) -> None:
        """`norm`: batch norms in the critic. ValueError for a size that cannot be halved down to 4 to 7."""
        super().__init__()
        self.noise = settings.noise
        self.generator = Generator(settings, channels=channels, size=size)
        self.critic = Critic(settings, channels=channels, size=size, norm=norm)
        self.apply(_initialise)

    def forward(self, noise: Tensor) -> Tensor:
        """Noise (N, `noise`) to pictures (N, C, size, size) in [0, 1]."""
        made: Tensor = self.generator(noise)
        return (made + 1) / 2


def build_adversaries(
    network: AdversarialNetworkSettings,
    wasserstein: WassersteinSettings,
    *,
    channels: int,
    size: int,
    seed: int | None = None,
) -> Adversaries:
    """Both networks with random weights, from torch's generator or, leaving that alone, from `seed`; under a
    penalty the critic has no batch norm."""
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_adversaries(network, wasserstein, channels=channels, size=size)
    return Adversaries(network, channels=channels, size=size, norm=not wasserstein.penalty)


class FromNoise(nn.Module):
    """The generator alone, for its export: noise (N, `noise`) to pictures (N, C, size, size) in [0, 1]."""

    def __init__(self, network: Adversaries) -> None:
        super().__init__()
        self.generator = network.generator

    def forward(self, noise: Tensor) -> Tensor:
        """Make pictures."""
        made: Tensor = self.generator(noise)
        return (made + 1) / 2


def start_from(network: Adversaries, state: Mapping[str, Tensor]) -> list[str]:
    """Load both networks of another training; returns the names. ValueError where they are others."""
    own = network.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if wrong or len(own) != len(state):
        raise ValueError(
            f"starts_from: no generator and critic of these settings lie there: {len(wrong)} of {len(own)}"
            " tensors are missing or of another shape; network, size and channels must be the same"
        )
    network.load_state_dict(dict(state))
    return list(own)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, FIRST_DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def draw_noise(count: int, width: int, *, seed: int | None = None) -> Tensor:
    """Standard normal noise (count, width) on the CPU: of `seed`, or from torch's global generator."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator)


@torch.no_grad()
def make_pictures(network: nn.Module, noise: Tensor, *, batch_size: int = 256) -> Tensor:
    """Pictures (N, C, size, size) in [0, 1] on the CPU, in evaluation mode; the mode is left as it was."""
    before = network.training
    network.eval()
    here = next(network.parameters()).device
    made = [network(some.to(here)).float().cpu() for some in torch.split(noise, batch_size)]
    network.train(before)
    return torch.cat(made)
