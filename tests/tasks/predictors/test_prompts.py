"""Prompts: a text goes on and is judged, in every tokenizer's words; what is no text is named."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from data.text.settings import Tokenizer
from models.export import run_eager, to_torch_export
from models.language.model import LanguageModel
from models.settings import ExportSettings
from recipes.language_model import RECIPE, LanguageTraining
from tasks.export import check, load_model, write_model

VOCABULARIES: dict[str, list[str]] = {
    "characters": ["xxunk", "xxpad", "xxbos", "\n", " ", ".", *"abcdefghijklmnopqrstuvwxyz"],
    "words": [
        "xxunk",
        "xxpad",
        "xxbos",
        "xxmaj",
        "xxup",
        ".",
        ",",
        "the",
        "truth",
        "is",
        "n't",
        "a",
        "woman",
        "\n",
    ],
    "split": ["xxunk", "xxpad", "xxbos", "one", "two", "hundred", "thousand"],
}
TEXTS = {
    "characters": "The truth.\nIs a woman",
    "words": "The truth isn't a WOMAN.",
    "split": "one hundred two",
}


def exported(folder: Path, tokenizer: str) -> Any:
    """A small language model with random weights, exported as the stage does."""
    folder.mkdir()
    settings = LanguageTraining.model_validate(
        {
            "network": {"name": "gru", "embedding": 8, "hidden": 12, "layers": 1},
            "tokenizer": {"name": tokenizer, **({"lower": True} if tokenizer == "characters" else {})},
        }
    )
    facts = {"vocabulary": VOCABULARIES[tokenizer], "opening": []}
    torch.manual_seed(0)
    network = RECIPE.network(settings, facts)
    assert isinstance(network, LanguageModel)
    program = RECIPE.signature(network.eval(), facts, settings, ExportSettings(onnx=False))
    torch.export.save(to_torch_export(program), folder / "program.pt2")
    predictor = write_model(folder, program, ExportSettings(onnx=False))
    found = check(folder, program, predictor, tolerance=1e-4)
    assert set(found) == {"torch.export", "pyfunc"}
    return load_model(folder), program


@pytest.fixture(scope="module", params=["characters", "words", "split"])
def answered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("prompts") / request.param
    return request.param, *exported(folder, request.param), folder


def test_a_text_goes_on_and_is_judged(answered: Any) -> None:
    tokenizer, model, program, _ = answered
    rows = pd.DataFrame({"text": [TEXTS[tokenizer]]})
    (answer,) = model.predict(rows, params={"tokens": 7}).to_dict("records")
    assert answer["continuation"]
    assert len(answer["tokens"]) == len(answer["losses"])
    assert answer["losses"][0] is None
    assert answer["perplexity"] == pytest.approx(2.718281828 ** answer["loss"], rel=1e-5)
    places = {token: code for code, token in enumerate(VOCABULARIES[tokenizer])}
    codes = torch.tensor([[places.get(token, 0) for token in answer["tokens"]]])
    state = torch.zeros(1, program.preprocess["state"])
    scores = run_eager(program, {"codes": codes, "state": state})["scores"]
    expected = torch.nn.functional.cross_entropy(scores[0, :-1], codes[0, 1:], reduction="none")
    assert answer["losses"][1:] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_long_text_is_read_in_stretches(answered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, model, _, _ = answered
    text = (TEXTS[tokenizer] + " ") * 120
    whole = model.predict(pd.DataFrame({"text": [text]}), params={"tokens": 1})
    predictor = model.unwrap_python_model().predictor
    monkeypatch.setitem(type(predictor).read.__globals__, "STRETCH", 50)
    pieces = model.predict(pd.DataFrame({"text": [text]}), params={"tokens": 1})
    assert pieces["loss"][0] == pytest.approx(whole["loss"][0], abs=1e-5)
    assert pieces["continuation"][0] == whole["continuation"][0]


def test_draws_repeat_themselves_by_their_seed(answered: Any) -> None:
    tokenizer, model, _, _ = answered
    rows = pd.DataFrame({"text": [TEXTS[tokenizer]]})

    def drawn(**params: Any) -> str:
        return str(model.predict(rows, params={"tokens": 30, **params})["continuation"][0])

    assert drawn(seed=1, temperature=1.0) == drawn(seed=1, temperature=1.0)
    assert drawn(seed=1, temperature=1.0) != drawn(seed=2, temperature=1.0)
    assert drawn(seed=1, temperature=0.0) == drawn(seed=2, temperature=0.0)
    assert "xxunk" not in drawn(temperature=5.0)


def test_every_row_that_is_no_text_is_named(answered: Any) -> None:
    _, model, _, _ = answered
    predictor = model.unwrap_python_model()
    rows = pd.DataFrame({"text": ["", "one the a", " \n ", None, 7, "x" * 10_000_000, "漢字漢字"]})
    with pytest.raises(MlflowException) as caught:
        predictor.predict(None, rows)
    message = caught.value.message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert "row 0 of column `text`: there is no token in it" in message
    assert "row 1 " not in message
    assert "row 3 of column `text`: text is wanted, not NoneType" in message
    assert "row 4 of column `text`: text is wanted, not int" in message
    assert "row 5 of column `text`: 10,000,000 characters, at most 200,000" in message
    assert "row 6 of column `text`: none of its tokens is known" in message


@pytest.mark.parametrize("params", [{"tokens": -1}, {"tokens": 10**6}, {"temperature": -0.5}])
def test_wishes_out_of_bounds(answered: Any, params: dict[str, Any]) -> None:
    tokenizer, model, _, _ = answered
    with pytest.raises(MlflowException, match="tokens must be from 0 to 10000"):
        model.predict(pd.DataFrame({"text": [TEXTS[tokenizer]]}), params=params)


def test_the_stored_example_is_what_a_server_takes(answered: Any) -> None:
    tokenizer, _, _, folder = answered
    request = json.loads((folder / "example/request.json").read_text())
    assert request["dataframe_split"]["columns"] == ["text"]
    response = json.loads((folder / "example/response.json").read_text())
    assert set(response["predictions"][0]) == {"continuation", "tokens", "losses", "loss", "perplexity"}
    described = json.loads((folder / "signature.json").read_text())
    assert (
        described["preprocess"]["tokenizer"]
        == Tokenizer(name=tokenizer, lower=tokenizer == "characters").options()
    )


def test_files_are_texts_or_named(answered: Any, tmp_path: Path) -> None:
    rows_of = answered[1].unwrap_python_model().predictor.rows_of
    (tmp_path / "good.txt").write_text("one two\n", encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes("façade".encode("latin-1"))
    rows, origin = rows_of([tmp_path / "good.txt"])
    assert rows["text"].tolist() == ["one two\n"]
    assert origin == [tmp_path / "good.txt"]
    with pytest.raises(ValueError, match=r"bad.txt is not UTF-8 text: invalid continuation byte at byte 2"):
        rows_of([tmp_path / "bad.txt"])
