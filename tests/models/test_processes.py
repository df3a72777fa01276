"""Two processes do what one does: the same batches, draws, statistics and steps, to the rounding of sums."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data.text.batches import DocumentBatches
from data.text.streams import Streams
from models.fit import Loaders, fit
from models.generative.dcgan import build_adversaries
from models.generative.settings import AdversarialNetworkSettings, WassersteinSettings
from models.generative.wasserstein import Wasserstein
from models.language.classifier import TextClassification, build_text_classifier
from models.language.model import build_language_model
from models.language.objective import LanguageModelling, token_accuracy, token_loss
from models.language.settings import EncoderSettings, LanguageNetworkSettings
from models.metrics import Average, Whole
from models.objective import Supervised
from models.phases import Phase, constant
from models.processes import ALONE, World
from models.vision.classifier import build_classifier
from models.vision.settings import NetworkSettings
from models.vision.unet import VOID, MaskLoss, build_unet, pixel_accuracy
from models.vision.unet_settings import UNetSettings
from tests.models.test_fit import Grouped
from tests.models.together import together
from tests.models.toy import Tensors, bits, load, network, phase, same, sgd, shelf, two_classes

TOLERANCE = 1e-4
"""Largest difference of losses and metrics, relative and absolute: float32 sums in another order."""

Problem = tuple[list[Phase], Loaders]


def classification() -> Problem:
    """Dropout, batch norm, frozen layers and a last batch of three rows: two for one process, one for the
    other."""
    net = Grouped()
    net.add_module("head", network()[1:])
    net.body[0] = nn.Linear(8, 16)
    phases = [
        phase(net, name="frozen", epochs=1, rates=(1e-2, 1e-2), frozen=1),
        phase(net, epochs=2, rates=(1e-3, 1e-2)),
    ]
    return phases, same(two_classes(83))


def a_row_too_few() -> Problem:
    """The last batch has one row: both processes work on it."""
    net = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.2), nn.Linear(4, 2))
    x, y = two_classes(33).tensors
    return [phase(net, epochs=2, optimiser=sgd(momentum=0.9))], same(Tensors(x, y))


def pictures() -> Problem:
    """Channels last, dropout on maps, and a metric that needs all outputs at once."""
    draw = torch.Generator().manual_seed(0)
    images, classes = torch.rand(36, 3, 8, 8, generator=draw), torch.arange(36) % 2
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    spread = Whole(lambda outputs, targets: float(outputs.std() + targets.float().std()))
    mean = Average(lambda outputs, targets: outputs[:, 0])
    return [phase(net, epochs=2, metrics={"spread": spread, "mean": mean})], same(Tensors(images, classes))


def double() -> Problem:
    """A residual network, which blows up the rounding errors of float32, in double precision."""
    draw = torch.Generator().manual_seed(0)
    images, classes = torch.rand(90, 1, 16, 16, generator=draw).double(), torch.arange(90) % 10
    settings = NetworkSettings(name="resnet", widths=(4, 8))
    net = build_classifier(settings, classes=10, channels=1, mean=[0.5], std=[0.3]).double()
    return [phase(net, rates=(1e-2,) * len(net.parameter_groups()))], same(Tensors(images, classes))


def language() -> Problem:
    """A state that is carried from batch to batch by five streams, and all of AWD-LSTM's dropouts."""
    settings = LanguageNetworkSettings(name="awd_lstm", embedding=6, hidden=8, layers=2)
    net = build_language_model(settings, 11)
    codes = np.random.default_rng(0).integers(0, 11, 400)
    objective = LanguageModelling(net, activation=2.0, change=1.0)
    metrics = {"loss": token_loss(), "accuracy": token_accuracy()}
    rates = (1e-2,) * 3
    streams = Streams(codes, np.array([0, 400]), streams=5, length=7)
    return [phase(net, objective=objective, epochs=2, rates=rates, metrics=metrics)], same(streams)


def adversaries(**settings: Any) -> Problem:
    """Two networks in turns, noise, and pictures that all are judged at once."""
    turns = WassersteinSettings(critic_steps=2, opening=0, **settings)
    small = AdversarialNetworkSettings(noise=4, features=4, extra_layers=0)
    net = build_adversaries(small, turns, channels=1, size=8)
    real = torch.rand(36, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    distance = Whole(lambda made, real: float((made.mean(0) - real.mean(0)).abs().mean()))
    one = Phase(
        name="turns", objective=Wasserstein(net, turns), epochs=2, schedule=constant(),
        rates={"critic": (1e-3,), "generator": (1e-3,)}, metrics={"distance": distance},
    )  # fmt: skip
    return [one], same(Tensors(real, size=8))


def clamped() -> Problem:
    return adversaries(clamp=0.05)


def penalised() -> Problem:
    return adversaries(penalty=10.0, clamp=None)


def masks() -> Problem:
    """A loss that looks at the whole batch: pixels that are not void, and Dice of the classes that occur."""
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(18, 3, 16, 16, generator=draw)
    truth = torch.randint(0, 3, (18, 16, 16), generator=draw)
    truth[::3, :9] = VOID
    net = build_unet(
        UNetSettings(name="resnet", widths=(4, 8), width=4), classes=3, mean=[0.5] * 3, std=[0.2] * 3
    )
    objective = Supervised(net, MaskLoss(dice=0.5))
    metrics = {"pixel_accuracy": pixel_accuracy()}
    rates = (1e-3,) * len(net.parameter_groups())
    one = phase(net, objective=objective, epochs=2, rates=rates, metrics=metrics)
    return [one], same(Tensors(images, truth, size=8))


def documents() -> Problem:
    """Documents of unequal length, the longest first: one process reads on while the other is done. Without
    dropout, which would draw for other pieces in each."""
    settings = EncoderSettings(name="lstm", embedding=6, hidden=8, layers=2)
    net = build_text_classifier(settings, vocabulary=11, classes=2, pad=0, piece=4, pooled=9, dropout=0.0)
    draw = np.random.default_rng(0)
    offsets = np.cumsum([0, *draw.integers(2, 23, 35)])
    batches = DocumentBatches(
        draw.integers(1, 11, offsets[-1]), offsets, np.arange(35) % 2, item_ids=[str(at) for at in range(35)],
        batch_size=8, training=True, pad=0,
    )  # fmt: skip
    rates = (1e-3,) * len(net.parameter_groups())
    return [phase(net, objective=TextClassification(net), epochs=2, rates=rates)], same(batches)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    each.__name__: each
    for each in (
        classification,
        a_row_too_few,
        pictures,
        double,
        masks,
        language,
        documents,
        clamped,
        penalised,
    )
}


