"""Whatever the moment of the kill: continuing ends in the same bits as a training without it."""

from typing import Any

import pytest
import torch
from torch import nn

from models.fit import History, fit
from models.phases import Phase, constant
from tests.models.test_fit import Grouped, overfit
from tests.models.toy import bits, load, network, phase, same, sgd, shelf, two_classes


def plan(net: nn.Module) -> list[Phase]:
    """Three phases with other optimisers, the first frozen."""
    return [
        phase(net, name="frozen", epochs=2, rates=(1e-2, 1e-2), frozen=1),
        phase(net, name="whole", epochs=2, rates=(1e-3, 1e-2)),
        phase(net, name="last", epochs=1, rates=(1e-3, 1e-3), optimiser=sgd(momentum=0.9)),
    ]


class Dropping(Grouped):
    """With dropout, so that the generator's state matters."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(nn.functional.dropout(self.body(x), 0.3, self.training))
        return logits


def run(save: Any = None, resume: Any = None, **settings: Any) -> tuple[list[bytes], History]:
    """As a new process would: new modules, new phases, and torch's generator wherever it is."""
    net = Dropping()
    torch.seed()
    history = fit(
        plan(net),
        lambda _: overfit(),
        seed=7,
        save=save,
        save_every=0.0,
        resume=resume,
        **settings,
    )
    return bits(net), history


@pytest.mark.parametrize("keep", ["last", "best"])
def test_continuing_from_any_moment_ends_in_the_same_bits(keep: str) -> None:
    kept, save = shelf()
    weights, history = run(save, keep=keep)
    assert run(keep=keep) == (weights, history)  # saving changes nothing
    positions = [load(stored)["position"] for stored in kept]
    assert len(kept) == 5 * 4 + 5  # after every step, and after every epoch
    assert {(at["phase"], at["step"] > 0) for at in positions} >= {(0, True), (1, False), (2, True)}
    for stored in kept:
        assert run(resume=load(stored), keep=keep) == (weights, history)


def test_continuing_keeps_count_of_patience() -> None:
    def train(save: Any = None, resume: Any = None) -> tuple[list[bytes], History]:
        net = Dropping()
        phases = [
            phase(net, epochs=50, rates=(3e-2, 3e-2), schedule=constant()),
            phase(net, name="next", epochs=1, rates=(3e-2, 3e-2)),
        ]
        history = fit(
            phases,
            lambda _: overfit(),
            seed=7,
            keep="best",
            patience=3,
            save=save,
            save_every=0.0,
            resume=resume,
        )
        return bits(net), history

    kept, save = shelf()
    weights, history = train(save)
    assert 4 < len(history.rows) < 20  # it did stop early
    for stored in kept[::5]:
        assert train(resume=load(stored)) == (weights, history)


def test_continuing_in_bf16_and_channels_last_ends_in_the_same_bits() -> None:
    def train(save: Any = None, resume: Any = None) -> list[bytes]:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(8, 2),
        )  # fmt: skip
        draw = torch.Generator().manual_seed(0)
        images = two_classes(48)
        images.tensors = (torch.rand(48, 3, 8, 8, generator=draw), images.tensors[1])
        fit(
            [phase(net, epochs=2)],
            same(images),
            seed=7,
            precision="bf16",
            channels_last=True,
            save=save,
            save_every=0.0,
            resume=resume,
        )
        return bits(net)

    kept, save = shelf()
    straight = train(save)
    assert all(train(resume=load(stored)) == straight for stored in kept)


def test_a_finished_training_is_not_trained_again() -> None:
    kept, save = shelf()
    weights, history = run(save)
    more, save_again = shelf()
    assert run(save_again, resume=load(kept[-1])) == (weights, history)
    assert more == []


def test_inside_an_epoch_states_are_saved_by_the_clock() -> None:
    kept, save = shelf()
    fit([phase(network(), epochs=3)], same(two_classes()), seed=1, save=save, save_every=3600.0)
    assert [load(stored)["position"]["epochs"] for stored in kept] == [1, 2, 3]


def test_the_state_of_another_training_is_refused() -> None:
    kept, save = shelf()
    run(save)
    with pytest.raises(ValueError, match=r"belongs to another training.*remove the checkpoint"):
        fit([phase(network())], same(two_classes()), seed=7, resume=load(kept[0]))
