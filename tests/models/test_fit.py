"""The loop against known answers: what it learns, what it keeps, where it stops, what it shows."""

import io
from collections.abc import Mapping, Sequence
from functools import partialmethod
from typing import Any

import pytest
import torch
from torch import nn

from models.checkpoint import Position
from models.fit import fit
from models.objective import Supervised
from models.phases import Phase, constant
from models.steps import autocast, computes_bf16
from models.watchers import History, Progress, Step
from tests.models.toy import Tensors, bits, network, phase, same, sgd, two_classes


def line() -> Tensors:
    """y = 3x + 2 (lesson 2 of 2019), without noise."""
    x = torch.linspace(-1, 1, 64)[:, None]
    return Tensors(x, 3 * x + 2)


def test_finds_the_line_of_lesson_two() -> None:
    net = nn.Linear(1, 1)
    phases = [
        phase(
            net,
            objective=Supervised(net, nn.functional.mse_loss),
            epochs=40,
            rates=(0.1,),
            optimiser=sgd(),
            schedule=constant(),
            metrics={},
        )
    ]
    history = fit(phases, same(line()), seed=1)
    assert net.weight.item() == pytest.approx(3, abs=1e-3)
    assert net.bias.item() == pytest.approx(2, abs=1e-3)
    assert history.rows[-1]["valid_loss"] < 1e-6


def test_one_step_of_sgd_is_the_formula() -> None:
    net = nn.Linear(1, 1)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    batch = Tensors(torch.tensor([[2.0]]), torch.tensor([[1.0]]))
    only = phase(
        net,
        objective=Supervised(net, nn.functional.mse_loss),
        epochs=1,
        rates=(0.1,),
        optimiser=sgd(),
        schedule=constant(),
        metrics={},
    )
    fit([only], same(batch), seed=0)
    # the loss is (2w + b - 1)^2: its gradient at zero is -4 for w and -2 for b
    assert [net.weight.item(), net.bias.item()] == pytest.approx([0.4, 0.2])


