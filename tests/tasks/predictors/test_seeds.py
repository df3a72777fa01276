"""The predictor of generators: a seed is a picture, always the same; what is no seed is named."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from models.generative.dcgan import FromNoise, build_adversaries
from models.generative.settings import AdversarialNetworkSettings, WassersteinSettings
from tasks.predictors import seeds

WIDTH = 5


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "RGB"])
def predictor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("seeds")
    network = build_adversaries(
        AdversarialNetworkSettings(noise=WIDTH, features=4), WassersteinSettings(),
        channels=request.param, size=8, seed=1,
    )  # fmt: skip
    with torch.no_grad():  # so that pictures differ
        for parameter in network.parameters():
            parameter.mul_(20)
    module = FromNoise(network).eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    torch.export.save(
        torch.export.export(module, (torch.rand(2, WIDTH),), dynamic_shapes=shapes), folder / "program.pt2"
    )
    (folder / "signature.json").write_text(json.dumps({"preprocess": {"kind": "seeds", "noise": WIDTH}}))
    made = seeds.Predictor()
    artifacts = {"signature": str(folder / "signature.json"), "program": str(folder / "program.pt2")}
    made.load_context(SimpleNamespace(artifacts=artifacts))
    return SimpleNamespace(
        answer=lambda values: made.predict(None, pd.DataFrame({"seed": values})), module=module
    )


def test_a_seed_is_a_picture_whatever_stands_beside_it(predictor: Any) -> None:
    many = predictor.answer(list(range(40)))["image"]
    assert len(set(many)) == 40
    assert list(predictor.answer([39, 7])["image"]) == [many[39], many[7]]
    assert predictor.answer([]).empty


def test_the_picture_is_what_the_network_makes(predictor: Any) -> None:
    answer = predictor.answer([3, 2**40])
    noise = seeds.noise_of([3, 2**40], WIDTH)
    with torch.no_grad():
        outputs = {"images": predictor.module(noise)}
    given, expected = seeds.compare(answer, outputs, {})
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=0)
    given, expected = seeds.compare(answer.iloc[::-1], outputs, {})
    assert (given - expected).abs().max() > 0.01


@pytest.mark.parametrize("wrong", [-1, 2**63, 1.0, "7", None, True, np.nan])
def test_every_row_that_is_no_seed_is_named(predictor: Any, wrong: object) -> None:
    values = pd.Series([1, wrong, 2, wrong], dtype=object)
    with pytest.raises(MlflowException) as raised:
        predictor.answer(values)
    assert "row 1 of column `seed`: a whole number from 0 to" in str(raised.value)
    assert "row 3" in str(raised.value)


def test_seeds_are_read_from_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("3\n\n5\n")
    (tmp_path / "b.csv").write_text("seed\n8\n")
    files = [tmp_path / "a.txt", tmp_path / "b.csv"]
    rows, origin = seeds.rows_of(files)
    assert rows["seed"].tolist() == [3, 5, 8]
    assert origin == [files[0], files[0], files[1]]
    (tmp_path / "a.txt").write_text("3\nfour\n")
    with pytest.raises(ValueError, match=r"a.txt, line 2: a whole number is wanted as seed, not 'four'"):
        seeds.rows_of(files)


def test_the_example_is_rows_of_seeds() -> None:
    described = {"preprocess": {"noise": WIDTH}}
    rows, received, files = seeds.example_of({"noise": torch.zeros(2, WIDTH)}, described)
    assert torch.equal(received["noise"], seeds.noise_of(rows["seed"].tolist(), WIDTH))
    assert seeds.request(rows) == {"dataframe_split": {"columns": ["seed"], "data": [[0], [1]]}}
    assert not files
