"""Networks for ratings: what they compute, how they begin, and what an unknown row is."""

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from models.objective import Supervised
from models.optimisers import build_optimiser
from models.phases import layer_groups
from models.ratings.embeddings import Dot, DotBias, Net, Network, build_network, start_from
from models.ratings.settings import NetworkSettings
from models.settings import OptimiserSettings


def build(**settings: Any) -> Network:
    torch.manual_seed(0)
    chosen = NetworkSettings.model_validate({"factors": 4, **settings})
    return build_network(chosen, users=5, items=7, lowest=0.5, highest=5.0)


ALL = [{"name": "dot"}, {"name": "dot_bias"}, {"name": "net"}]


@pytest.mark.parametrize("settings", ALL)
def test_codes_become_one_rating_each(settings: dict[str, Any]) -> None:
    network = build(**settings).eval()
    ratings = network(torch.tensor([1, 5, 0]), torch.tensor([7, 0, 0]))
    assert ratings.shape == (3,)
    assert ratings.dtype == torch.float32


@pytest.mark.parametrize("settings", ALL)
def test_an_unknown_user_is_the_mean_of_the_known_ones(settings: dict[str, Any]) -> None:
    network = build(**settings).eval()
    table = network.user_factors
    expected = table.weight.mean(dim=0)
    assert torch.allclose(table(torch.tensor([0]))[0], expected)
    assert torch.equal(table(torch.tensor([3]))[0], table.weight[2])


@pytest.mark.parametrize("settings", ALL)
def test_known_rows_are_the_same_in_both_modes(settings: dict[str, Any]) -> None:
    network = build(**settings)
    table, codes = network.item_factors, torch.tensor([1, 7, 2])
    assert torch.equal(table.train()(codes), table.eval()(codes))


def test_the_dot_product_with_biases_is_computed_as_written() -> None:
    network = build(name="dot_bias", y_range=[0, 5.5])
    assert isinstance(network, DotBias)
    user, item = network.user_factors.weight[1], network.item_factors.weight[3]
    score = (user * item).sum() + network.user_bias.weight[1, 0] + network.item_bias.weight[3, 0]
    given = network(torch.tensor([2]), torch.tensor([4]))[0]
    assert torch.allclose(given, torch.sigmoid(score) * 5.5)


def test_the_range_follows_from_the_ratings() -> None:
    network = build(name="dot_bias")
    assert isinstance(network, DotBias)
    assert (network.low, network.high) == (0.0, 5.5)  # the course's for ratings of 0.5 to 5


def test_they_begin_as_the_course_s_do() -> None:
    dot, bias, net = (build(**settings) for settings in ALL)
    assert isinstance(dot, Dot)
    assert dot.user_factors.weight.min() >= 0
    assert dot.user_factors.weight.max() <= 0.05
    assert isinstance(bias, DotBias)
    assert bias.item_bias.weight.abs().max() <= 0.02
    assert isinstance(net, Net)
    assert net.hidden.out_features == 10
    assert (net.first_dropout.p, net.second_dropout.p) == (0.05, 0.5)


def test_weight_decay_acts_on_the_biases_of_users_and_items() -> None:
    network = build(name="dot_bias")
    optimiser = build_optimiser(OptimiserSettings(weight_decay=0.1), layer_groups(network))
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.1]


def test_a_few_ratings_are_learned_by_heart() -> None:
    network = build(name="dot_bias", factors=8)
    users, items = torch.tensor([1, 1, 2, 2, 3]), torch.tensor([1, 2, 1, 2, 3])
    ratings = torch.tensor([5.0, 1.0, 1.0, 5.0, 3.0])
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    objective = Supervised(network, nn.MSELoss())
    for _ in range(200):
        (update,) = objective.updates((users, items, ratings))
        optimiser.zero_grad()
        update.loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert update.loss < 0.01


def test_rows_are_taken_from_an_earlier_network_by_their_names() -> None:
    earlier, network = build(name="dot_bias"), build(name="dot_bias")
    with torch.no_grad():
        for parameter in earlier.parameters():
            parameter.add_(1)
    before = copy.deepcopy(network.state_dict())
    loaded = start_from(
        network, earlier.state_dict(),
        rows={"user": [*"abcde"], "item": [*"1234567"]}, theirs={"user": [*"edxyz"], "item": [*"7654321"]},
    )  # fmt: skip
    assert len(loaded) == 4
    assert torch.equal(network.user_factors.weight[4], earlier.user_factors.weight[0])
    assert torch.equal(network.user_factors.weight[0], before["user_factors.weight"][0])
    assert torch.equal(network.item_factors.weight, earlier.item_factors.weight.flip(0))


def test_a_network_of_another_kind_is_no_start() -> None:
    names = {"user": [*"abcde"], "item": [*"1234567"]}
    for other in (build(name="dot"), build(name="dot_bias", factors=3)):
        with pytest.raises(ValueError, match="another number of factors"):
            start_from(build(name="dot_bias"), other.state_dict(), rows=names, theirs=names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "dot", "y_range": [0, 5]}, "y_range has no effect on the network dot"),
        ({"name": "dot_bias", "hidden": 3}, "hidden has no effect on the network dot_bias"),
        ({"y_range": [5, 0]}, "lowest, highest"),
        ({"name": "net", "dropouts": [0.1, 1.0]}, r"\[0, 1\)"),
    ],
)
def test_a_setting_without_effect_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NetworkSettings.model_validate(settings)