def test_validation_loss_is_the_mean_over_examples_not_over_batches() -> None:
    x = torch.arange(5.0)[:, None]
    net = nn.Linear(1, 1)
    uneven = Tensors(x, torch.zeros(5, 1), size=4)
    only = phase(net, objective=Supervised(net, nn.functional.mse_loss), epochs=1, metrics={})
    row = fit([only], same(uneven), seed=0).rows[0]
    with torch.no_grad():
        assert row["valid_loss"] == pytest.approx(net(x).square().mean().item(), rel=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    def run(seed: int) -> list[bytes]:
        net = network()
        fit([phase(net)], same(two_classes()), seed=seed)
        return bits(net)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_history_has_a_row_per_epoch_and_no_time() -> None:
    net = network()
    history = fit(
        [phase(net, epochs=1, name="a"), phase(net, epochs=2, name="b")], same(two_classes()), seed=1
    )
    assert [(row["phase"], row["epoch"]) for row in history.rows] == [("a", 1), ("b", 2), ("b", 3)]
    assert set(history.rows[0]) == {"phase", "epoch", "train_loss", "valid_loss", "accuracy", "rate"}
    assert history.kept_epoch == 3


def test_frozen_groups_keep_their_weights_but_their_batch_norms_learn() -> None:
    net = Grouped()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fit([phase(net, rates=(1e-2, 1e-2), frozen=1)], same(two_classes()), seed=1)
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {
        *("body.1.weight", "body.1.bias", "body.1.running_mean", "body.1.running_var"),
        *("body.1.num_batches_tracked", "head.weight", "head.bias"),
    }
    fit([phase(net, rates=(1e-2, 1e-2))], same(two_classes()), seed=1)
    assert not torch.equal(net.body[0].weight, before["body.0.weight"])  # unfrozen again


def test_rates_differ_by_layer_group() -> None:
    net = Grouped()
    before = {name: value.clone() for name, value in net.named_parameters()}
    steps = Recorder()
    only = phase(net, epochs=1, rates=(1e-3, 1e-1), optimiser=sgd(), schedule=constant(), metrics={})
    x, y = two_classes(16).tensors
    fit([only], same(Tensors(x, y)), [steps], seed=1)
    assert steps.steps[0].rates == {"network": (1e-3, 1e-1)}
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    for name, value in net.named_parameters():
        rate = 1e-1 if name.startswith("head") else 1e-3
        gradient = gradients[name]
        assert gradient is not None
        torch.testing.assert_close(value, before[name] - rate * gradient)


def test_clipping_bounds_the_gradient() -> None:
    net = nn.Linear(1, 1)
    steep = Tensors(torch.tensor([[1000.0]]), torch.tensor([[1e4]]))
    before = torch.cat([net.weight.flatten(), net.bias]).detach().clone()
    only = phase(
        net,
        objective=Supervised(net, nn.functional.mse_loss),
        epochs=1,
        rates=(1.0,),
        optimiser=sgd(),
        schedule=constant(),
        metrics={},
    )
    fit([only], same(steep), seed=0, clip=0.5)
    after = torch.cat([net.weight.flatten(), net.bias]).detach()
    assert (after - before).norm().item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(poison: float) -> None:
    x, y = two_classes(64).tensors
    x[33] = poison  # in the third batch of 16
    poisoned = Tensors(x, y, shuffle=False)
    with pytest.raises(FloatingPointError, match="'whole', epoch 1, step 3; lower the rates"):
        fit([phase(network())], lambda _: (poisoned, None), seed=1)


def test_a_validation_loss_that_is_not_finite_stops_too() -> None:
    x, y = two_classes().tensors
    with pytest.raises(FloatingPointError, match="validation loss is nan in phase 'whole', epoch 1"):
        fit([phase(network())], lambda _: (two_classes(), Tensors(x * float("nan"), y)), seed=1)


def overfit() -> tuple[Tensors, Tensors]:
    """Random labels: training gets better and validation worse."""
    draw = torch.Generator().manual_seed(5)
    train, valid = (
        Tensors(torch.randn(64, 8, generator=draw), torch.randint(2, (64,), generator=draw)) for _ in range(2)
    )
    return train, valid


def test_the_best_epoch_is_kept() -> None:
    net = network()
    seen = Recorder(net)
    phases = [phase(net, epochs=8, rates=(3e-2,))]
    history = fit(phases, lambda _: overfit(), [seen], seed=1, keep="best")
    losses = [row["valid_loss"] for row in history.rows]
    best = losses.index(min(losses))
    assert 0 <= best < 7
    assert history.best_epoch == history.kept_epoch == best + 1
    assert bits(net) == seen.weights[best]


def test_the_headline_may_be_one_where_more_is_better() -> None:
    phases = [phase(network(), epochs=6, rates=(3e-2,))]
    history = fit(
        phases, lambda _: overfit(), seed=1, keep="best", headline="accuracy", higher_is_better=True
    )
    values = [row["accuracy"] for row in history.rows]
    assert history.kept_epoch == values.index(max(values)) + 1


def test_early_stopping_ends_the_phase_and_the_next_one_begins() -> None:
    net = network()
    phases = [phase(net, epochs=50, rates=(3e-2,), schedule=constant()), phase(net, name="next", epochs=1)]
    history = fit(phases, lambda _: overfit(), seed=1, patience=2)
    first = [row["valid_loss"] for row in history.rows if row["phase"] == "whole"]
    assert len(first) < 50
    assert min(first[-2:]) >= min(first[:-2])
    assert first.index(min(first)) == len(first) - 3
    assert history.rows[-1]["phase"] == "next"


def test_comparing_epochs_needs_something_to_compare() -> None:
    with pytest.raises(ValueError, match=r"does not measure 'kappa'.*it measures valid_loss, accuracy"):
        fit([phase(network())], same(two_classes()), seed=1, keep="best", headline="kappa")
    with pytest.raises(ValueError, match="no validation part"):
        fit([phase(network())], lambda _: (two_classes(), None), seed=1, patience=1)


def test_no_batch_and_wrong_rates_are_errors() -> None:
    empty = Tensors(torch.empty(0, 8), torch.empty(0).long())
    with pytest.raises(ValueError, match="makes no batch"):
        fit([phase(network())], same(empty), seed=1)
    with pytest.raises(ValueError, match="2 rates for 'network', which has 1 layer groups"):
        fit([phase(network(), rates=(1e-3, 1e-2))], same(two_classes()), seed=1)


def test_bf16_and_channels_last_learn_the_same_problem() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(64, 3, 8, 8, generator=draw)
    y = torch.arange(64) % 2
    x[y == 1, 0] += 1
    found = {}
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
        )
        only = phase(net, epochs=30, rates=(1e-1,))
        history = fit([only], same(Tensors(x, y)), seed=1, precision=precision, channels_last=True)
        found[precision] = history.rows[-1]["accuracy"]
        assert net[0].weight.is_contiguous()
        assert net[0].weight.dtype == torch.float32
    assert min(found.values()) > 0.9, found


