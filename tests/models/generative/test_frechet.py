"""The distance is Fréchet's, and any classifier of ours can judge pictures of any size and colour."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from models.generative.frechet import FrechetDistance, Judge, build_judge, features_of, frechet_distance
from models.vision.classifier import build_classifier
from models.vision.settings import NetworkSettings


def trained(
    name: str = "resnet", *, channels: int = 1, size: int = 28, **network: Any
) -> tuple[Any, Any, Any]:
    """What a training of a classifier would have left, with random weights."""
    settings = {"network": {"name": name, **network}, "channels": channels, "size": size}
    facts = {"classes": ["a", "b", "c"], "mean": [0.5] * channels, "std": [0.25] * channels}
    torch.manual_seed(0)
    classifier = build_classifier(
        NetworkSettings.model_validate(settings["network"]),
        classes=3, channels=channels, mean=facts["mean"], std=facts["std"], size=size,
    )  # fmt: skip
    return classifier.state_dict(), facts, settings


def two_clouds(count: int = 400) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    real = torch.randn(count, 5, generator=draw)
    made = torch.randn(count, 5, generator=draw) @ torch.randn(5, 5, generator=draw) + 0.5
    return real, made


def test_it_is_the_distance_of_the_textbook() -> None:
    real, made = two_clouds()
    (mean, spread), (other_mean, other_spread) = (
        (each.double().numpy().mean(0), np.cov(each.double().numpy(), rowvar=False)) for each in (real, made)
    )
    root = sqrtm(spread @ other_spread).real
    expected = ((mean - other_mean) ** 2).sum() + np.trace(spread + other_spread - 2 * root)
    assert frechet_distance(real, made) == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself() -> None:
    real, _ = two_clouds()
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(real, real + 2) == pytest.approx(5 * 4)


@pytest.mark.parametrize(
    ("name", "width"), [("resnet", 16), ("cnn", 16), ("mlp", 50), ("logistic", 784), ("squeezenet1_0", 512)]
)
def test_the_features_are_what_the_last_layer_sees(name: str, width: int) -> None:
    judge = build_judge(*trained(name))
    assert features_of(judge, torch.rand(3, 1, 28, 28)).shape == (3, width)
    assert judge.num_features == width


def test_the_last_layer_makes_logits_of_them() -> None:
    judge = build_judge(*trained("mlp"))
    pictures = torch.rand(4, 1, 28, 28)
    (last,) = judge.classifier.head
    torch.testing.assert_close(last(features_of(judge, pictures)), judge.classifier(pictures))


def test_other_sizes_and_colours_are_brought_to_the_judge_s() -> None:
    grey, coloured = build_judge(*trained()), build_judge(*trained(channels=3, size=32))
    even = torch.full((2, 3, 64, 64), 0.4)
    torch.testing.assert_close(grey.fit(even), torch.full((2, 1, 28, 28), 0.4))
    assert coloured.fit(torch.rand(2, 1, 28, 28)).shape == (2, 3, 32, 32)
    red = torch.zeros(1, 3, 28, 28)
    red[:, 0] = 1
    torch.testing.assert_close(grey.fit(red), torch.full((1, 1, 28, 28), 0.299))


def test_the_metric_over_batches_is_that_over_all() -> None:
    judge = build_judge(*trained())
    draw = torch.Generator().manual_seed(1)
    made, real = (torch.rand(40, 1, 28, 28, generator=draw) ** power for power in (1, 2))
    metric = FrechetDistance(judge)
    for start in range(0, 40, 16):
        metric.update(made[start : start + 16], real[start : start + 16])
    whole = frechet_distance(features_of(judge, real), features_of(judge, made))
    assert metric.compute() == pytest.approx(whole, rel=1e-6)
    metric.reset()
    metric.update(real, real)
    assert metric.compute() == pytest.approx(0, abs=1e-6)


def test_judging_takes_no_gradient_and_no_training_mode() -> None:
    judge: Judge = build_judge(*trained())
    assert not judge.training
    assert not [each for each in judge.parameters() if each.requires_grad]


def test_what_is_no_classifier_is_refused() -> None:
    state, _, _ = trained()
    with pytest.raises(
        ValueError, match=r"no trained image classifier lies there \(it says nothing of classes"
    ):
        build_judge(state, {}, {})
