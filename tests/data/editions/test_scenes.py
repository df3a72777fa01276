"""Drawn streets and cars: the official layouts, every reason planted, one drive in two parts."""

import io
import re
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from data.editions import generate
from data.editions.cars import run_lengths
from data.examples import Reject
from data.images.masks import MaskCleaning
from data.images.masks_cleaning import clean_masks
from data.images.masks_reading import decode_mask
from tests.data.editions.test_editions import drawn
from tests.jobs import raw_of

ROOT = Path(__file__).resolve().parents[3]
ENTRIES = yaml.safe_load((ROOT / "params.yaml").read_text())["applications"]

REASONS = {
    "no mask", "mask without image", "mask of another size", "unreadable mask", "mask in colour",
    "unknown ids", "nothing but void", "two masks", "listed, but not in the archive", "empty file",
    "not an image", "truncated", "above the pixel limit",
}  # fmt: skip


def cleaned(name: str, folder: Path) -> tuple[list[dict[str, Any]], list[Reject]]:
    """What the committed entry makes of its drawn edition."""
    files = {path.name: path for path in drawn(name, folder / "drawn")}
    block = MaskCleaning.model_validate(ENTRIES[name]["clean"])
    results = list(clean_masks(raw_of(folder / "download", files), block))
    rows = [result for result in results if not isinstance(result, Reject)]
    return rows, [result for result in results if isinstance(result, Reject)]


def test_every_reason_is_planted(tmp_path: Path) -> None:
    rows, rejects = cleaned("camvid", tmp_path)
    assert {reject.reason for reject in rejects} == REASONS
    copies = Counter(row["digest"] for row in rows)
    assert sorted(copies.values())[-2:] == [1, 2], "an exact copy"
    parts = Counter(row["part"] for row in rows)
    assert parts["valid"] == 16
    drives = {row["item_id"].split("/")[-1][:4]: set() for row in rows}
    for row in rows:
        drives[row["item_id"].split("/")[-1][:4]].add(row["part"])
    assert [name for name, met in drives.items() if len(met) > 1] == ["0095"]


def test_thin_and_rare_things_occur(tmp_path: Path) -> None:
    rows, _ = cleaned("camvid_tiny", tmp_path)
    counts = sum(np.bincount(decode_mask(row["mask"]).ravel(), minlength=256) for row in rows)
    shares = np.asarray(counts) / np.sum(counts)
    assert (shares[:32] > 0).sum() == 9
    assert 0.0005 < np.sort(shares[shares > 0])[0] < 0.01
    assert 0.03 < shares[255] < 0.15
    assert shares[:32].max() < 0.4


def test_sixteen_views_of_a_car_are_one_group(tmp_path: Path) -> None:
    rows, rejects = cleaned("carvana", tmp_path)
    groups = Counter(row["group"] for row in rows)
    assert set(groups.values()) == {16}
    assert len(groups) == 8
    reasons = Counter(reject.reason for reject in rejects)
    assert reasons == {"mask of another size": 1, "no mask": 1, "mask without image": 1}


@pytest.mark.parametrize("name", ["camvid", "camvid_tiny"])
def test_streets_lie_as_in_the_official_archive(name: str, datasets: Path, tmp_path: Path) -> None:
    def shapes(path: Path) -> set[str]:
        with tarfile.open(path) as archive:
            files = [member.name for member in archive if member.isfile()]
        return {re.sub(r"/[^/]+?(_P)?\.png$", r"/N\1.png", file) for file in files}

    (path,) = drawn(name, tmp_path)
    assert shapes(path) == shapes(datasets / f"{name}.tgz")
    with tarfile.open(path) as ours, tarfile.open(datasets / f"{name}.tgz") as theirs:
        codes = [archive.extractfile(f"{name}/codes.txt") for archive in (ours, theirs)]
        assert codes[0] is not None
        assert codes[1] is not None
        assert codes[0].read().split() == codes[1].read().split()


def test_cars_lie_as_kaggle_has_them(datasets: Path, tmp_path: Path) -> None:
    for path in drawn("carvana", tmp_path):
        official = datasets / "carvana" / path.name
        with zipfile.ZipFile(path) as ours, zipfile.ZipFile(official) as theirs:
            shape = [
                {re.sub(r"[0-9a-f]{12}_\d\d", "N", name) for name in each.namelist()}
                for each in (ours, theirs)
            ]
            assert shape[0] == shape[1]
            if path.name == "train_masks.zip":
                masks = [Image.open(io.BytesIO(each.read(each.namelist()[0]))) for each in (ours, theirs)]
                assert masks[0].format == masks[1].format == "GIF"


def test_run_lengths_count_from_one() -> None:
    assert run_lengths(np.array([[0, 1, 1, 0], [0, 0, 1, 1]], np.uint8)) == "2 2 7 2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"things": {"sky": "Himmel"}}, "'Himmel', which is none of the codes"),
        ({"valid": 3}, "leave none to train on"),
        ({"things": {"cloud": "a"}}, "generated.things"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = {"file": "a.tgz", "folder": "a", "codes": ["a", "b"], "things": {"sky": "a"}, "drives": 3}
    with pytest.raises(ValueError, match=message):
        generate("scenes", {**settings, **changes}, tmp_path)
