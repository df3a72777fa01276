"""The recipe on its drawn editions, on the course's real sample, and on a table of one's own."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from data.examples import Items
from models.fit import fit
from recipes.collaborative_filtering import RECIPE, RatingTraining
from recipes.recipe import Trained
from tasks.export import load_model
from tasks.parameters import load_parameters, read_application
from tasks.pipeline import STAGE_NAMES, run_stage
from tasks.predict import predict
from tasks.workspace import Workspace, checkout
from tests.scratch import ROOT, make_project

DRAWN = ("movielens", "movielens_100k", "movielens_sample")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The drawn ratings as they are committed, split."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    parameters = {**raw, "edition": "sample", "mirror": ""}
    workspace = checkout(make_project(tmp_path_factory.mktemp("sample") / "project", parameters))
    for application in DRAWN:
        for stage in ("download", "clean", "split"):
            run_stage(stage, application, workspace=workspace)
    return workspace


def learn(workspace: Workspace, application: str, *, shuffled: bool = False, **changes: Any) -> float:
    """Mean squared error on the validation part after training with the entry's settings, some changed."""
    entry, _ = load_parameters(workspace.root / "params.yaml").application(application)
    settings = RatingTraining.model_validate({**entry.fine_tune.model_dump(exclude_unset=True), **changes})
    torch.set_num_threads(1)
    learning = RECIPE.learn(items_of(workspace, application), settings, workspace.state / "cache")
    loaders: Callable[..., Any] = learning.loaders
    if shuffled:

        def loaders(phase: Any) -> Any:
            train, valid = learning.loaders(phase)
            users, items, ratings = train.tensors  # type: ignore[attr-defined]
            order = torch.randperm(len(ratings), generator=torch.Generator().manual_seed(0))
            train.tensors = (users, items, ratings[order])  # type: ignore[attr-defined]
            return train, valid

    torch.manual_seed(settings.seed)
    network = RECIPE.network(settings, learning.facts)
    history = fit(RECIPE.phases(settings, network, learning, None), loaders, seed=settings.seed)
    return float(history.rows[-1]["mse"])


def items_of(workspace: Workspace, application: str) -> Items:
    return Items(workspace.folder(application, "clean"), workspace.folder(application, "split"))


def simple(workspace: Workspace, application: str) -> tuple[float, float, float]:
    """Errors of the mean, and of two deviations added (a ridge on who and what); the former's own error."""
    from scipy.sparse import csr_array
    from sklearn.linear_model import Ridge

    items = items_of(workspace, application)
    train, valid = (
        items.table([part], ["user", "item", "rating"]).to_pandas() for part in ("train", "valid")
    )
    names = pd.Index(np.unique(np.concatenate([train["user"] + " user", train["item"] + " item"])))

    def one_hot(table: pd.DataFrame) -> csr_array:
        rows = np.tile(np.arange(len(table)), 2)
        columns = names.get_indexer(np.concatenate([table["user"] + " user", table["item"] + " item"]))
        kept = columns >= 0
        return csr_array((np.ones(kept.sum()), (rows[kept], columns[kept])), shape=(len(table), len(names)))

    ridge = Ridge(alpha=2.0).fit(one_hot(train), train["rating"])
    linear = (ridge.predict(one_hot(valid)) - valid["rating"]) ** 2
    constant = (valid["rating"] - train["rating"].mean()) ** 2
    return float(constant.mean()), float(linear.mean()), float(constant.std() / len(valid) ** 0.5)


@pytest.mark.parametrize("application", DRAWN)
def test_learning_beats_the_mean_and_a_linear_model(sample: Workspace, application: str) -> None:
    constant, linear, error = simple(sample, application)
    learned = learn(sample, application)
    assert linear < constant - 2 * error
    assert learned < linear - 2 * error


def test_it_is_no_walk_over(sample: Workspace) -> None:
    """One epoch is not enough, and factors are needed for what two biases cannot tell."""
    _, linear, error = simple(sample, "movielens")
    short = learn(sample, "movielens", phases=[{"epochs": 1, "rates": [0.005]}])
    assert short > linear
    assert learn(sample, "movielens", network={"name": "dot_bias", "factors": 1}) > linear - 5 * error


def test_with_shuffled_ratings_it_falls_to_the_mean(sample: Workspace) -> None:
    constant, _, error = simple(sample, "movielens")
    assert learn(sample, "movielens", shuffled=True) > constant - 2 * error


@pytest.mark.parametrize("network", [{"name": "dot", "factors": 8}, {"name": "net", "factors": 8}])
def test_the_course_s_other_networks_learn_as_well(sample: Workspace, network: dict[str, Any]) -> None:
    constant, _, error = simple(sample, "movielens")
    assert learn(sample, "movielens", network=network) < constant - 2 * error


