"""Generated editions: official layouts, the same bytes every time, every fault where it is said to be."""

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from data.archives import Raw
from data.editions import generate
from data.examples import Reject
from data.images.cleaning import ImageCleaning, clean_images
from tests.jobs import raw_of

ROOT = Path(__file__).resolve().parents[3]
DRAWN = {
    path.stem: source
    for path in sorted((ROOT / "sources").glob("*.yaml"))
    if (source := yaml.safe_load(path.read_text())).get("generated")
}


def drawn(name: str, folder: Path) -> list[Path]:
    settings = {"file": DRAWN[name]["file"], **DRAWN[name]["generated"]}
    return generate(settings.pop("generator"), settings, folder)


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@pytest.mark.parametrize("name", DRAWN)
def test_another_process_draws_the_same_bytes(name: str, tmp_path: Path) -> None:
    drawn(name, tmp_path / "here")
    code = (
        "from pathlib import Path; from tests.data.editions.test_editions import drawn;"
        f"drawn({name!r}, Path({str(tmp_path / 'there')!r}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert digest(tmp_path / "here") == digest(tmp_path / "there")


def members(path: Path) -> list[str]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    with tarfile.open(path) as archive:
        return [member.name for member in archive if member.isfile()]


def shape_of(name: str) -> str:
    """A member's name with what varies left out: numbers, and names of classes and pictures."""
    return re.sub(r"[^/]*\d[^/]*(?=\.\w+$)", "N", name)


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("oxford_iiit_pet", "oxford-iiit-pet.tgz"),
        ("dogs_vs_cats", "dogscats.zip"),
        ("mnist", "mnist_png.tgz"),
        ("mnist_3_7", "mnist_sample.tgz"),
        ("cifar10", "cifar10.tgz"),
    ],
)
def test_the_layout_is_the_official_one(name: str, official: str, datasets: Path, tmp_path: Path) -> None:
    (path,) = drawn(name, tmp_path)
    theirs = {shape_of(member) for member in members(datasets / official) if not member.endswith("/")}
    ours = {shape_of(member) for member in members(path) if "nameless" not in member}
    extra = {shape for shape in ours if shape.endswith(".mat")}  # planted, as one lies among Oxford's images
    missing = theirs - ours - {shape for shape in theirs if shape.endswith(("README", ".mat"))}
    assert not ours - theirs - extra
    assert not missing


def test_the_lists_of_addresses_look_like_those_of_the_course(datasets: Path, tmp_path: Path) -> None:
    path, served = drawn("bears", tmp_path)
    with zipfile.ZipFile(path) as archive:
        lists = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    with zipfile.ZipFile(datasets / "bears-urls.zip") as archive:
        assert {Path(name).suffix for name in archive.namelist()} == {Path(name).suffix for name in lists}
    for name, lines in lists.items():
        label = Path(name).stem
        addresses = [line for line in lines if line]
        assert len(addresses) < len(lines), "blank lines are planted"
        assert max(Counter(addresses).values()) == 2, "one address stands twice"
        assert not (served / label / "gone.jpg").exists()
        assert (served / label / "page.jpg").read_bytes().startswith(b"<!DOCTYPE html>")


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    folder = tmp_path_factory.mktemp("pets")
    (path,) = drawn("oxford_iiit_pet", folder / "drawn")
    return raw_of(folder / "download", {path.name: path})


def test_every_fault_of_a_file_is_planted_and_found(pets: Raw) -> None:
    block = ImageCleaning.model_validate(
        {"images": "oxford-iiit-pet/images/", "labels": {"from": "name", "pattern": r"^(.+)_\d+\.jpg$"}}
    )
    rows: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    for row in clean_images(pets, block):
        if isinstance(row, Reject):
            reasons[row.reason] += 1
        else:
            rows.append(row)
    assert reasons == {
        "not an image": 2, "empty file": 1, "truncated": 1, "above the pixel limit": 1, "no label": 1,
    }  # fmt: skip
    assert sum(row["reencoded"] for row in rows) == 5, "on its side, and four modes"
    copies = Counter(row["digest"] for row in rows)
    assert sorted(copies.values())[-3:] == [1, 2, 2], "an exact copy, and one under two labels"


def test_boxes_hold_the_subject(pets: Raw) -> None:
    boxes, trimaps = {}, {}
    for member in pets.members():
        stem = Path(member.name).stem
        if "/xmls/" in member.name:
            found = re.findall(r"<(xmin|ymin|xmax|ymax)>(\d+)<", member.read().decode())
            boxes[stem] = {name: int(value) for name, value in found}
        elif "/trimaps/" in member.name:
            trimaps[stem] = np.asarray(Image.open(io.BytesIO(member.read())))
    assert boxes.keys() == trimaps.keys()
    assert len(boxes) == 8 * 30
    for stem, box in boxes.items():
        rows, columns = np.nonzero(trimaps[stem] == 1)
        assert box["xmin"] <= columns.min() + 1 <= columns.max() + 1 <= box["xmax"], stem
        assert box["ymin"] <= rows.min() + 1 <= rows.max() + 1 <= box["ymax"], stem


EMPTY: dict[str, Any] = {"file": "a.tgz", "path": "x", "parts": {}, "classes": {}}


TWO = {"a": {"draw": "digit", "digit": 1}, "b": {"draw": "digit", "digit": 2}}
SMALL = {"file": "a.tgz", "path": "{label}/{number}.png", "parts": {"train": 1}, "classes": TWO}


@pytest.mark.parametrize(
    ("generator", "changed", "message"),
    [
        ("picture", {}, "generated.generator: there is no 'picture'; valid: pictures"),
        ("pictures", {"classes": {**TWO, "c": {"draw": "hed"}}}, "generated.classes.c"),
        ("pictures", {"classes": {"a": TWO["a"]}}, "generated.classes: Dictionary should have at least 2"),
        ("pictures", {"file": "a.rar"}, "must end in .tgz, .tar or .zip"),
        ("pictures", {"path": "{lable}/{number}.png"}, "generated.path is .*only {part}, {label}.*'lable'"),
        ("pictures", {"parts": {"train": 0}}, "generated.parts.train is 0"),
        ("pictures", {"faults": "training"}, "faults are planted in a part: train; not in 'training'"),
        ("pictures", {"stems": {"c": "see"}}, "stems has 'c', which is no class"),
        ("address_lists", {"lists": "{label}.csv", "faults": "train"}, "generated.faults"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(
    generator: str, changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(generator, {**SMALL, **changed}, tmp_path)
