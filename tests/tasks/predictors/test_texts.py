"""The exported classifier of texts answers what a user has, and names every row that it cannot answer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from data.text.rules import SPECIALS, tokenise
from models.export import run_eager, to_torch_export
from models.settings import ExportSettings
from recipes.text_classification import RECIPE, TextTraining
from tasks.export import check, load_model, write_model
from tasks.predictors import texts

SETTINGS = TextTraining.model_validate({"network": {"embedding": 6, "hidden": 8, "layers": 2}})
FACTS: dict[str, Any] = {
    "classes": ["neg", "pos"],
    "vocabulary": [*SPECIALS, "the", "film", "was", "good", "bad", "not", ".", "n't"],
}
TEXTS = ["The film was good.", "Bad", "The film wasn't BAD " * 40, "😀 unknown words"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder around random weights."""
    folder = tmp_path_factory.mktemp("texts")
    torch.manual_seed(0)
    network = RECIPE.network(SETTINGS, FACTS).eval()
    program = RECIPE.signature(network, FACTS, SETTINGS, ExportSettings())
    torch.export.save(to_torch_export(program), folder / "program.pt2")
    predictor = write_model(folder, program, ExportSettings(onnx=False))
    check(folder, program, predictor, tolerance=1e-5)
    return folder


@pytest.fixture(scope="module")
def model(exported: Path) -> Any:
    return load_model(exported)


def rows(*values: Any) -> pd.DataFrame:
    return pd.DataFrame({"text": pd.Series(list(values), dtype=object)})


def test_the_answers_are_the_network_s(model: Any) -> None:
    torch.manual_seed(0)
    network = RECIPE.network(SETTINGS, FACTS).eval()
    program = RECIPE.signature(network, FACTS, SETTINGS, ExportSettings())
    answer = model.predict(rows(*TEXTS))
    for text, (_, row) in zip(TEXTS, answer.iterrows(), strict=True):
        tokens = next(tokenise([text]))
        codes = [FACTS["vocabulary"].index(each) if each in FACTS["vocabulary"] else 0 for each in tokens]
        expected = run_eager(program, {"codes": torch.tensor([codes])})["probabilities"][0]
        assert row["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6)
        assert row["probability"] == pytest.approx(float(expected.max()), abs=1e-6)
        assert row["label"] == FACTS["classes"][int(expected.argmax())]


def test_company_and_chunks_change_no_answer(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    together = model.predict(rows(*TEXTS))["probability"]
    alone = [model.predict(rows(text))["probability"][0] for text in TEXTS]
    assert together.tolist() == pytest.approx(alone, abs=1e-6)
    assert texts.side_by_side([3, 40_000, 5, 40_000]) == [[1], [3], [2, 0]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "there is nothing to read in ''"),
        (" \n", "nothing to read"),
        ("<br /><br />", "nothing to read"),
        ("\u200b", "nothing to read"),
        ("word " * 2_000_000, "10,000,000 characters, the limit is 200,000"),
    ],
)
def test_a_row_without_an_answer_is_named(model: Any, value: str, message: str) -> None:
    with pytest.raises(MlflowException, match=f"row 1 of column `text`: .*{message}"):
        model.predict(rows("Good.", value))


def test_every_faulty_row_is_named_at_once(model: Any) -> None:
    with pytest.raises(MlflowException, match=r"row 0 .*; row 2 ") as error:
        model.predict(rows("", "Good.", "<br />"))
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("value", [None, 3, 2.5, b"bytes", ["a"]])
def test_what_is_no_text_is_refused(exported: Path, value: Any) -> None:
    """Below the signature too, which MLflow checks first where it can."""
    with pytest.raises(MlflowException):
        load_model(exported).predict(rows("Good.", value))
    inner = load_model(exported).unwrap_python_model()
    with pytest.raises(MlflowException, match="row 0 of column `text`: text is wanted"):
        inner.predict(None, rows(value))


def test_a_frame_without_the_column_is_refused(model: Any) -> None:
    with pytest.raises(MlflowException, match="text"):
        model.predict(pd.DataFrame({"review": ["Good."]}))


def test_files_become_rows(model: Any, tmp_path: Path) -> None:
    rows_of = model.unwrap_python_model().predictor.rows_of
    (tmp_path / "one.txt").write_text("One\ntext")
    (tmp_path / "many.csv").write_text('id,text\n1,first\n2,"second, third"\n')
    found, origin = rows_of([tmp_path / "one.txt", tmp_path / "many.csv"])
    assert found["text"].tolist() == ["One\ntext", "first", "second, third"]
    assert [path.name for path in origin] == ["one.txt", "many.csv", "many.csv"]
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"latin.txt is not UTF-8 text"):
        rows_of([tmp_path / "latin.txt"])
    (tmp_path / "other.csv").write_text("words\na\n")
    with pytest.raises(ValueError, match="no column `text`; it has words"):
        rows_of([tmp_path / "other.csv"])


def test_the_folder_answers_alone(exported: Path, tmp_path: Path) -> None:
    """In a process that cannot import the project."""
    code = (
        "import sys, json, mlflow, pandas;"
        f"model = mlflow.pyfunc.load_model({str(exported)!r});"
        "assert {'data', 'models', 'recipes', 'tasks'}.isdisjoint(sys.modules);"
        "print(json.dumps(model.predict(pandas.DataFrame({'text': ['The film was good.']})).label.tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout.splitlines()[-1])[0] in FACTS["classes"]


def test_the_stored_request_is_what_a_server_takes(exported: Path) -> None:
    body = json.loads((exported / "example" / "request.json").read_text())
    assert body["dataframe_split"]["columns"] == ["text"]
    assert len(body["dataframe_split"]["data"]) == 2
