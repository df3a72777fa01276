"""Reviews: the generated edition teaches order, and shuffled labels teach nothing; one's own files work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from data.editions import generate
from data.examples import Items
from models.fit import fit
from models.language.classifier import TextClassifier
from recipes.recipe import Trained, find_recipe
from recipes.text_classification import RECIPE, TextTraining
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests.scratch import ROOT, make_project

SMALL: dict[str, Any] = {
    "network": {"embedding": 32, "hidden": 48, "layers": 1, "dropout_scale": 0.3},
    "threads": 1,
    "batch_size": 32,
    "phases": [{"epochs": 5, "rates": [0.02], "momenta": [0.8, 0.7]}],
}


def entry(source: str, **blocks: Any) -> dict[str, Any]:
    return {
        "recipe": "text_classification", "family": "language", "source": source,
        "corrections": "sources/none", "starts_from": "sources/none", "judge": "sources/none",
        "download": {}, "clean": {}, "split": {}, "fine_tune": SMALL, "evaluate": {"shown": 2},
        "export": {"onnx": False}, **blocks,
    }  # fmt: skip


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The generated reviews, cleaned and split."""
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())["applications"]["imdb"]
    blocks = {stage: committed[stage] for stage in ("clean", "split")}
    raw = {
        "edition": "sample", "mirror": "", "weights": {},
        "applications": {"films": entry("sources/imdb.yaml", **blocks)},
    }  # fmt: skip
    workspace = checkout(make_project(tmp_path_factory.mktemp("reviews") / "project", raw))
    for stage in ("download", "clean", "split"):
        run_stage(stage, "films", workspace=workspace)
    return workspace


def items_of(workspace: Workspace, application: str = "films") -> Items:
    return Items(workspace.folder(application, "clean"), workspace.folder(application, "split"))


def learned(workspace: Workspace, *, shuffled: bool = False) -> float:
    """Validation accuracy after a short training."""
    settings = TextTraining.model_validate(SMALL)
    torch.set_num_threads(1)
    learning = RECIPE.learn(items_of(workspace), settings, workspace.state / "cache")
    loaders: Callable[..., Any] = learning.loaders
    if shuffled:

        def loaders(phase: Any) -> Any:
            train, valid = learning.loaders(phase)
            train.targets = np.random.default_rng(1).permutation(train.targets)  # type: ignore[attr-defined]
            return train, valid

    torch.manual_seed(1)
    network = RECIPE.network(settings, learning.facts)
    history = fit(RECIPE.phases(settings, network, learning, None), loaders, seed=1)
    return float(history.rows[-1]["accuracy"])


