"""Networks trained elsewhere: what an entry names, and what is read of them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tasks.checkpoint import digest_of, read_trained


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A `fine_tune` folder."""
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "weights.safetensors")
    (tmp_path / "facts.json").write_text(json.dumps({"classes": ["a", "b"]}))
    (tmp_path / "settings.json").write_text(json.dumps({"size": 28}))
    return tmp_path


def test_weights_come_with_what_lies_beside_them(folder: Path) -> None:
    trained = read_trained(folder / "weights.safetensors")
    assert trained is not None
    assert torch.equal(trained.state["weight"], torch.ones(2, 3))
    assert trained.facts == {"classes": ["a", "b"]}
    assert trained.settings == {"size": 28}


def test_published_weights_have_no_facts(folder: Path) -> None:
    for name in ("facts.json", "settings.json"):
        (folder / name).unlink()
    trained = read_trained(folder / "weights.safetensors")
    assert trained is not None
    assert (trained.facts, trained.settings) == ({}, {})


def test_none_stays_none() -> None:
    assert read_trained(None) is None
    assert digest_of(None) is None


def test_other_facts_are_another_network(folder: Path) -> None:
    before = digest_of(folder / "weights.safetensors")
    (folder / "facts.json").write_text(json.dumps({"classes": ["b", "a"]}))
    assert digest_of(folder / "weights.safetensors") != before
