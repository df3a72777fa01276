"""Networks trained elsewhere: what an entry names, and what is read of them."""

import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from tasks.checkpoint import digest_of, read_trained, split_digest


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


@pytest.mark.parametrize("count", [0, 1, 10, 100_000])
def test_the_digest_of_a_split_is_that_of_its_json(tmp_path: Path, count: int) -> None:
    columns = {"part": ["train"] * count, "item_id": [f'stra\u00dfe "{number}"' for number in range(count)]}
    path = tmp_path / "split.parquet"
    pq.write_table(pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns])), path)
    assert split_digest(path) == sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()