def test_the_defaults_are_the_course_s() -> None:
    settings = RatingTraining()
    assert (settings.network.name, settings.network.factors, settings.batch_size) == ("dot_bias", 50, 64)
    ((phase),) = settings.phases
    assert (phase.epochs, phase.rates, settings.optimiser.weight_decay) == (5, (5e-3,), 0.1)
    assert settings.precision == "float32"


BOOKS: dict[str, Any] = {
    "recipe": "collaborative_filtering", "family": "ratings", "source": "../books",
    "corrections": "sources/none", "starts_from": "sources/none", "judge": "sources/none",
    "download": {},
    "clean": {
        "range": [1, 10],
        "ratings": {
            "file": "loans.tsv", "delimiter": "\t", "user": "reader", "item": "isbn", "rating": "stars",
            "time": "when",
        },
        "titles": {
            "file": "catalogue.csv", "delimiter": ";", "encoding": "latin-1", "item": "isbn", "title": "name",
        },
    },
    "split": {"method": "random", "valid": 0.25},
    "fine_tune": {"network": {"factors": 4}, "batch_size": 16, "threads": 1,
                  "phases": [{"epochs": 8, "rates": [0.03]}], "optimiser": {"weight_decay": 0.01}},
    "evaluate": {"shown": 4},
    "export": {"onnx": False},
}  # fmt: skip


def write_books(folder: Path) -> None:
    """Readers of crime or of poems; tab-separated, with dates, and with a line of no sense."""
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = ["when\treader\tisbn\tstars\tshelf"]
    for reader in range(30):
        for book in random.permutation(20)[:14]:
            stars = (9 if (reader + book) % 2 else 3) + random.integers(-1, 2)
            lines.append(f"2019-01-{1 + reader % 28:02}\treader {reader}\t978-{book}\t{stars}\tA")
    lines.append("2019-02-01\treader 0\t978-1\televen\tA")
    (folder / "loans.tsv").write_text("\n".join(lines) + "\n")
    books = [f"978-{book};{'Décès' if book % 2 else 'Poèmes'} {book};1999" for book in range(20)]
    (folder / "catalogue.csv").write_bytes("\n".join(["isbn;name;year", *books]).encode("latin-1"))


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A table of one's own with other column names, all six stages run."""
    folder = tmp_path_factory.mktemp("own")
    write_books(folder / "books")
    parameters = {"edition": "sample", "mirror": "", "weights": {}, "applications": {"books": BOOKS}}
    workspace = checkout(make_project(folder / "project", parameters))
    for stage in STAGE_NAMES:
        run_stage(stage, "books", workspace=workspace)
    return workspace


def test_a_table_of_one_s_own_needs_an_entry_alone(books: Workspace) -> None:
    metrics = json.loads((books.folder("books", "evaluate") / "metrics.json").read_text())
    assert metrics["data"] == "own"
    assert metrics["valid"]["mse"] < 4.0  # the stars' variance is about 9.7
    assert metrics["valid"]["rmse"] == pytest.approx(metrics["valid"]["mse"] ** 0.5)
    (reject,) = pq.read_table(books.folder("books", "clean") / "rejects.parquet").to_pylist()
    assert reject["reason"] == "rating is not a number"
    assert "loans.tsv, line 422" in reject["detail"]


def test_the_evaluation_shows_what_was_learned(books: Workspace) -> None:
    folder = books.folder("books", "evaluate")
    drawn = {file.stem for file in (folder / "figures").iterdir()}
    assert drawn == {"training_batch", "item_biases", "item_map", "error_by_rating", "top_losses"}
    simple_predictors = pd.read_csv(folder / "tables" / "simple_predictors.csv")
    errors = dict(zip(simple_predictors["predictor"], simple_predictors["mse"], strict=True))
    assert errors["this network"] < errors["and the user's deviation"]
    by_activity = pd.read_csv(folder / "tables" / "error_by_activity.csv")
    metrics = json.loads((folder / "metrics.json").read_text())["valid"]
    for _, rows in by_activity.groupby("of"):
        assert np.average(rows["mse"], weights=rows["ratings"]) == pytest.approx(metrics["mse"])
    worst = pd.read_csv(folder / "corrections.csv")
    assert worst["squared_error"].is_monotonic_decreasing
    assert list(worst.columns[:3]) == ["item_id", "action", "label"]


def test_the_card_compares_with_simple_predictors(books: Workspace) -> None:
    card = (books.folder("books", "export") / "card.md").read_text()
    assert "## Beside simple predictors" in card
    assert "## What it recommends to somebody new" in card
    assert "average user" in card


