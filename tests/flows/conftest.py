"""A project on a user's own folder of drawn pictures: small enough to run every stage for real."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.tracking import open_store
from tasks.workspace import checkout
from tests.machines import EPOCHS, Machines
from tests.prefect_server import Server
from tests.scratch import make_project, plain

BLOCKS: dict[str, Any] = {
    "download": {},
    "clean": {},
    "split": {"method": "stratified", "valid": 0.25},
    "fine_tune": {
        "network": {"name": "mlp"},
        "statistics": "training",
        "size": 16,
        "batch_size": 8,
        "threads": 1,
        "phases": [{"epochs": 2, "rates": [0.01]}],
    },
    "evaluate": {"shown": 4},
    "export": {"onnx": False},
}


def entry(**changed: Any) -> dict[str, Any]:
    """An application on the folder `pictures` of the project."""
    return {
        "recipe": "image_classification", "family": "vision", "source": "pictures",
        "corrections": "sources/none", "starts_from": "sources/none",
        "judge": "sources/none", **BLOCKS, **changed,
    }  # fmt: skip


def draw_pictures(folder: Path, *, each: int = 16) -> None:
    """Two folders of noisy pictures that differ in colour."""
    noise = np.random.default_rng(0)
    for label, channel in (("amber", 0), ("teal", 2)):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            pixels = noise.integers(0, 150, (24, 24, 3), dtype=np.uint8)
            pixels[..., channel] += 90
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one application, `mine`, in which nothing has run; tests copy it."""
    parameters = {"edition": "sample", "mirror": "", "weights": {}, "applications": {"mine": entry()}}
    root = make_project(tmp_path_factory.mktemp("template") / "project", parameters)
    draw_pictures(root / "pictures")
    (root / ".gitignore").open("a").write("/pictures/\n")
    open_store(checkout(root)).client.search_experiments()  # makes its tables, once for all
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A fresh copy of the project."""
    root = tmp_path / "project"
    shutil.copytree(template, root)
    return root


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one temporary Prefect server with a home of its own, whatever the machine has."""
    home = tmp_path_factory.mktemp("prefect")
    before = dict(os.environ)
    os.environ.update(
        PREFECT_HOME=str(home), PREFECT_LOGGING_LEVEL="CRITICAL", PREFECT_SERVER_ANALYTICS_ENABLED="false"
    )
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    try:
        with prefect_test_harness(server_startup_timeout=180):
            yield str(PREFECT_API_URL.value())
    finally:
        os.environ.clear()
        os.environ.update(before)


def command(
    root: Path, *arguments: str, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`python -m ARGUMENTS` in a project, in a plain environment in which nothing is activated."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=root, env=plain(**environment),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prefect server that stays for all tests of a file."""
    running = Server(tmp_path_factory.mktemp("prefect"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project, with the pictures beside it as on a disk that all machines have."""
    place = tmp_path_factory.mktemp("course")
    draw_pictures(place / "pictures")
    mine = entry(source=str(place / "pictures"))
    mine["fine_tune"] = {**mine["fine_tune"], "phases": [{"epochs": EPOCHS, "rates": [0.01]}]}
    parameters = {"edition": "sample", "mirror": "", "weights": {}, "applications": {"mine": mine}}
    return make_project(place / "project", parameters)


@pytest.fixture
def machines(tmp_path: Path, course: Path, server: Server) -> Iterator[Machines]:
    """Two clones; whatever still runs in them at the end is killed."""
    made = Machines(tmp_path, course, server)
    yield made
    made.end()
