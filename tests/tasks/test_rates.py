"""find-rate: a curve on the application's own data, and nothing changed by it."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from tasks.rates import find_rates
from tasks.workspace import Workspace, checkout


def test_the_curve_is_drawn_and_nothing_else_changes(trained: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.artifacts.rglob("*")}
    found = find_rates("shapes", workspace=trained)
    assert {path: path.stat().st_mtime_ns for path in trained.artifacts.rglob("*")} == before
    with found.table.open() as file:
        rows = list(csv.DictReader(file))
    rates = [float(row["rate"]) for row in rows]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1e-7)
    assert len(rows) > 20
    assert rates[0] < found.curve.valley < rates[-1]
    with Image.open(found.figure) as image:
        assert min(image.size) > 200


def test_a_phase_that_does_not_exist_is_named(trained: Workspace) -> None:
    with pytest.raises(ValueError, match="--phase is 3, but shapes has 2"):
        find_rates("shapes", phase=3, workspace=trained)


def test_it_says_which_stage_is_missing(project: Path) -> None:
    with pytest.raises(ValueError, match="dvc repro clean@shapes"):
        find_rates("shapes", workspace=checkout(project))
