"""Our AdamW ends in the bits of torch's, step by step, and goes on from either's state."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn, optim

from models.adamw import AdamW

BETAS, EPS = (0.9, 0.99), 1e-5
Make = Callable[[nn.Module], Any]


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(5 * 36, 7), nn.Linear(7, 2)
    )


def groups(net: nn.Module) -> list[dict[str, Any]]:
    """The first layers decayed little, the others much."""
    parameters = list(net.parameters())
    return [
        {"params": parameters[:4], "weight_decay": 0.01, "layer": 0},
        {"params": parameters[4:], "weight_decay": 0.1, "layer": 1},
    ]


def ours(net: nn.Module) -> AdamW:
    return AdamW(groups(net), betas=BETAS, eps=EPS)


def theirs(net: nn.Module) -> optim.AdamW:
    return optim.AdamW(groups(net), lr=0.0, betas=BETAS, eps=EPS, fused=True)


def gradients(net: nn.Module, *, steps: range, resting: tuple[int, ...] = ()) -> Iterator[int]:
    """Sets drawn gradients step by step; the parameters at `resting` have none in every other step."""
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        for place, parameter in enumerate(net.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=draw)
            if place in resting and step % 2:
                parameter.grad = None
        yield step


def descend(net: nn.Module, optimiser: Any, steps: range, resting: tuple[int, ...] = ()) -> None:
    """With a rate and a momentum that move, as a one-cycle schedule moves them."""
    for step in gradients(net, steps=steps, resting=resting):
        for number, group in enumerate(optimiser.param_groups):
            group["lr"], group["betas"] = 1e-2 / (1 + step + number), (0.95 - step / 200, 0.99)
        optimiser.step()


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in net.parameters()]


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, in nested dicts and lists as well."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("resting", [(), (1,), (0, 1, 2, 3), (2, 5, 7)], ids=str)
def test_the_bits_are_those_of_torch(resting: tuple[int, ...]) -> None:
    first, second = network(), network()
    one, other = ours(first), theirs(second)
    before = weights(network())
    descend(first, one, range(20), resting)
    descend(second, other, range(20), resting)
    assert same(weights(first), weights(second))
    assert not same(weights(first), before)
    assert same(one.state_dict()["state"], other.state_dict()["state"])


@pytest.mark.parametrize("resting", [(), (1, 6)], ids=str)
@pytest.mark.parametrize(("before", "after"), [(ours, ours), (ours, theirs), (theirs, ours)])
def test_each_goes_on_from_the_state_of_the_other(
    before: Make, after: Make, resting: tuple[int, ...]
) -> None:
    whole = network()
    descend(whole, ours(whole), range(12), resting)
    net = network()
    first = before(net)
    descend(net, first, range(5), resting)
    second = after(net)
    held = second.state_dict() | {"state": first.state_dict()["state"]}
    second.load_state_dict(held)
    descend(net, second, range(5, 12), resting)
    assert same(weights(net), weights(whole))


def test_a_parameter_that_never_had_a_gradient_keeps_its_bits() -> None:
    net = network()
    before = [each.clone() for each in weights(net)]
    for _ in gradients(net, steps=range(3)):
        next(net.parameters()).grad = None
        optimiser = ours(net)
        optimiser.param_groups[0]["lr"] = optimiser.param_groups[1]["lr"] = 0.1
        optimiser.step()
    assert [torch.equal(one, other) for one, other in zip(weights(net), before, strict=True)] == [
        True, *[False] * 7
    ]  # fmt: skip


def test_a_state_does_not_change_with_the_next_step_but_for_its_moments() -> None:
    net = network()
    optimiser = ours(net)
    descend(net, optimiser, range(3))
    held = optimiser.state_dict()
    descend(net, optimiser, range(3, 5))
    assert {float(each["step"]) for each in held["state"].values()} == {3.0}
    assert held["state"][0]["exp_avg"].data_ptr() == optimiser.state_dict()["state"][0]["exp_avg"].data_ptr()


def test_a_state_of_other_groups_is_an_error() -> None:
    net = network()
    other = AdamW([{"params": list(net.parameters()), "weight_decay": 0.0}], betas=BETAS, eps=EPS)
    with pytest.raises(ValueError, match=r"groups of \[4, 4\] parameters, these have \[8\]"):
        other.load_state_dict(ours(net).state_dict())
