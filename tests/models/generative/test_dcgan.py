"""The two networks: shapes, ranges, the course's widths, and weights that fit or are refused."""

import pytest
import torch
from torch import nn

from models.generative.dcgan import FromNoise, build_adversaries, draw_noise, make_pictures, start_from
from models.generative.settings import AdversarialNetworkSettings, WassersteinSettings, doublings

SMALL = AdversarialNetworkSettings(noise=6, features=4)
CLAMPED = WassersteinSettings()
PENALISED = WassersteinSettings(clamp=None, penalty=10.0)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (40, 1), (64, 3)])
def test_noise_becomes_pictures_and_pictures_become_scores(size: int, channels: int) -> None:
    network = build_adversaries(SMALL, CLAMPED, channels=channels, size=size)
    pictures = network(draw_noise(5, 6))
    assert pictures.shape == (5, channels, size, size)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert network.critic(pictures * 2 - 1).shape == (5,)


def test_the_course_s_networks_at_64_pixels() -> None:
    network = build_adversaries(AdversarialNetworkSettings(), CLAMPED, channels=3, size=64)
    made = [layer for layer in network.generator if isinstance(layer, nn.ConvTranspose2d | nn.Conv2d)]
    seen = [layer for layer in network.critic if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in made] == [512, 256, 128, 64, 64, 3]
    assert [layer.out_channels for layer in seen] == [64, 64, 128, 256, 512, 1]


@pytest.mark.parametrize("size", [4, 9, 30, 36, 60, 100])
def test_sizes_that_cannot_be_doubled_into_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"a picture of {size} pixels cannot be halved down to 4 to 7"):
        doublings(size)


def test_the_first_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(3)
    expected = build_adversaries(SMALL, CLAMPED, channels=1, size=28).state_dict()
    before = torch.get_rng_state()
    again = build_adversaries(SMALL, CLAMPED, channels=1, size=28, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(again[name], value) for name, value in expected.items())


def test_under_a_penalty_the_critic_looks_at_each_picture_alone() -> None:
    critic = build_adversaries(SMALL, PENALISED, channels=1, size=28).critic
    assert not [layer for layer in critic.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_making_pictures_leaves_the_mode_and_does_not_depend_on_the_batch() -> None:
    network = build_adversaries(SMALL, CLAMPED, channels=1, size=28).train()
    noise = draw_noise(7, 6, seed=1)
    whole = make_pictures(network, noise)
    assert network.training
    torch.testing.assert_close(make_pictures(network, noise, batch_size=2), whole)
    torch.testing.assert_close(FromNoise(network).eval()(noise), whole)


def test_it_starts_from_networks_of_the_same_settings_only() -> None:
    one, other = (build_adversaries(SMALL, CLAMPED, channels=1, size=28, seed=seed) for seed in (1, 2))
    assert set(start_from(one, other.state_dict())) == set(one.state_dict())
    assert all(torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())
    coloured = build_adversaries(SMALL, CLAMPED, channels=3, size=28)
    with pytest.raises(ValueError, match="no generator and critic of these settings lie there: 2 of"):
        start_from(coloured, other.state_dict())


@pytest.mark.parametrize("wrong", [{"clamp": None}, {"penalty": 10.0}, {"clamp": None, "penalty": 0.0}])
def test_the_critic_is_bound_in_one_way(wrong: dict[str, float | None]) -> None:
    with pytest.raises(ValueError, match="give either clamp or penalty"):
        WassersteinSettings.model_validate(wrong)
