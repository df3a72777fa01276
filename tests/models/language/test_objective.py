"""Truncated back-propagation: the state goes on, the gradient does not, also over an interruption."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from models.fit import fit
from models.language.model import LanguageModel
from models.language.objective import NOTHING, LanguageModelling, token_accuracy, token_loss
from models.phases import build_phase
from models.settings import PhaseSettings
from tests.models.language.test_networks import TOKENS, codes, model
from tests.models.toy import bits, load, shelf


class Text:
    """A text in which every token is the one before it and one: two streams, in stretches of four."""

    def __len__(self) -> int:
        return 6

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        whole = (torch.arange(25) + torch.tensor([[0], [5]])) % TOKENS
        for step in range(start, len(self)):
            yield whole[:, 4 * step : 4 * step + 4], whole[:, 4 * step + 1 : 4 * step + 5]


def batch() -> tuple[Tensor, Tensor]:
    return codes(2, 6)[:, :-1], codes(2, 6)[:, 1:]


def test_the_state_is_carried_without_its_history() -> None:
    objective = LanguageModelling(model("lstm"))
    list(objective.updates(batch()))
    assert objective.carried is not None
    assert not any(each.requires_grad for held in objective.carried for each in held)
    carried = next(objective.updates(batch())).loss
    objective.start_epoch()
    assert objective.carried is None
    assert not torch.equal(carried, next(objective.updates(batch())).loss)


def test_what_is_behind_the_end_counts_for_nothing() -> None:
    objective = LanguageModelling(model())
    read, targets = batch()
    targets = targets.clone()
    targets[1, 2:] = NOTHING
    update = next(objective.updates((read, targets)))
    assert update.count == 7
    objective.start_epoch()
    objective.network.eval()
    outcome = objective.judge((read, targets))
    assert outcome.count == len(outcome.targets) == len(outcome.outputs) == 7
    accuracy, loss = token_accuracy(), token_loss()
    for metric in (accuracy, loss):
        metric.update(outcome.outputs, outcome.targets)
    assert loss.compute() == pytest.approx(float(outcome.loss), rel=1e-6)
    assert 0 <= accuracy.compute() <= 1


def test_both_regularisers_add_to_the_training_loss_alone() -> None:
    network = model()
    plain = next(LanguageModelling(network).updates(batch())).loss
    _, dropped, vectors, _ = network.run(batch()[0])
    activation = next(LanguageModelling(network, activation=2.0).updates(batch())).loss
    change = next(LanguageModelling(network, change=3.0).updates(batch())).loss
    assert float(activation - plain) == pytest.approx(float(2 * dropped.pow(2).mean()), rel=1e-3)
    assert float(change - plain) == pytest.approx(float(3 * vectors.diff(dim=1).pow(2).mean()), rel=1e-3)
    judged = LanguageModelling(network, activation=2.0, change=3.0).judge(batch())
    assert float(judged.loss) == pytest.approx(float(plain), rel=1e-6)


def learned(network: LanguageModel, *, epochs: int = 3, **options: Any) -> Any:
    objective = LanguageModelling(network, activation=2.0, change=1.0)
    settings = PhaseSettings(epochs=epochs, rates=(0.03,))
    phase = build_phase(settings, objective, name="all", metrics={"accuracy": token_accuracy()})
    return fit([phase], lambda phase: (Text(), Text()), seed=1, **options)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "awd_lstm"])
def test_counting_is_learned(name: str) -> None:
    history = learned(model(name, hidden=24, embedding=16), epochs=20)
    assert history.rows[-1]["valid_loss"] < 0.8 * history.rows[0]["valid_loss"]


@pytest.mark.parametrize("name", ["gru", "awd_lstm"])
def test_stopped_and_continued_in_mid_text_ends_in_the_same_bits(name: str) -> None:
    kept, save = shelf()
    whole = model(name)
    learned(whole, save=save, save_every=0.0)
    for stored in kept[1:-1:3]:
        state = load(stored)
        continued = model(name)
        learned(continued, resume=state)
        assert bits(continued) == bits(whole)
    carried = [load(stored)["objectives"][0]["carried"] for stored in kept]
    assert any(held is not None for held in carried)
