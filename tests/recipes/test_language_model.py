"""The recipe on generated editions: more than frequencies is learned, and from shuffled tokens nothing is."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure as Canvas

from data.examples import Items
from data.text.streams import Streams
from models.fit import fit
from recipes.evaluation import language
from recipes.evaluation.passages import coloured
from recipes.language_model import RECIPE, LanguageEvaluation, LanguageTraining
from recipes.recipe import Subject, Trained
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.predict import predict
from tasks.workspace import Workspace, checkout
from tests.scratch import ROOT, make_project

APPLICATIONS = ("nietzsche", "human_numbers")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Texts of the sample edition as it is committed, split."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    parameters["applications"] = {name: parameters["applications"][name] for name in APPLICATIONS}
    workspace = checkout(make_project(tmp_path_factory.mktemp("sample") / "project", parameters))
    for application in APPLICATIONS:
        for stage in ("download", "clean", "split"):
            run_stage(stage, application, workspace=workspace)
    return workspace


def learned(workspace: Workspace, application: str, *, shuffled: bool = False, **changes: Any) -> Subject:
    """A subject trained with the committed settings, some of them changed."""
    entry, _ = load_parameters(workspace.root / "params.yaml").application(application)
    settings = LanguageTraining.model_validate(
        {**entry.fine_tune.model_dump(exclude_unset=True), "threads": 1, **changes}
    )
    torch.set_num_threads(1)
    folder = workspace.folder(application, "clean")
    items = Items(folder, folder.with_name("split"))
    cache = workspace.state / "cache" / application
    learning = RECIPE.learn(items, settings, cache)
    loaders: Callable[..., Any] = learning.loaders
    if shuffled:

        def loaders(phase: Any) -> Any:
            parts = learning.loaders(phase)
            for place, part in enumerate(parts):
                assert isinstance(part, Streams)
                part.codes = np.random.default_rng(place).permutation(part.codes)
            return parts

    torch.manual_seed(settings.seed)
    network = RECIPE.network(settings, learning.facts)
    phases = RECIPE.phases(settings, network, learning, None)
    history = fit(phases, loaders, seed=settings.seed, clip=settings.clip)
    assert history.rows[-1]["loss"] == pytest.approx(history.rows[-1]["valid_loss"], rel=1e-5)
    return Subject(
        network=network.eval(), items=items, facts={**learning.facts, "history": history.rows},
        settings=settings, evaluation=LanguageEvaluation(tokens=30, shown=2), cache=cache, judge=None,
    )  # fmt: skip


@pytest.fixture(scope="module", params=APPLICATIONS)
def subject(sample: Workspace, request: pytest.FixtureRequest) -> Subject:
    return learned(sample, request.param)


def codes(subject: Subject, part: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    streams = language.open_streams(
        subject.items, part, subject.facts["vocabulary"], subject.settings, subject.cache
    )
    assert streams is not None
    return streams.codes


def frequencies(subject: Subject) -> Iterator[tuple[float, float]]:
    """Validation loss and accuracy of what the training part's tokens tell alone, and with the one before."""
    train, valid = codes(subject, "train"), codes(subject, "valid")
    size = len(subject.facts["vocabulary"])
    single = np.tile(np.bincount(train, minlength=size) + 0.1, (size, 1))
    pairs = np.zeros((size, size))
    np.add.at(pairs, (train[:-1], train[1:]), 1)
    for counts in (single, pairs + 0.1):
        chances = counts / counts.sum(axis=1, keepdims=True)
        loss = -np.log(chances[valid[:-1], valid[1:]]).mean()
        yield float(loss), float((chances.argmax(axis=1)[valid[:-1]] == valid[1:]).mean())


def test_more_is_learned_than_how_often_tokens_and_pairs_occur(subject: Subject) -> None:
    row = subject.facts["history"][-1]
    for loss, accuracy in frequencies(subject):
        assert row["loss"] < 0.8 * loss
        assert row["accuracy"] > accuracy + 0.1


@pytest.mark.parametrize("application", APPLICATIONS)
def test_from_shuffled_tokens_only_their_frequency_is_learned(sample: Workspace, application: str) -> None:
    phases = [{"epochs": 2, "rates": [0.01]}]
    judged = learned(sample, application, shuffled=True, phases=phases)
    (loss, accuracy), _ = frequencies(judged)
    row = judged.facts["history"][-1]
    assert row["loss"] > loss - 0.1
    assert row["accuracy"] < accuracy + 0.03


def test_every_token_of_the_part_is_judged_as_in_training(subject: Subject) -> None:
    predictions = RECIPE.predict(subject)
    metrics = RECIPE.score(predictions, subject.facts)
    row = subject.facts["history"][-1]
    assert metrics["tokens"] == len(codes(subject, "valid")) - 1
    assert metrics["loss"] == pytest.approx(row["loss"], rel=1e-4)
    assert metrics["accuracy"] == pytest.approx(row["accuracy"], abs=1e-4)
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]))
    assert set(RECIPE.metrics) <= set(metrics)
    assert predictions["item_id"].to_pylist() == subject.items.table(["valid"])["item_id"].to_pylist()
    assert sum(predictions["tokens"].to_pylist()) == metrics["tokens"]
    worst = RECIPE.review(predictions, subject.evaluation)
    assert worst["loss"].to_pylist() == sorted(worst["loss"].to_pylist(), reverse=True)