def test_the_exported_model_takes_readers_and_books(books: Workspace, tmp_path: Path) -> None:
    model = load_model(books.folder("books", "export"))
    pair = model.predict(pd.DataFrame({"user": ["reader 0", "reader 1"], "item": ["978-1", "978-1"]}))
    assert pair["title"].to_list() == ["Décès 1", "Décès 1"]
    assert pair["rating"][0] > 6 > pair["rating"][1]
    rated = set(
        items_of(books, "books")
        .table(["train"], ["user", "item"])
        .to_pandas()
        .query("user == 'reader 3'")["item"]
    )
    unseen = model.predict(pd.DataFrame({"user": ["reader 3"], "count": [20]}))["items"][0]
    assert len(unseen) == 20 - len(rated)
    assert not rated & set(unseen)
    question = tmp_path / "q.csv"
    question.write_text('user,count,ratings\nnew reader,4,"{""978-1"": 10, ""978-2"": 2, ""978-3"": 10}"\n')
    answer = predict("books", [question], books)
    assert sum(title.startswith("Décès") for title in answer["titles"][0]) >= 3


def test_predictions_are_the_exported_program_s(books: Workspace) -> None:
    table = pq.read_table(books.folder("books", "evaluate") / "predictions.parquet").to_pandas()
    known = table[(table["item_ratings"] > 0) & (table["user_ratings"] > 0)]
    model = load_model(books.folder("books", "export"))
    answer = model.predict(known[["user", "item"]])
    assert answer["rating"].to_list() == pytest.approx(known["predicted"].to_list(), abs=1e-5)


def test_another_application_s_network_is_a_start(books: Workspace) -> None:
    tuned = books.folder("books", "fine_tune")
    facts = json.loads((tuned / "facts.json").read_text())
    settings = RatingTraining.model_validate_json((tuned / "settings.json").read_text())
    trained = Trained(state=load_file(tuned / "weights.safetensors"), facts=facts, settings={})
    fewer = {**facts, "users": facts["users"][5:], "items": [*facts["items"], "978-99"]}
    network = RECIPE.network(settings, fewer)
    assert len(RECIPE.start(network, trained, fewer)) == 4
    weight = network.get_parameter("user_factors.weight")
    assert torch.equal(weight, trained.state["user_factors.weight"][5:])
    with pytest.raises(ValueError, match="of this recipe"):
        RECIPE.start(network, dataclasses.replace(trained, facts={}), fewer)


def test_a_missing_column_stops_with_the_nearest_name(books: Workspace, tmp_path: Path) -> None:
    shutil.copytree(books.root.parent / "books", tmp_path / "books")
    clean = {**BOOKS["clean"], "ratings": {**BOOKS["clean"]["ratings"], "rating": "star"}}
    parameters = {
        "edition": "sample",
        "mirror": "",
        "weights": {},
        "applications": {"books": {**BOOKS, "clean": clean}},
    }
    workspace = checkout(make_project(tmp_path / "project", parameters))
    run_stage("download", "books", workspace=workspace)
    with pytest.raises(ValueError, match=r"loans.tsv has no column 'star'; did you mean 'stars'\?"):
        run_stage("clean", "books", workspace=workspace)


def test_the_course_s_real_sample_is_learned(datasets: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())["applications"]["movielens_sample"]
    full = yaml.safe_load((ROOT / "editions" / "full.yaml").read_text())["applications"]["movielens_sample"]
    entry = {**raw, **full, "source": str(datasets / "movie_lens_sample.tgz")}
    parameters = {"edition": "sample", "mirror": "", "weights": {}, "applications": {"real": entry}}
    workspace = checkout(make_project(tmp_path / "project", parameters))
    for stage in ("download", "clean", "split"):
        run_stage(stage, "real", workspace=workspace)
    constant, _, error = simple(workspace, "real")
    learned = learn(workspace, "real")
    assert learned < constant - 5 * error
    assert learned < 0.669647  # the course's, on an earlier build of nearly the same rows


def test_the_entries_of_the_page_on_own_ratings_are_valid() -> None:
    page = (ROOT / "docs" / "data" / "ratings.md").read_text()
    blocks = [yaml.safe_load(text.split("```")[0]) for text in page.split("```yaml\n")[1:]]
    (whole,), other = [block for block in blocks if "clean" not in block], blocks[1]
    entry, recipe = read_application("books", whole["books"])
    assert recipe is RECIPE
    assert entry.clean.ratings.user == "reader"
    changed, _ = read_application("books", {**whole["books"], **other})
    assert changed.clean.titles.delimiter == "::"


def test_the_page_names_every_reason(sample: Workspace) -> None:
    page = (ROOT / "docs" / "data" / "ratings.md").read_text()
    rejects = pq.read_table(sample.folder("movielens", "clean") / "rejects.parquet")
    for reason in set(rejects["reason"].to_pylist()):
        assert f"`{reason}`" in page
