"""What a network makes as it learns: a picture per epoch, none lost to a kill, and nothing disturbed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recipes.recipe import Figure
from tasks.samples import Samples


def draws(network: nn.Module, facts: Any, settings: Any) -> Figure:
    """Careless on purpose: it draws from torch's own generator."""
    assert not network.training
    height = float(torch.rand(()))
    return Figure(name="sample", draw=lambda figure: figure.subplots().bar(["noise"], [height]))


@pytest.fixture
def network() -> nn.Module:
    return nn.Linear(2, 2).train()


def test_one_picture_per_epoch_is_kept(network: nn.Module, tmp_path: Path) -> None:
    samples = Samples(draws, network, {}, None, tmp_path / "beside")
    samples.open(anew=True)
    for epoch in (1, 2):
        samples.epoch_ended({"epoch": epoch})
    assert samples.keep(tmp_path / "kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["epoch-001.png", "epoch-002.png"]
    assert (tmp_path / "kept" / "epoch-001.png").read_bytes().startswith(b"\x89PNG")


def test_drawing_disturbs_neither_mode_nor_random_numbers(network: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    Samples(draws, network, {}, None, tmp_path).epoch_ended({"epoch": 1})
    assert torch.equal(torch.rand(4), expected)
    assert network.training


def test_a_training_that_goes_on_keeps_the_pictures_before_the_kill(
    network: nn.Module, tmp_path: Path
) -> None:
    Samples(draws, network, {}, None, tmp_path / "beside").epoch_ended({"epoch": 1})
    resumed = Samples(draws, network, {}, None, tmp_path / "beside")
    resumed.open(anew=False)
    resumed.epoch_ended({"epoch": 2})
    resumed.keep(tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_a_new_training_has_no_pictures_of_another(network: nn.Module, tmp_path: Path) -> None:
    Samples(draws, network, {}, None, tmp_path / "beside").epoch_ended({"epoch": 7})
    Samples(draws, network, {}, None, tmp_path / "beside").open(anew=True)
    assert not (tmp_path / "beside").exists()


def test_a_recipe_that_draws_nothing_leaves_no_folder(network: nn.Module, tmp_path: Path) -> None:
    samples = Samples(None, network, {}, None, tmp_path / "beside")
    samples.open(anew=True)
    samples.epoch_ended({"epoch": 1})
    assert not samples.keep(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
