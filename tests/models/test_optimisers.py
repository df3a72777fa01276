"""The course's constants, what weight decay spares, and constants without effect."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn, optim

from models.adamw import AdamW
from models.optimisers import build_optimiser, set_pace
from models.phases import freeze
from models.settings import OptimiserSettings
from tests.models.test_fit import Grouped


def test_adamw_has_the_constants_of_fastai() -> None:
    optimiser = build_optimiser(OptimiserSettings(), Grouped().parameter_groups())
    assert isinstance(optimiser, AdamW)
    assert {(group["betas"], group["eps"]) for group in optimiser.param_groups} == {((0.9, 0.99), 1e-5)}


def test_weight_decay_spares_norms_and_biases_unless_asked() -> None:
    net = Grouped()
    names = {id(parameter): name for name, parameter in net.named_parameters()}

    def decayed(settings: OptimiserSettings) -> set[str]:
        groups = build_optimiser(settings, net.parameter_groups()).param_groups
        held = [names[id(each)] for group in groups for each in group["params"]]
        assert sorted(held) == sorted(names.values())
        return {names[id(each)] for group in groups if group["weight_decay"] for each in group["params"]}

    assert decayed(OptimiserSettings()) == {"body.0.weight", "head.weight"}
    assert decayed(OptimiserSettings(decay_norms_and_biases=True)) == set(names.values())


def test_frozen_parameters_are_left_out_and_all_frozen_is_an_error() -> None:
    net = Grouped()
    freeze(net, 1)
    groups = build_optimiser(OptimiserSettings(), net.parameter_groups()).param_groups
    assert sum(len(group["params"]) for group in groups) == 4
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter is frozen"):
        build_optimiser(OptimiserSettings(), net.parameter_groups())


@pytest.mark.parametrize(
    ("name", "kind", "momentum"),
    [("adamw", AdamW, True), ("sgd", optim.SGD, True), ("rmsprop", optim.RMSprop, False)],
)
def test_rates_and_momentum_are_set_by_group(name: str, kind: type, momentum: bool) -> None:
    settings = OptimiserSettings.model_validate({"name": name})
    optimiser = build_optimiser(settings, Grouped().parameter_groups())
    assert isinstance(optimiser, kind)
    assert settings.has_momentum() == momentum
    set_pace(optimiser, (0.1, 0.2), 0.85)
    assert [group["lr"] for group in optimiser.param_groups] == [0.1, 0.1, 0.2, 0.2]
    assert {group.get("momentum", group.get("betas", [0])[0]) for group in optimiser.param_groups} == {0.85}


def test_a_tied_parameter_is_stepped_once() -> None:
    one, two = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    two.weight = one.weight
    optimiser = build_optimiser(OptimiserSettings(), [[one], [two]])
    assert [len(group["params"]) for group in optimiser.param_groups] == [1]
    assert torch.equal(optimiser.param_groups[0]["params"][0], one.weight)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "adamw", "momentum": 0.9},
        {"name": "adamw", "nesterov": True},
        {"name": "sgd", "epsilon": 1e-5},
        {"name": "sgd", "square_decay": 0.9},
        {"name": "rmsprop", "momentum_decay": 0.9},
    ],
)
def test_a_constant_that_has_no_effect_is_an_error(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=f"has no effect on {settings['name']}; it uses"):
        OptimiserSettings.model_validate(settings)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValidationError, match="nesterov needs momentum"):
        OptimiserSettings(name="sgd", momentum=0.0, nesterov=True)
