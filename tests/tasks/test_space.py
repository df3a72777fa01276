"""The space of a search: how it is written, what it means for the settings, and what is refused."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from tasks.parameters import Parameters, load_parameters
from tasks.space import changes_of, read_space, settle, to_yaml, written
from tests import pictures
from tests.scratch import ROOT, write_parameters


def parameters_of(folder: Path, **fine_tune: Any) -> Parameters:
    write_parameters(folder, pictures.parameters(shapes=pictures.entry(fine_tune=fine_tune)))
    return load_parameters(folder / "params.yaml")


def draw(parameters: Parameters, *over: str) -> dict[str, Any]:
    space = read_space(parameters, "shapes", over)
    trial = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1)).ask()
    return changes_of(space, {dimension.path: dimension.suggest(trial) for dimension in space})


def test_a_range_choices_and_a_factor(tmp_path: Path) -> None:
    parameters = parameters_of(tmp_path)
    drawn = draw(
        parameters,
        "fine_tune.batch_size=4..12",
        "fine_tune.optimiser.weight_decay=1e-4..1e-1:log",
        "fine_tune.phases.1.rates=[0.001, 0.01],[0.01, 0.1]",
        "fine_tune.phases.0.rates=x0.5..2",
    )
    batch, decay, pair, (rate,) = drawn.values()
    assert list(drawn) == [
        "fine_tune.batch_size", "fine_tune.optimiser.weight_decay",
        "fine_tune.phases.1.rates", "fine_tune.phases.0.rates",
    ]  # fmt: skip
    assert isinstance(batch, int)
    assert 4 <= batch <= 12
    assert 1e-4 <= decay <= 1e-1
    assert pair in ([0.001, 0.01], [0.01, 0.1])
    assert 0.005 <= rate <= 0.02
    assert float(f"{decay:.4g}") == decay, "short enough for a table"
    entry, _ = settle(parameters, "shapes", drawn).application("shapes")
    assert entry.fine_tune.batch_size == batch
    assert entry.fine_tune.phases[0].rates == (rate,)


def test_a_star_sets_every_position_and_the_default_keeps_the_ratio_of_rates(tmp_path: Path) -> None:
    parameters = parameters_of(tmp_path)
    assert draw(parameters, "fine_tune.phases.*.epochs=2..2000").keys() == {
        "fine_tune.phases.0.epochs", "fine_tune.phases.1.epochs",
    }  # fmt: skip
    rates = draw(parameters)
    first, (low, high) = rates["fine_tune.phases.0.rates"], rates["fine_tune.phases.1.rates"]
    assert low / first[0] == pytest.approx(0.1, rel=1e-3)
    assert high / low == pytest.approx(5, rel=1e-3)


def test_the_default_space_fits_every_application() -> None:
    parameters = load_parameters(ROOT / "params.yaml")
    for name in parameters.applications:
        (dimension,) = read_space(parameters, name)
        assert dimension.current() == 1.0
        settle(parameters, name, dimension.changes(1.0)).application(name)


def test_a_file_says_the_same(tmp_path: Path) -> None:
    parameters = parameters_of(tmp_path)
    file = tmp_path / "space.yaml"
    file.write_text(
        "fine_tune.batch_size: [4, 8]\n"
        "fine_tune.phases.1.rates: [[1e-3, 1e-2], [0.01, 0.1]]\n"
        "fine_tune.phases.0.rates: x0.1..10:log\n"
    )
    over = (
        "fine_tune.batch_size=4,8",
        "fine_tune.phases.1.rates=[0.001, 0.01],[0.01, 0.1]",
        "fine_tune.phases.0.rates=x0.1..10:log",
    )
    from_file, from_texts = (read_space(parameters, "shapes", *given) for given in (((), file), (over,)))
    assert [each.choices for each in from_file] == [each.choices for each in from_texts]
    assert from_file[2] == from_texts[2]
    file.write_text("- fine_tune.batch_size\n")
    with pytest.raises(ValueError, match="must map paths to values"):
        read_space(parameters, "shapes", (), file)
    with pytest.raises(ValueError, match=r"gone\.yaml does not exist"):
        read_space(parameters, "shapes", (), tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("fine_tune.batch_sise=4,8", "did you mean 'batch_size'"),
        ("fine_tune.phases.0.rate=1..2", "fine_tune.phases.0.rate is no parameter; did you mean 'rates'"),
        ("fine_tune.phases.7.rates=1..2", r"fine_tune.phases.7 is no parameter; valid: 0, 1"),
        ("fine_tune.batch_size=0..8", "batch_size is 0: input should be greater than or equal to 2"),
        ("fine_tune.label_smoothing=0.1..1.5", "label_smoothing is 1.5: input should be less than 1"),
        ("fine_tune.network.name=resnet,resnett", "did you mean 'resnet'"),
        ("fine_tune.batch_size=8", "at least two choices that differ"),
        ("fine_tune.batch_size=8..4", "from low to high"),
        ("fine_tune.phases.0.rates.0=0..1:log", "on a log scale"),
        ("fine_tune.clip=x1..2", "a factor needs numbers in effect, not None"),
        ("fine_tune.seed=1..9", "the best seed is luck"),
        ("split.valid=0.1..0.5", "only settings of fine_tune"),
        ("fine_tune.batch_size", "write it as PATH=LOW"),
    ],
)
def test_what_is_refused_before_anything_runs(tmp_path: Path, over: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        read_space(parameters_of(tmp_path), "shapes", [over])
    assert str(refused.value).startswith(f"--over {over}: ")


def test_two_dimensions_may_not_set_the_same(tmp_path: Path) -> None:
    over = ["fine_tune.phases.*.rates=x0.1..10", "fine_tune.phases.1.rates.0=0.1..1"]
    with pytest.raises(ValueError, match=r"both set fine_tune.phases.1.rates.0"):
        read_space(parameters_of(tmp_path), "shapes", over)


def test_a_list_that_is_left_to_its_default_is_written_whole(tmp_path: Path) -> None:
    entry = pictures.entry()
    del entry["fine_tune"]["phases"]
    write_parameters(tmp_path, pictures.parameters(shapes=entry))
    parameters = load_parameters(tmp_path / "params.yaml")
    given = written({"fine_tune.phases.0.rates": [0.5], "fine_tune.clip": 1.0}, parameters, "shapes")
    phases = given.pop("fine_tune.phases")
    assert given == {"fine_tune.clip": 1.0}
    assert phases[0] == {
        "epochs": 4, "rates": [0.5], "freeze": "body", "schedule": "one_cycle", "precompute": False,
    }  # fmt: skip


def test_numbers_survive_both_readings_of_yaml() -> None:
    assert to_yaml([1e-05, 3]) == "[1.0e-05, 3]"  # YAML 1.1 takes 1e-05 for a text
