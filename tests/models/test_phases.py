"""Schedules by their formulas, rates by layer group, and settings that refuse what has no effect."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from models.objective import Supervised
from models.phases import (
    PhaseSettings,
    build_phase,
    constant,
    cosine_restarts,
    freeze,
    layer_groups,
    one_cycle,
    spread,
)
from tests.models.test_fit import Grouped
from tests.models.toy import phase, sgd


def test_one_cycle_is_that_of_fastai() -> None:
    """Against fastai v1's Scheduler: step n of m is at end + (start - end) / 2 * (cos(pi n / m) + 1)."""

    def annealed(start: float, end: float, steps: int) -> list[float]:
        return [end + (start - end) / 2 * (math.cos(math.pi * n / steps) + 1) for n in range(steps)]

    steps, peak = 50, 3e-3
    rising = int(steps * 0.3)
    rates = annealed(peak / 25, peak, rising) + annealed(peak, peak / 25e4, steps - rising)
    momenta = annealed(0.95, 0.85, rising) + annealed(0.85, 0.95, steps - rising)
    paces = [one_cycle()(step, steps, 10) for step in range(steps)]
    assert [peak * pace.factor for pace in paces] == pytest.approx(rates, rel=1e-9)
    assert [pace.momentum for pace in paces] == pytest.approx(momenta)
    assert paces[rising].factor == 1.0


def test_one_cycle_is_near_torchs_own() -> None:
    """torch lets the last step reach the end of the cosine, fastai would reach it one step later."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1.0, total_steps=1000, final_div_factor=1e4
    )
    ours, theirs = [], []
    for step in range(1000):
        ours.append(one_cycle()(step, 1000, 100).factor)
        theirs.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 0.006


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_cycle_of_very_few_steps_stays_within_its_bounds(steps: int) -> None:
    for step in range(steps):
        pace = one_cycle()(step, steps, 1)
        assert 1 / 2.5e5 <= pace.factor <= 1
        assert pace.momentum is not None
        assert 0.85 <= pace.momentum <= 0.95


def test_cosine_restarts_at_each_cycle() -> None:
    schedule = cosine_restarts(length=1, multiplier=2)
    factors = [schedule(step, 70, 10).factor for step in range(70)]
    assert [step for step, factor in enumerate(factors) if factor == 1.0] == [0, 10, 30]
    assert factors[5] == pytest.approx(0.5)
    assert factors[20] == pytest.approx(0.5)
    assert factors[69] < 0.01


def test_a_constant_rate_is_constant() -> None:
    assert {constant()(step, 9, 3).factor for step in range(9)} == {1.0}


def test_rates_spread_as_in_fastai() -> None:
    assert spread([1e-3], 3) == (1e-3, 1e-3, 1e-3)
    assert spread([1e-3], 3, earlier=10) == pytest.approx((1e-4, 1e-4, 1e-3))
    assert spread([1e-6, 1e-4], 3) == pytest.approx((1e-6, 1e-5, 1e-4))
    assert spread([1e-6, 1e-5, 1e-3], 3) == (1e-6, 1e-5, 1e-3)
    with pytest.raises(ValueError, match="3 rates for a network of 4 layer groups"):
        spread([1e-6, 1e-5, 1e-3], 4)
    with pytest.raises(ValueError, match="one layer group"):
        spread([1e-6, 1e-3], 1)


def test_settings_become_a_phase() -> None:
    objective = Supervised(Grouped(), nn.functional.cross_entropy)
    settings = PhaseSettings.model_validate({"epochs": 2, "rates": [1e-4, 1e-2], "freeze": "body"})
    built = build_phase(settings, objective, name="a")
    assert built.rates_of("network") == (1e-4, 1e-2)
    assert built.frozen_of("network") == 1
    assert built.schedule(0, 10, 5).factor == pytest.approx(1 / 25)
    late = PhaseSettings(epochs=1, rates=(1e-2,), warm=0.8, size=64)
    built = build_phase(late, objective, name="b")
    assert built.schedule(8, 10, 5).factor == 1.0
    assert built.size == 64
    ulmfit = PhaseSettings.model_validate({"epochs": 1, "rates": [1e-2], "momenta": [0.8, 0.7]})
    built = build_phase(ulmfit, objective, name="c")
    assert built.schedule(0, 10, 5).momentum == pytest.approx(0.8)
    assert built.schedule(3, 10, 5).momentum == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm": 0.3, "schedule": "constant"}, "warm has no effect on the schedule constant"),
        ({"momenta": [0.8, 0.7], "schedule": "constant"}, "momenta has no effect on the schedule constant"),
        ({"momenta": [0.8, 1.0]}, "momenta must be at least 0 and below 1"),
        ({"cycle_length": 2}, "cycle_length has no effect on the schedule one_cycle"),
        ({"rates": [1e-3, 1e-2], "earlier": 10.0}, "earlier has no effect"),
        ({"rates": [0.0]}, "must be above 0"),
        ({"rates": []}, "at least 1"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"schedule": "cosine_restarts", "epochs": 2, "cycle_multiplier": 2}, "3 would complete it"),
        ({"freeze": "head"}, "freeze"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_settings_without_effect_or_sense_are_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PhaseSettings.model_validate({"epochs": 1, "rates": [1e-3]} | settings)


@pytest.mark.parametrize(("freeze_to", "frozen"), [("none", 0), ("body", 1), (1, 1), (-1, 1), (0, 0)])
def test_freezing_counts_layer_groups(freeze_to: str | int, frozen: int) -> None:
    settings = PhaseSettings.model_validate({"epochs": 1, "rates": [1e-3], "freeze": freeze_to})
    built = build_phase(settings, Supervised(Grouped(), nn.functional.cross_entropy), name="a")
    assert built.frozen_of("network") == frozen


def test_freezing_what_is_not_there_is_an_error() -> None:
    flat = Supervised(nn.Linear(2, 2), nn.functional.cross_entropy)
    with pytest.raises(ValueError, match="no body to freeze"):
        build_phase(PhaseSettings(epochs=1, rates=(1e-3,), freeze="body"), flat, name="a")
    grouped = Supervised(Grouped(), nn.functional.cross_entropy)
    with pytest.raises(ValueError, match="2 layer groups: 0 to 1"):
        build_phase(PhaseSettings(epochs=1, rates=(1e-3,), freeze=2), grouped, name="a")


def test_freezing_spares_batch_norms() -> None:
    net = Grouped()
    freeze(net, 1)
    learning = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    assert learning == ["body.1.weight", "body.1.bias", "head.weight", "head.bias"]
    freeze(net, 0)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_module_without_groups_is_one_group() -> None:
    net = nn.Linear(1, 1)
    assert layer_groups(net) == [[net]]
    assert phase(net, optimiser=sgd()).optimiser_of("network").name == "sgd"
