"""docs/your-data.md works as it is written: its entries and commands, on folders beside the project."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pictures
from tests.scratch import ROOT, git

PAGE = (ROOT / "docs" / "your-data.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def entries() -> list[str]:
    """The entries of the page that are whole."""
    return [block for block in blocks("yaml") if "recipe:" in block]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the working tree with the installation of this one, and the page's folders beside it."""
    folder = tmp_path_factory.mktemp("own")
    clone = folder / "project"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    tracked = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in tracked:  # what is not committed yet is tested as well
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_bytes((ROOT / name).read_bytes())
    (clone / ".venv").symlink_to(sys.prefix)
    os.utime(clone / "requirements.txt", (0, 0))  # older than that installation: nothing is installed anew
    renamed = dict(zip(pictures.CLASSES, ("rose", "tulip", "aster"), strict=True))
    pictures.write_folder(folder / "flowers")
    for old, new in renamed.items():
        (folder / "flowers" / old).rename(folder / "flowers" / new)
    photos = folder / "snacks" / "photos"
    photos.mkdir(parents=True)
    with (folder / "snacks" / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "kind"])
        for number in range(36):
            name = f"{number:04d}.png"
            pictures.draw(pictures.CLASSES[number % 3], number).save(photos / name)
            rows.writerow([name, pictures.CLASSES[number % 3]])
    with (clone / "params.yaml").open("a") as file:
        file.write("\n" + "\n".join(entries()))
    return clone


def run(clone: Path, command: str) -> str:
    """A command of the page, as in a shell with the installation activated."""
    path = f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=clone,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_the_page_works_as_it_is_written(clone: Path) -> None:
    commands = [line for block in blocks("console") for line in block.strip().splitlines()]
    assert commands[0] == "make repro APP=flowers"
    assert commands[2] == "python -m flows run snacks"
    said = {command: run(clone, command) for command in commands}
    for name in ("flowers", "snacks"):
        for line in re.findall(r"^\| (.+?) \|", PAGE.split("## What to look at")[1], flags=re.MULTILINE):
            for file in re.findall(r"`([^`]+)`", line):
                if not file.startswith("artifacts/"):
                    assert (clone / "artifacts" / name / file).exists(), file
    answers = list(csv.DictReader(said[commands[-1]].splitlines()))
    rows = [row for row in answers if row["file"].endswith(".png")]
    assert len(rows) == 12
    assert {row["label"] for row in rows} <= {"rose", "tulip", "aster"}


def test_the_course_settings_of_the_page_are_valid() -> None:
    import yaml

    from tasks.parameters import read_application

    (change,) = (block for block in blocks("yaml") if "recipe:" not in block)
    entry = yaml.safe_load(entries()[0])["flowers"] | yaml.safe_load(change)
    typed, _ = read_application("flowers", entry)
    assert typed.fine_tune.network.name == "resnet34"
    assert typed.fine_tune.size == 224
    assert [phase.epochs for phase in typed.fine_tune.phases] == [4, 2]