def test_figures_and_tables_are_drawn(subject: Subject) -> None:
    predictions = RECIPE.predict(subject)
    names = []
    for figure in RECIPE.interpret(subject, predictions):
        figure.draw(Canvas(dpi=50))
        names.append(figure.name)
    assert names == ["training_batch", "generated", "loss_by_position", "dearest_tokens", "most_surprising"]
    listed = {listing.name: listing for listing in RECIPE.tables(subject, predictions)}
    assert listed["samples"].title
    assert listed["samples"].table["temperature"].to_pylist() == [0.75, 0.5, 1.0]
    assert all(listed["samples"].table["text"].to_pylist())
    assert sum(listed["tokens"].table["share"].to_pylist()) == pytest.approx(1)


def test_samples_repeat_themselves_and_draw_nothing_from_torch(subject: Subject) -> None:
    assert RECIPE.sample is not None
    before = torch.get_rng_state()
    subject.network.train()
    figure = RECIPE.sample(subject.network, subject.facts, subject.settings)
    figure.draw(Canvas(dpi=50))
    assert subject.network.training
    assert torch.equal(before, torch.get_rng_state())
    subject.network.eval()


def test_another_model_s_tokens_are_found_again(subject: Subject) -> None:
    facts = {"vocabulary": list(reversed(subject.facts["vocabulary"]))}
    other = RECIPE.network(subject.settings, facts)
    trained = Trained(state=subject.network.state_dict(), facts=subject.facts, settings={})
    assert set(RECIPE.start(other, trained, facts)) == set(other.state_dict())
    swapped = replace(subject, network=other.eval(), facts=facts)
    kept, moved = (RECIPE.score(RECIPE.predict(each), {})["loss"] for each in (subject, swapped))
    assert moved == pytest.approx(kept, rel=1e-4)


def test_strange_tokens_can_be_drawn() -> None:
    """What no font has, formulas that are none, and numbers that are none."""
    tokens = ["$x^", "\n", "漢字", "\t", "a" * 300, "\\frac{"]
    coloured(
        Canvas(dpi=50), [("$title_", tokens, [0.1, float("nan"), 9.0, -1.0, 2.0, 0.0])], label="nats",
        limits=(0.0, 8.0),
    )  # fmt: skip


def test_the_defaults_are_the_course_s() -> None:
    settings = LanguageTraining()
    assert (settings.streams, settings.length) == (48, 70)
    assert settings.network.widths() == [1152, 1152, 400]
    assert settings.network.drops().input == pytest.approx(0.25 * 0.3)
    assert [(phase.epochs, phase.freeze) for phase in settings.phases] == [(1, "body"), (10, "none")]
    assert settings.phases[0].momenta == (0.8, 0.7)


def test_a_text_that_is_too_short_is_named(tmp_path: Path, sample: Workspace) -> None:
    import pyarrow.parquet as pq

    folder = sample.folder("human_numbers", "split")
    split = pq.read_table(folder / "split.parquet")
    small = tmp_path / "split"
    small.mkdir()
    one = split.slice(0, 1)
    pq.write_table(one, small / "split.parquet")
    settings = LanguageTraining.model_validate({"tokenizer": {"name": "split"}, "vocabulary": {"minimum": 1}})
    items = Items(folder.with_name("clean"), small)
    learning = RECIPE.learn(items, settings, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"the train part has a text of 1 tokens"):
        learning.loaders(None)  # type: ignore[arg-type]


def test_a_diary_of_one_s_own_by_the_entry_of_the_page(tmp_path: Path) -> None:
    """The entry as it stands in docs/data/language.md, on another file in another encoding's line ends."""
    page = (ROOT / "docs/data/language.md").read_text()
    entry = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    entry["diary"]["fine_tune"]["phases"] = [{"epochs": 1, "rates": [0.01]}]
    (tmp_path / "diary").mkdir()
    days = [f"{day}. Maerz\r\nHeute {['regnet', 'schneit'][day % 2]} es.\r\n\r\n" for day in range(1, 400)]
    (tmp_path / "diary/diary.txt").write_bytes("".join(days).encode())
    raw = {"edition": "sample", "mirror": "", "weights": {}, "applications": entry}
    workspace = checkout(make_project(tmp_path / "project", raw))
    for stage in ("download", "clean", "split", "fine_tune", "evaluate", "export"):
        run_stage(stage, "diary", workspace=workspace)
    assert (workspace.folder("diary", "fine_tune") / "samples/epoch-001.png").is_file()
    assert "Generated text" in (workspace.folder("diary", "export") / "card.md").read_text()
    answers = predict("diary", [tmp_path / "diary/diary.txt"], workspace)
    assert answers["loss"][0] < 3.0
    assert answers["continuation"][0]
