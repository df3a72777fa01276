"""What a full run will ask for is said before, from the sources' own figures."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.consent import record_consent
from tasks.forecast import Forecast, forecast
from tasks.parameters import Parameters
from tasks.pipeline import STAGE_NAMES
from tasks.workspace import checkout

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "sources", tmp_path / "root" / "sources")
    return tmp_path / "root"


def asked(root: Path, source: str, *, edition: str = "full", mirror: str = "", **entry: Any) -> Forecast:
    blocks: dict[str, Any] = {name: {} for name in STAGE_NAMES}
    paths = {
        "source": source, "corrections": "sources/none", "starts_from": "sources/none",
        "judge": "sources/none",
    }  # fmt: skip
    app = {"recipe": "image_classification", "family": "vision", **paths, **blocks, **entry}
    weights = {"resnet34": {"source": "sources/resnet34.yaml"}}
    parameters = Parameters.model_validate(
        {"edition": edition, "mirror": mirror, "weights": weights, "applications": {"app": app}}
    )
    return forecast("app", workspace=checkout(root), parameters=parameters)


def test_pets_in_full(root: Path) -> None:
    """811,706,944 bytes (fact sheet 0.3), and as much again for the cleaned rows and for DVC's copies."""
    said = asked(root, "sources/oxford_iiit_pet.yaml", starts_from="artifacts/weights/resnet34")
    assert said.fetch_bytes == 811706944
    assert said.weights_bytes == 87319819
    assert said.disk["decoded cache"] == 7390 * 224 * 224 * 3
    assert said.disk_bytes is not None
    assert said.disk_bytes > 3 * 811706944
    assert said.memory_bytes > 64 * 224 * 224 * 3 * 4
    assert (said.consent, said.non_commercial, said.hours) == (None, False, None)
    text = said.text()
    for part in (
        "811.7 MB",
        "oxford-iiit-pet.tgz",
        "CC BY-SA 4.0",
        "no receipt yet",
        "87.3 MB",
        "edition full",
    ):
        assert part in text


def test_consent_is_part_of_it(root: Path) -> None:
    said = asked(root, "sources/dogs_vs_cats.yaml")
    assert said.consent is False
    assert "python -m flows consent app" in said.text()
    record_consent("dogs_vs_cats", said.licence, workspace=checkout(root))
    assert asked(root, "sources/dogs_vs_cats.yaml").consent is True


def test_mirror_changes_size_extent_and_terms(root: Path, datasets: Path) -> None:
    said = asked(root, "sources/dogs_vs_cats.yaml", mirror=str(datasets))
    assert (said.fetch_bytes, said.extent, said.non_commercial) == (7580086, "stand-in", False)
    assert said.addresses == (str(datasets / "dogscats.zip"),)


def test_generated_edition_fetches_nothing(root: Path) -> None:
    said = asked(root, "sources/oxford_iiit_pet.yaml", edition="sample")
    assert (said.fetch_bytes, said.extent, said.addresses) == (0, "generated", ())


def test_unfinished_part_counts(root: Path) -> None:
    downloads = root / ".practicum/downloads"
    downloads.mkdir(parents=True)
    (downloads / "oxford-iiit-pet.tgz-0123.part").write_bytes(bytes(1_500_000))
    said = asked(root, "sources/oxford_iiit_pet.yaml")
    assert said.fetched_bytes == 1_500_000
    assert "of which 1.5 MB is here" in said.text()


def test_hours_from_receipts_of_the_same_extent(root: Path) -> None:
    folder = root / ".practicum/receipts/app"
    folder.mkdir(parents=True)
    for stage in STAGE_NAMES:
        record = {"seconds": 600.0, "numbers": {"extent": "whole"} if stage == "download" else {}}
        (folder / f"{stage}.json").write_text(json.dumps(record))
    assert asked(root, "sources/mnist.yaml").hours == 1.0
    other = asked(root, "sources/mnist.yaml", edition="sample")
    assert other.hours is None
    assert "on whole data, took 1.00 h" in other.text()


def test_lists_and_own_folder(root: Path, datasets: Path) -> None:
    bears = asked(root, "sources/bears.yaml", mirror=str(datasets))
    assert (bears.fetch_bytes, bears.disk_bytes) == (16934, None)
    (root / "flowers/rose").mkdir(parents=True)
    (root / "flowers/rose/a.jpg").write_bytes(bytes(1000))
    own = asked(root, "flowers")
    assert (own.extent, own.disk["download"], own.fetch_bytes) == ("own", 1000, 0)
    with pytest.raises(ValueError, match="the source flower does not exist"):
        asked(root, "flower")
