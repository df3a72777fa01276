"""`params.yaml` in another edition: comments stay, mistakes are named, nothing is half-written."""

import shutil
from pathlib import Path

import pytest
import yaml

from flows.editions import apply
from flows.explain import effective
from tasks.workspace import checkout

PARAMETERS = """\
# What is in effect.
edition: sample
mirror: ""

weights: {}

applications:
  # The first one.
  mine:
    recipe: image_classification
    family: vision
    source: pictures
    corrections: sources/none
    starts_from: sources/none  # random weights
    judge: sources/none
    download: {}
    clean: {}
    split: {valid: 0.25}
    fine_tune:
      batch_size: 8
      phases:
        - {epochs: 1, rates: [0.01]}
    evaluate: {}
    export: {}
"""

FULL = """\
applications:
  mine:
    fine_tune:
      batch_size: 64  # of the course
      phases:
        - {epochs: 4, rates: [0.003], freeze: body}
        - {epochs: 2, rates: [0.000001, 0.0001]}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "editions").mkdir()
    (tmp_path / "editions" / "full.yaml").write_text(FULL)
    (tmp_path / "params.yaml").write_text(PARAMETERS)
    return tmp_path


def test_an_edition_is_merged_and_comments_stay(root: Path) -> None:
    changed = apply(root, "full", mirror="../shared")
    text = (root / "params.yaml").read_text()
    written = yaml.safe_load(text)
    assert written["edition"] == "full"
    assert written["mirror"] == "../shared"
    assert written["applications"]["mine"]["fine_tune"]["batch_size"] == 64
    assert [phase["epochs"] for phase in written["applications"]["mine"]["fine_tune"]["phases"]] == [4, 2]
    assert written["applications"]["mine"]["split"] == {"valid": 0.25}
    for comment in ("# What is in effect.", "# The first one.", "# random weights"):
        assert comment in text
    assert "applications.mine.fine_tune.batch_size: 8 -> 64" in changed
    assert apply(root, "full") == []


def test_lines_that_nobody_changed_stay_as_they_were(root: Path) -> None:
    apply(root, settings=["applications.mine.split.valid=0.5"])
    before, after = PARAMETERS.splitlines(), (root / "params.yaml").read_text().splitlines()
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        ("    split: {valid: 0.25}", "    split: {valid: 0.5}")
    ]


def test_settings_are_typed_as_in_yaml_and_may_go_below_a_default(root: Path) -> None:
    apply(
        root, settings=["applications.mine.fine_tune.network.name=resnet18", "applications.mine.split.seed=7"]
    )
    entry = yaml.safe_load((root / "params.yaml").read_text())["applications"]["mine"]
    assert entry["fine_tune"]["network"] == {"name": "resnet18"}
    assert entry["split"]["seed"] == 7


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ful", [], r"no edition 'ful'; did you mean 'full'"),
        (
            None,
            ["applications.mine.fine_tune.batchsize=3"],
            r"batchsize is no parameter; did you mean",
        ),
        (None, ["applications.mine.fine_tune.batch_size=many"], r"fine_tune.batch_size is 'many'"),
        (None, ["applications.mien.split.seed=3"], r"no applications.mien; did you mean 'mine'"),
        (None, ["edition.name=x"], r"edition is a value, not a block"),
        (None, ["applications.mine.split.seed"], r"write it as path.to.key=value"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    root: Path, name: str | None, settings: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        apply(root, name, settings=settings)
    assert (root / "params.yaml").read_text() == PARAMETERS


def test_an_edition_makes_no_application(root: Path) -> None:
    (root / "editions" / "full.yaml").write_text("applications: {yours: {split: {seed: 1}}}\n")
    with pytest.raises(ValueError, match=r"full.yaml: params.yaml has no applications.yours"):
        apply(root, "full")


def test_every_parameter_says_where_it_comes_from(root: Path) -> None:
    apply(root, "full", settings=["applications.mine.split.seed=7"])
    origins = {path: (value, origin) for path, value, origin in effective("mine", checkout(root))}
    assert origins["fine_tune.batch_size"] == (64, "editions/full.yaml")
    assert origins["fine_tune.phases.1.epochs"] == (2, "editions/full.yaml")
    assert origins["split.seed"] == (7, "params.yaml")
    assert origins["split.test"] == (0.0, "default")
    assert origins["source"] == ("pictures", "params.yaml")


def test_an_edition_replaces_a_block_as_a_whole(root: Path) -> None:
    apply(root, settings=["applications.mine.fine_tune.label_smoothing=0.1"])
    apply(root, "full")
    written = yaml.safe_load((root / "params.yaml").read_text())
    assert written["applications"]["mine"]["fine_tune"].keys() == {"batch_size", "phases"}


def test_the_projects_editions_lead_there_and_back(tmp_path: Path) -> None:
    project = Path(__file__).resolve().parents[2]
    shutil.copytree(project / "editions", tmp_path / "editions")
    shutil.copy(project / "params.yaml", tmp_path / "params.yaml")
    before = (tmp_path / "params.yaml").read_text()
    assert apply(tmp_path, "sample") == []
    assert (tmp_path / "params.yaml").read_text() == before, "params.yaml is committed in the sample edition"
    assert apply(tmp_path, "full")
    apply(tmp_path, "sample")
    assert yaml.safe_load((tmp_path / "params.yaml").read_text()) == yaml.safe_load(before)