def linear(workspace: Workspace) -> float:
    """What TF-IDF and logistic regression reach on single tokens."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    parts = {part: items_of(workspace).table([part], ["text", "label"]) for part in ("train", "valid")}
    vectorizer = TfidfVectorizer()
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(
        vectorizer.fit_transform(parts["train"]["text"].to_pylist()), parts["train"]["label"].to_pylist()
    )
    answers = model.predict(vectorizer.transform(parts["valid"]["text"].to_pylist()))
    return float((answers == np.array(parts["valid"]["label"].to_pylist())).mean())


def test_learning_beats_a_bag_of_words_which_is_no_walk_over(reviews: Workspace) -> None:
    bag, network = linear(reviews), learned(reviews)
    error = (0.25 / 301) ** 0.5
    assert 0.6 < bag < 0.85
    assert network > bag + 2 * error


def test_with_shuffled_labels_it_falls_to_chance(reviews: Workspace) -> None:
    assert abs(learned(reviews, shuffled=True) - 0.5) < 3 * (0.25 / 301) ** 0.5


def test_the_leak_between_parts_is_reported(reviews: Workspace) -> None:
    import json

    leaks = json.loads((reviews.folder("films", "split") / "leaks.json").read_text())
    assert leaks["verdict"] == "reported"
    assert leaks["leaks"]["exact"] == 1


def test_the_defaults_are_the_course_s() -> None:
    settings = TextTraining()
    assert (settings.network.embedding, settings.network.hidden, settings.network.layers) == (400, 1152, 3)
    assert [phase.freeze for phase in settings.phases] == ["body", -2, -3, "none"]
    assert settings.phases[1].rates == (1e-2 / 2.6**4, 1e-2)
    assert all(phase.momenta == (0.8, 0.7) for phase in settings.phases)
    assert settings.precision == "float32"
    assert settings.network.drops().weight == pytest.approx(0.25)
    assert (settings.vocabulary.minimum, settings.vocabulary.most) == (2, 60_000)


def test_a_language_model_s_embeddings_are_found_by_their_tokens() -> None:
    language = find_recipe("language_model")
    raw = {"network": {"embedding": 6, "hidden": 8, "layers": 2}}
    known = ["xxunk", "xxpad", "xxbos", "good", "film", "old"]
    torch.manual_seed(0)
    model = language.network(language.blocks["fine_tune"].model_validate(raw), {"vocabulary": known})
    trained = Trained(state=model.state_dict(), facts={"vocabulary": known}, settings={})
    facts = {"classes": ["a", "b"], "vocabulary": ["xxunk", "xxpad", "xxbos", "film", "new", "good"]}
    network = RECIPE.network(TextTraining.model_validate(raw), facts)
    loaded = RECIPE.start(network, trained, facts)
    assert isinstance(network, TextClassifier)
    assert set(loaded) == {f"encoder.{name}" for name in network.encoder.state_dict()}
    rows = model.state_dict()["encoder.embedding.weight"]
    own = network.encoder.embedding.weight
    torch.testing.assert_close(own[3], rows[4])
    torch.testing.assert_close(own[5], rows[3])
    torch.testing.assert_close(own[4], rows.mean(0), msg="a word that it never met is the mean of all")
    with pytest.raises(ValueError, match="reads tokens"):
        RECIPE.start(network, Trained(state=model.state_dict(), facts={}, settings={}), facts)


def write_own_table(folder: Path) -> Path:
    """A table with columns of its own, three classes, and rows that are wrong."""
    drawn = generate(
        "reviews",
        {"file": "a.tgz", "table": "a.csv", "parts": {"train": 20}, "labels": ["praise", "blame"]},
        folder / "drawn",
    )
    import csv
    import io
    import tarfile

    with tarfile.open(drawn[0]) as tar:
        member = tar.extractfile("a.csv")
        assert member is not None
        rows = list(csv.DictReader(io.StringIO(member.read().decode())))
    own = folder / "own"
    own.mkdir()
    with (own / "opinions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "opinion", "mood"])
        writer.writerows([f"p{number:03}", row["text"], row["label"]] for number, row in enumerate(rows))
        writer.writerows([["q1", "", "praise"], ["q2", "Fine.", ""]])
        writer.writerows(
            [[f"n{number}", f"It is raining on day {number}.", "neither"] for number in range(15)]
        )
    return own


def test_one_s_own_table_needs_an_entry_alone(tmp_path: Path) -> None:
    own = write_own_table(tmp_path)
    short = {**SMALL, "phases": [{"epochs": 1, "rates": [0.01]}]}
    mine = entry(
        str(own), clean={"layout": "table", "text": "opinion", "label": "mood", "id": "who"}, fine_tune=short
    )
    raw = {"edition": "sample", "mirror": "", "weights": {}, "applications": {"moods": mine}}
    workspace = checkout(make_project(tmp_path / "project", raw))
    for stage in ("download", "clean", "split", "fine_tune", "evaluate", "export"):
        run_stage(stage, "moods", workspace=workspace)
    evaluated = workspace.folder("moods", "evaluate")
    assert {file.stem for file in (evaluated / "figures").iterdir()} >= {
        "attribution", "confusion_matrix", "lengths", "top_losses", "training_batch",
    }  # fmt: skip
    card = (workspace.folder("moods", "export") / "card.md").read_text()
    assert "A bag of words beside it" in card
    assert "always the most frequent class" in card
    from tasks.predict import predict

    (tmp_path / "new.txt").write_text("It is raining on day 99.")
    (tmp_path / "nothing.txt").write_text("<br />")
    answer = predict("moods", [tmp_path / "new.txt", tmp_path / "nothing.txt"], workspace)
    assert answer["file"].tolist() == [str(tmp_path / "new.txt")]
    assert len(answer["probabilities"][0]) == 3


def test_a_text_without_a_label_stops_training_and_is_named(tmp_path: Path) -> None:
    for name, text in {"a/pos/1": "Good", "a/neg/2": "Bad", "a/new/3": "So so", "b/pos/4": "Fine"}.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / f"{name}.txt").write_text(text)
    clean = {"parts": {"a": "train", "b": "valid"}, "unlabelled": ["new"]}
    mine = entry(str(tmp_path / "own"), clean=clean, split={"method": "published"})
    raw = {"edition": "sample", "mirror": "", "weights": {}, "applications": {"mine": mine}}
    workspace = checkout(make_project(tmp_path / "project", raw))
    for stage in ("download", "clean", "split"):
        run_stage(stage, "mine", workspace=workspace)
    learning = RECIPE.learn(
        items_of(workspace, "mine"), TextTraining.model_validate(SMALL), tmp_path / "cache"
    )
    with pytest.raises(ValueError, match=r"a/new/3.txt belongs to the train part and has no label"):
        learning.loaders(None)  # type: ignore[arg-type]