RESUMED = ("classification", "language")


def train(
    make: Callable[[], Problem], world: World = ALONE, *, resume: bytes | None = None, save: bool = False
) -> dict[str, Any]:
    """Rows of the history, the bytes of all weights, and the states that were saved after every step."""
    torch.manual_seed(0)
    phases, loaders = make()
    kept, keep = shelf()
    history = fit(
        phases, loaders, seed=5, world=world, channels_last=make is pictures, save=keep if save else None,
        save_every=0.0, resume=load(resume) if resume else None,
    )  # fmt: skip
    modules = (module for each in phases for module in each.objective.trainable().values())
    return {"rows": history.rows, "weights": [bits(each) for each in modules], "states": kept}


def middle(states: list[bytes]) -> bytes:
    """A state inside an epoch."""
    inside = [state for state in states if load(state)["position"]["step"]]
    return inside[len(inside) // 2]


def in_each(world: World, *, states: dict[str, bytes]) -> dict[str, Any]:
    """In one of the processes: every problem, and those that go on from `states` of a single process."""
    trained = {name: train(make, world, save=name in RESUMED) for name, make in PROBLEMS.items()}
    resumed = {name: train(PROBLEMS[name], world, resume=state) for name, state in states.items()}
    again = {}
    for name in RESUMED:
        state = world.hand_out(middle(trained[name]["states"]).hex() if world.lead else None)
        again[name] = train(PROBLEMS[name], world, resume=bytes.fromhex(state))
    return {"trained": trained, "resumed": resumed, "again": again}


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one process makes of each problem."""
    return {name: train(make, save=name in RESUMED) for name, make in PROBLEMS.items()}


@pytest.fixture(scope="module")
def ranks(alone: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What two processes make of them."""
    states = {name: middle(alone[name]["states"]) for name in RESUMED}
    return together(partial(in_each, states=states), tmp_path_factory.mktemp("ranks"))


def near(rows: Any) -> Any:
    """Rows of a history, to be compared within the tolerance."""
    return [
        {
            key: pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE) if key != "phase" else value
            for key, value in row.items()
        }
        for row in rows
    ]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_two_processes_have_the_metrics_of_one(problem: str, alone: dict[str, Any], ranks: list[Any]) -> None:
    assert list(ranks[0]["trained"][problem]["rows"]) == near(alone[problem]["rows"])


def test_in_double_precision_the_weights_are_those_of_one(alone: dict[str, Any], ranks: list[Any]) -> None:
    ours, theirs = (
        np.concatenate(list(map(numbers, each["double"]["weights"][0])))
        for each in (ranks[0]["trained"], alone)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def numbers(content: bytes) -> Any:
    """A tensor of double precision from its bytes; a count of batches is one as well."""
    return np.frombuffer(content, np.float64)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_all_processes_hold_the_same_bits(problem: str, ranks: list[Any]) -> None:
    first, second = (rank["trained"][problem] for rank in ranks)
    assert first["weights"] == second["weights"]
    assert first["rows"] == second["rows"]


@pytest.mark.parametrize("problem", RESUMED)
def test_a_training_goes_on_with_another_number_of_processes(
    problem: str, alone: dict[str, Any], ranks: list[Any]
) -> None:
    wanted = near(alone[problem]["rows"])
    assert list(ranks[0]["resumed"][problem]["rows"]) == wanted  # one began, two go on
    states = ranks[0]["trained"][problem]["states"]
    assert list(train(PROBLEMS[problem], resume=middle(states))["rows"]) == wanted  # two began, one goes on


@pytest.mark.parametrize("problem", RESUMED)
def test_with_the_same_number_it_ends_in_the_same_bits(problem: str, ranks: list[Any]) -> None:
    for rank in ranks:
        assert rank["again"][problem]["weights"] == rank["trained"][problem]["weights"]


def test_only_the_leading_process_saves(ranks: list[Any]) -> None:
    assert ranks[0]["trained"]["language"]["states"]
    assert not ranks[1]["trained"]["language"]["states"]
