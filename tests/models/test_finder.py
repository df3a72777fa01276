"""The finder finds a rate that trains, and leaves no trace."""

from itertools import pairwise

import pytest
import torch

from models.finder import find_rate, read_curve
from models.fit import fit
from models.phases import constant
from tests.models.toy import Tensors, bits, network, phase, same, two_classes


def test_finds_a_rate_that_trains_and_restores_everything() -> None:
    net = network()
    only = phase(net)
    weights, random = bits(net), torch.get_rng_state()
    curve = find_rate(only, same(two_classes(256)), seed=1)
    assert bits(net) == weights
    assert torch.equal(torch.get_rng_state(), random)
    assert curve.rates[0] == pytest.approx(1e-7)
    assert curve.rates[-1] <= 10
    assert all(b / a == pytest.approx(10 ** (8 / 99)) for a, b in pairwise(curve.rates))
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed)
    for rate in (curve.steepest, curve.minimum, curve.valley):
        assert 1e-4 < rate < 1
    losses = {}
    for rate in (1e-6, curve.valley):
        candidate = phase(network(), epochs=25, rates=(rate,), schedule=constant())
        losses[rate] = fit([candidate], same(two_classes(256)), seed=1).rows[-1]["valid_loss"]
    assert losses[curve.valley] < 0.6 < losses[1e-6]


def test_stops_where_the_loss_explodes() -> None:
    curve = find_rate(phase(network()), same(two_classes(256)), seed=1, high=1e6)
    assert len(curve.rates) < 100
    assert max(curve.smoothed) <= 4 * min(curve.smoothed)


def test_layer_groups_keep_the_ratio_of_their_rates() -> None:
    from tests.models.test_fit import Grouped

    curve = find_rate(phase(Grouped(), rates=(1e-4, 1e-2)), same(two_classes()), seed=1, steps=20)
    assert curve.rates[0] == pytest.approx(1e-7)


def test_suggestions_of_a_curve_drawn_by_hand() -> None:
    losses = [2.0] * 10 + [1.9, 1.7, 1.2, 0.9, 0.8, 0.79, 0.9, 3.0]
    rates = [10.0 ** (-7 + place / 2) for place in range(len(losses))]
    curve = read_curve(rates, losses, losses)
    assert curve.steepest in rates[11:14]
    assert curve.minimum == rates[15] / 10
    assert rates[9] < curve.valley < rates[15]


def test_a_loss_that_is_never_finite_is_an_error_and_leaves_no_trace() -> None:
    net = network()
    weights = bits(net)
    x, y = two_classes().tensors
    with pytest.raises(ValueError, match="not finite from the start"):
        find_rate(phase(net), same(Tensors(x * float("nan"), y)), seed=1)
    assert bits(net) == weights
