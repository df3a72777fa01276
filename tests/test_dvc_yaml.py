"""`dvc.yaml`, written by hand, equals the table of `tasks/pipeline.py`."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.pipeline import STAGES, Stage

ROOT = Path(__file__).resolve().parent.parent
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def block(stage: Stage) -> dict[str, Any]:
    """The stage as DVC should have it."""
    folder = f"artifacts/${{key}}/{stage.name}"
    wanted: dict[str, Any] = {
        "cmd": f"python -m tasks {stage.name} ${{key}}",
        "deps": [*(f"artifacts/${{key}}/{each}" for each in stage.reads), *stage.paths],
        "params": [f"applications.${{key}}.{stage.name}", *stage.project],
    }
    split = bool(stage.outs or stage.metrics or stage.plots)
    wanted["outs"] = [f"{folder}/{out}" for out in stage.outs] if split else [folder]
    for kind in ("metrics", "plots"):
        if getattr(stage, kind):
            wanted[kind] = [f"{folder}/{out}" for out in getattr(stage, kind)]
    return {"foreach": "${applications}", "do": wanted}


def paths(entries: list[Any]) -> list[str]:
    """Without the properties of plots: they say how to draw, not what there is."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_is_the_row_of_the_table(stage: Stage) -> None:
    found = DVC[stage.name]
    do = {
        **found["do"],
        **{kind: paths(found["do"][kind]) for kind in ("metrics", "plots") if kind in found["do"]},
    }
    assert {**found, "do": do} == block(stage)


def test_there_is_nothing_else_but_weights() -> None:
    assert list(DVC) == ["weights", *(stage.name for stage in STAGES)]
    assert DVC["weights"] == {
        "foreach": "${weights}",
        "do": {
            "cmd": "python -m tasks weights ${key}",
            "deps": ["${item.source}"],
            "params": ["edition", "mirror"],
            "outs": ["artifacts/weights/${key}"],
        },
    }


def test_dvc_resolves_every_application_of_params_yaml() -> None:
    from dvc.repo import Repo

    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    repo = Repo(str(ROOT))
    try:
        names = {stage.name for stage in repo.index.stages}
    finally:
        repo.close()
    wanted = {f"{stage.name}@{name}" for stage in STAGES for name in parameters["applications"]}
    assert names == wanted | {f"weights@{name}" for name in parameters["weights"]}


def test_everything_that_python_leaves_beside_code_is_no_dependency() -> None:
    assert "__pycache__" in (ROOT / ".dvcignore").read_text().splitlines()
    assert "/artifacts/" in (ROOT / ".gitignore").read_text().splitlines()
