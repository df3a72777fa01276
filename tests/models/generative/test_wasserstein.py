"""The turns of critic and generator: their order, their bounds, and that they go on after a stop."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.fit import fit
from models.generative.dcgan import Adversaries, build_adversaries
from models.generative.settings import AdversarialNetworkSettings, WassersteinSettings
from models.generative.wasserstein import Wasserstein
from models.phases import Phase, constant
from models.settings import OptimiserSettings
from tests.models.toy import Tensors, bits, load, shelf

ADAM = OptimiserSettings(weight_decay=0.0, momentum_decay=0.0)


def corners(count: int = 96) -> Tensors:
    """Pictures of 8 pixels that are bright in one corner, more or less."""
    pictures = torch.zeros(count, 1, 8, 8)
    brightness = 0.6 + 0.4 * torch.rand(count, 1, 1, generator=torch.Generator().manual_seed(1))
    pictures[:, 0, :4, :4] = brightness
    return Tensors(pictures, size=16)


def objective(seed: int = 0, **settings: Any) -> Wasserstein:
    turns = WassersteinSettings.model_validate(settings)
    network = build_adversaries(
        AdversarialNetworkSettings(noise=4, features=4), turns, channels=1, size=8, seed=seed
    )
    return Wasserstein(network, turns)


def phase(turns: Wasserstein, epochs: int, *, rate: float = 1e-2, optimiser: Any = ADAM) -> Phase:
    return Phase(
        name="turns", objective=turns, epochs=epochs, rates=(rate,), schedule=constant(), optimiser=optimiser
    )


def order(turns: Wasserstein, batches: int) -> str:
    batch = (torch.rand(4, 1, 8, 8),)
    return " ".join("".join(update.name[0] for update in turns.updates(batch)) for _ in range(batches))


def test_the_generator_steps_after_every_fifth_step_of_the_critic() -> None:
    assert order(objective(), 11) == "c c c c cg c c c c cg c"
    assert order(objective(critic_steps=1), 3) == "cg cg cg"


def test_at_the_start_the_critic_may_get_ahead() -> None:
    turns = objective(opening=2)
    steps = order(turns, 210).split()
    assert [place + 1 for place, step in enumerate(steps) if step == "cg"] == [100, 200, 205, 210]


def test_after_each_step_the_critic_s_weights_are_bound() -> None:
    turns = objective(clamp=0.02)
    fit([phase(turns, 2, rate=0.1)], lambda _: (corners(), None), seed=1)
    largest = max(parameter.abs().max().item() for parameter in turns.network.critic.parameters())
    assert largest == pytest.approx(0.02)
    assert max(parameter.abs().max().item() for parameter in turns.network.generator.parameters()) > 0.02


def test_a_penalty_brings_the_critic_s_slope_to_one() -> None:
    turns = objective(clamp=None, penalty=10.0)
    real, made = torch.rand(32, 1, 8, 8), torch.rand(32, 1, 8, 8)
    before = turns.steepness(real, made).item()
    fit([phase(turns, 12)], lambda _: (corners(), None), seed=1)
    assert before > 0.5
    assert turns.steepness(real, made).item() < before / 2


def mean_picture(network: Adversaries) -> Tensor:
    with torch.no_grad():
        return network.eval()(torch.randn(64, 4, generator=torch.Generator().manual_seed(5))).mean((0, 1))


@pytest.mark.parametrize("settings", [{"clamp": 0.05}, {"clamp": None, "penalty": 10.0}])
def test_what_is_made_moves_towards_the_data(settings: dict[str, Any]) -> None:
    turns = objective(critic_steps=2, **settings)
    wanted = corners().tensors[0].mean((0, 1))
    before = (mean_picture(turns.network) - wanted).abs().mean()
    history = fit([phase(turns, 25)], lambda _: (corners(), corners()), seed=1)
    assert (mean_picture(turns.network) - wanted).abs().mean() < before / 3
    assert set(history.rows[0]) >= {"train_loss_critic", "train_loss_generator", "valid_loss"}


def test_two_optimisers_by_name() -> None:
    turns = objective()
    rms = OptimiserSettings(name="rmsprop", weight_decay=0.0)
    both = phase(turns, 1, optimiser={"critic": rms, "generator": ADAM})
    fit([both], lambda _: (corners(), None), seed=1)


@pytest.mark.parametrize("settings", [{}, {"clamp": None, "penalty": 10.0}])
def test_stopped_anywhere_it_ends_in_the_same_bits(settings: dict[str, Any]) -> None:
    straight, (kept, save) = objective(**settings), shelf()
    loaders = lambda _: (corners(), corners())  # noqa: E731
    whole = fit([phase(straight, 2)], loaders, seed=1, save=save, save_every=0.0)
    assert len(kept) >= 12
    for stored in kept:
        again = objective(seed=9, **settings)
        history = fit([phase(again, 2)], loaders, seed=1, resume=load(stored))
        assert bits(again.network) == bits(straight.network)
        assert history.rows == whole.rows


def test_judging_draws_the_same_noise_every_time_and_leaves_torch_s_alone() -> None:
    turns = objective()
    batch = (torch.rand(4, 1, 8, 8),)
    before = torch.get_rng_state()
    turns.network.eval()
    made = []
    for _ in range(2):
        turns.start_epoch()
        made.append(turns.judge(batch).outputs)
    assert torch.equal(made[0], made[1])
    assert torch.equal(torch.get_rng_state(), before)
