"""A replayed training ends in the bits of the plain one; what cannot be replayed is trained as ever."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.ratings.batches import RatingBatches
from data.tables.batches import TableBatches
from models import replay
from models.fit import fit
from models.objective import Supervised
from models.phases import Phase, layer_groups, one_cycle
from models.ratings.embeddings import Dot, DotBias, Net
from models.replay import Replay, replayed
from models.settings import OptimiserSettings
from models.tabular.losses import scaled_squares
from models.tabular.network import Quantity, TabularNet
from models.tabular.settings import TabularSettings

ROWS, SIZE = 83, 8
"""Ten whole batches and a rest of three."""


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def table(targets: Tensor) -> TableBatches:
    codes = torch.randint(0, 4, (ROWS, 3), generator=draw())
    return TableBatches(
        codes, torch.randn(ROWS, 2, generator=draw()), targets, batch_size=SIZE, training=True, seed=1
    )


def tabular(outputs: int) -> TabularNet:
    settings = TabularSettings(layers=(12, 6), dropout=(0.2, 0.1), embedding_dropout=0.1)
    return TabularNet(
        settings, columns=[(name, ["x", "y", "z"]) for name in "abc"], numbers=2, outputs=outputs
    )


def classes() -> tuple[Supervised, Any]:
    targets = torch.randint(0, 3, (ROWS,), generator=draw())
    return Supervised(tabular(3), nn.CrossEntropyLoss(label_smoothing=0.1)), table(targets)


def quantity() -> tuple[Supervised, Any]:
    network = Quantity(tabular(1), limits=(-3.0, 3.0), mean=0.5, std=1.0)
    return Supervised(network, scaled_squares(1.0)), table(torch.randn(ROWS, generator=draw()))


def ratings(network: nn.Module) -> tuple[Supervised, Any]:
    users, items = (torch.randint(1, 6, (ROWS,), generator=draw()).numpy() for _ in range(2))
    scores = torch.rand(ROWS, generator=draw()).mul(4).numpy()
    return Supervised(network, nn.MSELoss()), RatingBatches(users, items, scores, batch_size=SIZE, seed=1)


CASES: dict[str, Callable[[], tuple[Supervised, Any]]] = {
    "classes": classes,
    "quantity": quantity,
    "dot": lambda: ratings(Dot(5, 5, 4)),
    "dot and biases": lambda: ratings(DotBias(5, 5, 4, y_range=(0.0, 5.5))),
    "a hidden layer": lambda: ratings(Net(5, 5, 4, y_range=(0.0, 5.5), hidden=6, dropouts=(0.1, 0.2))),
}


def phase(objective: Supervised, *, epochs: int = 4, frozen: int = 0) -> Phase:
    (module,) = objective.trainable().values()
    return Phase(
        name="all", objective=objective, epochs=epochs, rates=(0.01,) * len(layer_groups(module)),
        schedule=one_cycle(), optimiser=OptimiserSettings(weight_decay=0.1), frozen=frozen,
    )  # fmt: skip


def trained(make: Callable[[], tuple[Supervised, Any]], **settings: Any) -> tuple[list[Tensor], list[Any]]:
    """All weights and buffers after four epochs, and the history."""
    torch.manual_seed(5)
    objective, batches = make()
    history = fit([phase(objective)], lambda _: (batches, None), seed=7, **settings)
    return list(objective.network.state_dict().values()), list(history.rows)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[Replay]:
    """Short trainings are replayed as well; those that were."""
    made: list[Replay] = []

    def making(objective: Supervised) -> Replay:
        made.append(Replay(objective))
        return made[-1]

    monkeypatch.setattr(replay, "FROM_STEPS", 1)
    monkeypatch.setattr(replay, "Replay", making)
    return made


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("clip", [None, 0.05], ids=["", "clipped"])
def test_the_bits_are_those_of_autograd(
    name: str, clip: float | None, replays: list[Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, rows = trained(CASES[name], clip=clip)
    (used,) = replays
    assert [program is not None for program in used.programs.values()] == [True, True], "whole and rest"
    monkeypatch.setattr(replay, "FROM_STEPS", 10**9)
    plain, plain_rows = trained(CASES[name], clip=clip)
    assert len(replays) == 1
    assert all(torch.equal(one, other) for one, other in zip(weights, plain, strict=True))
    assert rows == plain_rows


def test_a_frozen_layer_stays_and_the_others_learn_alike(
    replays: list[Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list[Tensor]:
        torch.manual_seed(5)
        objective, batches = classes()
        before = objective.network.embeddings[0].weight.clone()
        objective.network.embeddings[0].weight.requires_grad_(False)
        fit([phase(objective)], lambda _: (batches, None), seed=7)
        assert torch.equal(before, objective.network.embeddings[0].weight)
        return list(objective.network.state_dict().values())

    monkeypatch.setattr("models.steps.freeze", lambda *_: None)
    replayed_weights = run()
    assert any(program is not None for program in replays[0].programs.values())
    monkeypatch.setattr(replay, "FROM_STEPS", 10**9)
    assert all(torch.equal(one, other) for one, other in zip(replayed_weights, run(), strict=True))


def test_shapes_that_take_turns_have_programs_of_their_own(
    replays: list[Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_a_turn() -> tuple[Supervised, Any]:
        objective, batches = CASES["dot and biases"]()
        batches.batch_size = ROWS - 5  # a whole batch and a rest
        return objective, batches

    weights, _ = trained(two_a_turn)
    assert [program is not None for program in replays[0].programs.values()] == [True, True]
    monkeypatch.setattr(replay, "FROM_STEPS", 10**9)
    assert all(torch.equal(one, other) for one, other in zip(weights, trained(two_a_turn)[0], strict=True))


class Wavering(nn.Module):
    """Does something else on every batch, though it says that it does not."""

    replayable = True

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(1, 1), 0

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        self.calls += 1
        answer: Tensor = self.layer((users * items).float()[:, None])[:, 0]
        return answer / self.calls


def test_what_does_not_repeat_itself_is_not_replayed(replays: list[Replay]) -> None:
    trained(lambda: ratings(Wavering()))
    (used,) = replays
    assert used.programs
    assert not any(used.programs.values())


def test_only_long_trainings_of_networks_that_allow_it() -> None:
    objective, _ = classes()
    assert isinstance(replayed(objective, steps=replay.FROM_STEPS), Replay)
    assert replayed(objective, steps=replay.FROM_STEPS - 1) is objective
    other = Supervised(nn.Linear(2, 2), nn.MSELoss())
    assert replayed(other, steps=replay.FROM_STEPS) is other


def test_bf16_and_compiled_networks_are_trained_by_autograd(replays: list[Replay]) -> None:
    trained(classes, precision="bf16")
    assert replays == []
