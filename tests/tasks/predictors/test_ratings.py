"""The exported model: pairs are rated, users get what they have not rated, somebody new is met half-way."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from data.ratings import seen
from models.export import to_torch_export
from models.ratings.embeddings import DotBias
from models.settings import ExportSettings
from recipes.collaborative_filtering import RECIPE, RatingTraining
from tasks.export import check, load_model, write_model

USERS = [str(number) for number in range(1, 21)]
ITEMS = ["a1", "a2", "a3", "b1", "b2", "b3"]
FACTS: Mapping[str, Any] = {
    "users": USERS,
    "items": ITEMS,
    "titles": ["Alpha", "Alpha", "Apex", "Beta", "Bay", "Blue"],
    "counts": [20] * 6,
    "lowest": 0.5, "highest": 5.0, "mean": 3.0, "variance": 1.0,
    # user 1 has rated a1 and b1, nobody else anything
    "seen": seen.pack(np.array([1, 1]), np.array([4, 1]), known=len(USERS)),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a network whose first ten users like a, and whose others like b; a3 and b1 lead."""
    network = RECIPE.network(RatingTraining.model_validate({"network": {"factors": 2}}), FACTS)
    assert isinstance(network, DotBias)
    with torch.no_grad():
        side = torch.tensor([1.0] * 10 + [-1.0] * 10)
        network.user_factors.weight.copy_(torch.stack([side, torch.linspace(-0.1, 0.1, 20)], dim=1))
        network.item_factors.weight.copy_(torch.tensor([[1.0, 0.1]] * 3 + [[-1.0, 0.1]] * 3))
        network.item_bias.weight.copy_(torch.tensor([[0.0], [0.1], [0.3], [0.2], [0.0], [0.1]]))
        network.user_bias.weight.zero_()
    written = tmp_path_factory.mktemp("export")
    program = RECIPE.signature(network.eval(), FACTS, RatingTraining(), ExportSettings(onnx=False))
    torch.export.save(to_torch_export(program), written / "program.pt2")
    predictor = write_model(written, program, ExportSettings(onnx=False))
    found = check(written, program, predictor, tolerance=1e-5)
    assert found["pyfunc"] <= 1e-5
    return written


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(folder)


@pytest.fixture(scope="module")
def rows_of(model: Any) -> Any:
    return model.unwrap_python_model().predictor.rows_of


def ask(model: Any, **columns: Any) -> pd.DataFrame:
    answer: pd.DataFrame = model.predict(pd.DataFrame(columns))
    return answer


def test_a_pair_is_rated_and_titled(model: Any) -> None:
    answer = ask(model, user=["1", "11", "nobody"], item=["a2", "a2", "b1"])
    assert answer["title"].to_list() == ["Alpha", "Alpha", "Beta"]
    assert answer["known"].to_list() == [True, True, False]
    assert answer["rating"][0] > 4 > 2 > answer["rating"][1]
    # of the average user only the bias is left
    assert answer["rating"][2] == pytest.approx(5.5 / (1 + np.exp(-0.2)), abs=1e-3)


def test_a_known_user_gets_what_they_have_not_rated_best_first(model: Any) -> None:
    answer = ask(model, user=["1"], count=[3])
    assert answer["items"][0] == ["a3", "a2", "b3"]
    assert answer["titles"][0] == ["Apex", "Alpha", "Blue"]
    assert answer["ratings"][0] == sorted(answer["ratings"][0], reverse=True)


def test_no_more_is_recommended_than_there_is(model: Any) -> None:
    answer = ask(model, user=["1", "2"])
    assert [len(items) for items in answer["items"]] == [4, 6]


def test_somebody_new_gets_what_everybody_likes(model: Any) -> None:
    answer = ask(model, user=["nobody"], count=[3])
    assert answer["known"].to_list() == [False]
    assert answer["items"][0] == ["a3", "b1", "a2"]


def test_their_own_ratings_move_somebody_new_towards_their_like(model: Any) -> None:
    likes_b = json.dumps({"b1": 5, "a3": 1})
    answer = ask(
        model, user=["nobody", "nobody else"], ratings=[likes_b, '{"a1": 5, "b2": 0.5}'], count=[2, 2]
    )
    assert answer["items"][0] == ["b3", "b2"]
    assert answer["items"][1] == ["a3", "a2"]
    plain = ask(model, user=["nobody", "nobody"], item=["b3", "a2"])["rating"]
    moved = dict(zip(answer["items"][0], answer["ratings"][0], strict=True))
    assert moved["b3"] > plain[0] + 0.3


def test_questions_in_one_table_may_differ(model: Any) -> None:
    answer = ask(model, user=["nobody", "2"], ratings=['{"b1": 5}', None], count=[1, 1])
    assert answer["items"].to_list() == [["b3"], ["a3"]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": ["1", "2"], "item": ["a1", "zz"]}, "row 1: no training rating is of item 'zz'"),
        ({"user": ["1", "2"], "item": ["a1", None]}, "row 1: the item is missing"),
        ({"user": [" ", "2"], "item": ["a1", "a2"]}, "row 0: the user is missing"),
        ({"user": ["1"], "count": [0]}, "row 0: count is 0"),
        ({"user": ["1"], "item": ["a1"], "count": [1]}, "`count` has no effect beside `item`"),
        ({"user": ["1"], "item": ["zz"], "count": [1]}, "`count` has no effect .*; row 0: no training"),
        ({"user": ["1"], "ratings": ['{"a1": 5}']}, "user '1' is known"),
        ({"user": ["new"], "ratings": ['{"zz": 5}']}, "no training rating is of item 'zz'"),
        ({"user": ["new"], "ratings": ['{"a1": 9}']}, "ratings lie in 0.5 to 5"),
        ({"user": ["new"], "ratings": ["five stars"]}, "must be JSON"),
        ({"user": ["new"], "ratings": ['["a1"]']}, "must be JSON"),
        ({"user": ["new"], "ratings": ['{"a1": "good"}']}, "no number"),
        ({"user": ["new", "1", "x"], "ratings": ["?", None, "!"]}, "row 0.*row 2"),
    ],
)
def test_a_row_that_cannot_be_answered_is_named(model: Any, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(MlflowException, match=message) as error:
        ask(model, **columns)
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"


def test_the_example_holds_somebody_new(folder: Path) -> None:
    request = json.loads((folder / "example" / "request.json").read_text())["dataframe_split"]
    assert request == {"columns": ["user", "item"], "data": [["1", "a1"], ["somebody new", "a1"]]}
    answers = json.loads((folder / "example" / "response.json").read_text())["predictions"]
    assert [each["known"] for each in answers] == [True, False]


def test_a_table_of_questions_is_read_from_a_file(
    model: Any, rows_of: Any, folder: Path, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.csv"
    questions.write_text('user,count,ratings\n1,2,\nnew,,"{""b1"": 5}"\n')
    rows, origin = rows_of([questions, folder / "example" / "pairs.csv"][:1])
    assert origin == [questions, questions]
    answer = model.predict(rows)
    assert [len(items) for items in answer["items"]] == [2, 5]
    pairs, _ = rows_of([folder / "example" / "pairs.csv"])
    assert model.predict(pairs)["known"].to_list() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("userId,movieId\n1,2\n", "columns are userId, movieId; wanted are user"),
        ("user,count\n1,many\n", "line 2: count is 'many'"),
        ("user\n", "no row below the header"),
        ("", "columns are none"),
    ],
)
def test_a_file_that_asks_nothing_is_refused(rows_of: Any, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "questions.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        rows_of([path])
