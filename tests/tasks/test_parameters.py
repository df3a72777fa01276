"""Every mistake in params.yaml is named by its path, with the nearest valid name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.parameters import Parameters, load_parameters
from tests.pictures import entry, parameters

ROOT = Path(__file__).resolve().parents[2]


def read(tmp_path: Path, raw: Any) -> Any:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load_parameters(path)


def test_every_entry_of_the_project_is_valid() -> None:
    parameters = load_parameters(ROOT / "params.yaml")
    for name in parameters.applications:
        typed, recipe = parameters.application(name)
        assert typed.family == recipe.family


def test_an_unknown_application_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no application 'shape'; did you mean 'shapes'"):
        read(tmp_path, parameters(shapes=entry())).application("shape")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "image_clasification"}, "recipe: no recipe .* did you mean 'image_classification'"),
        (
            {"fine_tune": {"batch_sise": 4}},
            r"fine_tune.batch_sise is no parameter; did you mean 'batch_size'",
        ),
        ({"fine_tune": {"batch_size": "4"}}, r"fine_tune.batch_size is '4': input should be a valid integer"),
        ({"fine_tune": {"batch_size": 0}}, r"fine_tune.batch_size is 0: .* greater than or equal to 2"),
        (
            {"fine_tune": {"network": {"name": "resnet43"}}},
            r"fine_tune.network.name is 'resnet43'; did you mean 'resnet34'",
        ),
        (
            {"fine_tune": {"augmentation": {"rotat": 1.0}}},
            r"fine_tune.augmentation.rotat is no parameter; .* 'rotate'",
        ),
        ({"split": {"method": "stratify"}}, r"split.method is 'stratify'; did you mean 'stratified'"),
        ({"split": {"valid": 1.5}}, r"split.valid is 1.5"),
        (
            {"clean": {"labels": {"from": "folders"}}},
            r"clean.labels.from is 'folders'; did you mean 'folder'",
        ),
        ({"family": "visions"}, "family is 'visions', but recipe 'image_classification' is of 'vision'"),
        ({"sauce": "x"}, "sauce is no parameter; did you mean 'source'"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"applications.shapes.{message}"):
        read(tmp_path, parameters(shapes=entry(**change))).application("shapes")


def test_a_setting_without_effect_is_an_error(tmp_path: Path) -> None:
    change = {"phases": [{"epochs": 1, "rates": [0.1], "schedule": "constant", "warm": 0.5}]}
    with pytest.raises(ValueError, match="warm has no effect"):
        read(tmp_path, parameters(shapes=entry(fine_tune=change))).application("shapes")


def test_other_entries_are_not_read(tmp_path: Path) -> None:
    given = read(tmp_path, parameters(shapes=entry(), broken={"recipe": "image_classification"}))
    typed, _ = given.application("shapes")
    assert typed.fine_tune.batch_size == 8
    with pytest.raises(ValueError, match=r"applications.broken.family is missing"):
        given.application("broken")


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("applications: [")
    with pytest.raises(ValueError, match=r"(?s)params.yaml is not valid YAML: .*line 1"):
        load_parameters(tmp_path / "params.yaml")
    with pytest.raises(ValueError, match="does not exist; run this from the project's root"):
        load_parameters(tmp_path / "none.yaml")


def test_an_entry_replaces_single_values_of_the_schedule() -> None:
    own = entry(schedule={"cron": None, "late_hours": 2})
    raw = {**parameters(mine=own, yours=entry()), "schedule": {"timezone": "Asia/Tokyo"}}
    read = Parameters(**raw)
    mine, yours = read.schedule_of("mine"), read.schedule_of("yours")
    assert (mine.cron, mine.timezone, mine.late_hours) == (None, "Asia/Tokyo", 2)
    assert (yours.cron, yours.timezone, yours.late_hours) == ("0 2 * * *", "Asia/Tokyo", 6)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"corn": "0 2 * * *"}, r"applications.mine.schedule.corn is no parameter; did you mean 'cron'"),
        ({"cron": "61 * * * *"}, r"applications.mine.schedule.cron is '61 \* \* \* \*': no cron expression"),
        ({"cron": "nightly"}, r"write five fields, such as '0 2 \* \* \*'"),
        ({"timezone": "Berlin"}, r"schedule.timezone is 'Berlin': no time zone of the IANA data base"),
        ({"time_limit_hours": 0}, r"schedule.time_limit_hours is 0: input should be greater than 0"),
    ],
)
def test_mistakes_of_a_schedule_are_named(schedule: dict[str, Any], message: str) -> None:
    read = Parameters(**parameters(mine=entry(schedule=schedule)))
    with pytest.raises(ValueError, match=message):
        read.schedule_of("mine")


def test_a_schedule_is_nothing_that_dvc_tracks() -> None:
    tracked = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    named = {name for stage in tracked for name in stage["do"]["params"]}
    assert named
    assert not [name for name in named if "schedule" in name or name == "applications.${key}"]
