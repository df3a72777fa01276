"""A head on features that were made once: what the whole network would answer, learn and remember."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.fit import History, fit
from models.objective import Supervised
from models.phases import Phase, layer_groups
from models.steps import Precision, autocast
from models.vision.classifier import ImageClassifier
from models.vision.precompute import HeadAlone
from tests.models.toy import Tensors, bits, load, phase, shelf
from tests.models.vision.test_classifier import build

CPU = torch.device("cpu")


def pictures() -> Tensors:
    draw = torch.Generator().manual_seed(0)
    return Tensors(torch.rand(24, 3, 32, 32, generator=draw), torch.arange(24) % 3, size=8)


class Made:
    """Features of the pictures, made when they are asked for."""

    def __init__(self, head: HeadAlone) -> None:
        self.head = head

    def __len__(self) -> int:
        return len(pictures())

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        for images, targets in pictures().epoch(number, start=start):
            yield self.head.features(images), targets


def loaders(at: Phase) -> tuple[Any, Any]:
    made = Made(at.objective) if isinstance(at.objective, HeadAlone) else pictures()
    return made, made


def head_alone(net: ImageClassifier, **changes: Any) -> Phase:
    settings: dict[str, Any] = {"rates": (1e-2,) * len(layer_groups(net)), "epochs": 2}
    head = HeadAlone(net, nn.functional.cross_entropy)
    return phase(net, objective=head, frozen=len(layer_groups(net)) - 1, **settings | changes)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "densenet121", "cnn", "cnn_bn", "resnet"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_answers_are_those_of_the_whole_network(name: str, precision: Precision) -> None:
    net, cast = build(name).eval(), autocast(precision, CPU)
    head = HeadAlone(net, nn.functional.cross_entropy, cast=cast)
    whole = Supervised(net, nn.functional.cross_entropy)
    images, targets = next(pictures().epoch(0))
    with torch.no_grad(), cast():
        found = head.judge((head.features(images), targets))
        expected = whole.judge((images, targets))
    assert torch.equal(found.outputs, expected.outputs)
    assert torch.equal(found.loss, expected.loss)


def test_features_of_a_network_in_training_are_those_of_its_evaluation() -> None:
    net = build("resnet18").eval()
    head = HeadAlone(net, nn.functional.cross_entropy)
    images, _ = next(pictures().epoch(0))
    expected, before = head.features(images), bits(net)
    net.train()
    assert torch.equal(head.features(images), expected)
    assert bits(net) == before


def reference(net: ImageClassifier) -> Tensor:
    """The plain way: the whole network, its body in evaluation mode and without gradients, the head in the
    loop that everybody writes."""
    net.train()
    optimiser = torch.optim.SGD(net.head.parameters(), lr=1e-2)
    for number in range(2):
        for images, targets in pictures().epoch(number):
            net.body.eval()
            loss = nn.functional.cross_entropy(net(images), targets)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return torch.cat([value.detach().flatten() for value in net.head.parameters()])


def test_it_learns_what_the_plain_way_learns_and_leaves_the_body_alone() -> None:
    from models.phases import constant
    from tests.models.toy import sgd

    net = build("resnet", widths=[8, 8])
    body = bits(net.body)
    fit([head_alone(net, schedule=constant(), optimiser=sgd())], loaders, seed=1)
    learned = torch.cat([value.detach().flatten() for value in net.head.parameters()])
    assert bits(net.body) == body
    torch.testing.assert_close(learned, reference(build("resnet", widths=[8, 8])), rtol=1e-5, atol=1e-6)


def test_a_later_phase_goes_on_with_the_whole_network() -> None:
    net = build("resnet", widths=[8, 8])
    body, head = bits(net.body), bits(net.head)
    whole = phase(net, name="whole", epochs=1, rates=(1e-3, 1e-2))
    history = fit([head_alone(net), whole], loaders, seed=1, keep="best")
    assert bits(net.body) != body
    assert bits(net.head) != head
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_continuing_from_any_moment_ends_in_the_same_bits(keep: Any) -> None:
    def run(save: Callable[[Any], None] | None = None, resume: Any = None) -> tuple[list[bytes], History]:
        net = build("resnet18", dropout=0.3)
        torch.seed()
        phases = [head_alone(net), phase(net, name="whole", epochs=1, rates=(1e-3,) * 3)]
        history = fit(phases, loaders, seed=7, save=save, save_every=0.0, resume=resume, keep=keep)
        return bits(net), history

    kept, save = shelf()
    straight = run(save)
    assert len(kept) == 3 * 3 + 3  # after every step, and after every epoch
    for stored in kept[::2]:
        assert run(resume=load(stored)) == straight


def test_the_computing_context_is_entered_for_the_features() -> None:
    cast: Callable[[], AbstractContextManager[Any]] = autocast("bf16", CPU)
    head = HeadAlone(build("resnet18"), nn.functional.cross_entropy, cast=cast)
    images, _ = next(pictures().epoch(0))
    assert head.features(images).dtype == torch.bfloat16
    assert not head.features(images).requires_grad