def test_the_layout_of_memory_changes_nothing_but_rounding() -> None:
    x = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        only = phase(net, epochs=5, rates=(1e-2,))
        fit([only], same(Tensors(x, torch.arange(16) % 2)), seed=1, channels_last=channels_last)
        found.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


def test_compiled_networks_learn_the_same_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's own traced gradient in the place of generated C++, which would need a compiler here."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        net = network()
        fit([phase(net, epochs=3)], same(two_classes()), seed=1, compiled=compiled)
        assert (net._compiled_call_impl is not None) == compiled
        found.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_auto_precision_follows_the_hardware() -> None:
    cpu = torch.device("cpu")
    with autocast("auto", cpu)():
        assert torch.is_autocast_enabled("cpu") == computes_bf16(cpu)
    with autocast("bf16", cpu)():
        assert torch.is_autocast_enabled("cpu")
    with autocast("float32", cpu)():
        assert not torch.is_autocast_enabled("cpu")


def test_a_torchmetrics_object_is_a_metric() -> None:
    from torchmetrics.classification import MulticlassAccuracy

    metric = MulticlassAccuracy(num_classes=2, average="micro")
    net = network()
    only = phase(net, metrics={**phase(net).metrics, "theirs": metric})
    for row in fit([only], same(two_classes()), seed=1).rows:
        assert row["theirs"] == pytest.approx(row["accuracy"])


def test_watchers_see_every_moment_and_progress_writes_a_line_per_epoch() -> None:
    stream = io.StringIO()
    seen = Recorder()
    fit([phase(network(), epochs=2)], same(two_classes(64)), [seen, Progress(stream)], seed=1)
    assert seen.moments == ["began", *(["step"] * 4 + ["epoch"]) * 2, "finished"]
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("whole 1/2  train_loss 0.")
    assert "accuracy 0." in lines[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_draws_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    fit([phase(network(), epochs=1)], same(two_classes(64)), [Progress(stream)], seed=1)
    assert "whole 1/1:" in stream.getvalue()


class Grouped(nn.Module):
    """A body with batch norm, and a head, as two layer groups."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x))
        return logits

    def parameter_groups(self) -> list[list[nn.Module]]:
        return [[self.body], [self.head]]


class Recorder:
    """A watcher that writes down what it sees."""

    def __init__(self, *modules: nn.Module) -> None:
        self.modules = modules
        self.moments: list[str] = []
        self.steps: list[Step] = []
        self.weights: list[list[bytes]] = []

    def began(self, phases: Sequence[Phase], position: Position) -> None:
        self.moments.append("began")

    def step_ended(self, step: Step) -> None:
        self.moments.append("step")
        self.steps.append(step)

    def epoch_ended(self, row: Mapping[str, Any]) -> None:
        self.moments.append("epoch")
        self.weights.append(bits(*self.modules))

    def finished(self, history: History) -> None:
        self.moments.append("finished")
