"""The predictor of generators: a seed is a picture, always the same; what is no seed is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from models.generative.dcgan import FromNoise, build_adversaries
from models.generative.settings import AdversarialNetworkSettings, WassersteinSettings
from tasks.export import as_request
from tasks.predictors import Predictor, find_predictor, seeds

WIDTH = 5


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "RGB"])
def network(request: pytest.FixtureRequest) -> FromNoise:
    built = build_adversaries(
        AdversarialNetworkSettings(noise=WIDTH, features=4), WassersteinSettings(),
        channels=request.param, size=8, seed=1,
    )  # fmt: skip
    with torch.no_grad():  # so that pictures differ
        for parameter in built.parameters():
            parameter.mul_(20)
    return FromNoise(built).eval()


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return find_predictor({"preprocess": {"kind": "seeds", "noise": WIDTH}})


@pytest.fixture(scope="module")
def asked(predictor: Predictor, network: FromNoise) -> Callable[[Any], pd.DataFrame]:
    return lambda values: predictor.answer(network, predictor.receive(pd.DataFrame({"seed": values}), {}))


def test_a_seed_is_a_picture_whatever_stands_beside_it(asked: Any) -> None:
    many = asked(list(range(40)))["image"]
    assert len(set(many)) == 40
    assert list(asked([39, 7])["image"]) == [many[39], many[7]]
    assert asked([]).empty


def test_the_picture_is_what_the_network_makes(predictor: Predictor, network: FromNoise, asked: Any) -> None:
    answer = asked([3, 2**40])
    noise = seeds.noise_of([3, 2**40], WIDTH)
    with torch.no_grad():
        outputs = {"images": network(noise)}
    given, expected = predictor.compare(answer, outputs)
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=0)
    given, expected = predictor.compare(answer.iloc[::-1], outputs)
    assert (given - expected).abs().max() > 0.01


@pytest.mark.parametrize("wrong", [-1, 2**63, 1.0, "7", None, True, np.nan])
def test_every_row_that_is_no_seed_is_named(asked: Any, wrong: object) -> None:
    values = pd.Series([1, wrong, 2, wrong], dtype=object)
    with pytest.raises(ValueError, match=r"row 1 of column `seed`: a whole number from 0 to .*; row 3 "):
        asked(values)


def test_seeds_are_read_from_lines(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("3\n\n5\n")
    (tmp_path / "b.csv").write_text("seed\n8\n")
    files = [tmp_path / "a.txt", tmp_path / "b.csv"]
    rows, origin = predictor.rows_of(files)
    assert rows["seed"].tolist() == [3, 5, 8]
    assert origin == [files[0], files[0], files[1]]
    (tmp_path / "a.txt").write_text("3\nfour\n")
    with pytest.raises(ValueError, match=r"a.txt, line 2: a whole number is wanted as seed, not 'four'"):
        predictor.rows_of(files)


def test_the_example_is_rows_of_seeds(predictor: Predictor) -> None:
    rows, received, files = predictor.example({"noise": torch.zeros(2, WIDTH)})
    assert torch.equal(received["noise"], seeds.noise_of(rows["seed"].tolist(), WIDTH))
    assert as_request(rows) == {"dataframe_split": {"columns": ["seed"], "data": [[0], [1]]}}
    assert not files
