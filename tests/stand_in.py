"""A project whose stages are quick: what they write follows from parameters and from what they read."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.pipeline import STAGE_NAMES
from tests.scratch import commit, make_project

STAND_IN = """
import hashlib, pathlib, sys
import yaml

def run(stage, name):
    parameters = yaml.safe_load(pathlib.Path("params.yaml").read_text())
    item = parameters["applications"][name]
    earlier = {"clean": ["download"], "split": ["clean"], "fine_tune": ["clean", "split"],
               "evaluate": ["fine_tune"], "export": ["fine_tune", "evaluate"]}.get(stage, [])
    read = [pathlib.Path("artifacts", name, each) for each in earlier]
    if stage == "fine_tune" and item["starts_from"].startswith("artifacts"):
        read.append(pathlib.Path(item["starts_from"]))
    text = repr(item[stage]) + "".join(
        file.read_text() for folder in read for file in sorted(folder.rglob("*")) if file.is_file())
    digest = hashlib.sha256(text.encode()).hexdigest()
    folder = pathlib.Path("artifacts", name, stage)
    files = ["value.txt"]
    if stage == "evaluate":
        files = ["predictions.parquet", "corrections.csv", "provenance.json", "figures/a.png", "metrics.json",
                 "plots/curves/loss.csv", "plots/confusion/valid.csv", "tables/most.csv"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(digest)
    with open("ran.txt", "a") as log:
        log.write(f"{stage}@{name}\\n")

if __name__ == "__main__":
    run(*sys.argv[1:])
"""


def entry(**changed: Any) -> dict[str, Any]:
    paths = {
        "source": "sources/none", "corrections": "sources/none", "starts_from": "sources/none",
        "judge": "sources/none",
    }  # fmt: skip
    return {
        "recipe": "shapes", "family": "vision", **paths,
        **{stage: {"n": 1} for stage in STAGE_NAMES}, **changed,
    }  # fmt: skip


def make_stand_in(folder: Path) -> Path:
    """A project with two applications whose stages are stand-ins; the second starts from the first."""
    parameters = {
        "edition": "sample", "mirror": "", "weights": {},
        "applications": {"first": entry(), "second": entry(starts_from="artifacts/first/fine_tune")},
    }  # fmt: skip
    root = make_project(folder, parameters)
    (root / "recipes" / "shapes.py").write_text("")
    (root / "tasks" / "__main__.py").write_text(STAND_IN)
    (root / ".gitignore").open("a").write("/ran.txt\n")
    commit(root)
    return root


def dvc(root: Path, *arguments: str) -> str:
    """A command of DVC, as from a shell in which the environment is active."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def run(root: Path, name: str) -> None:
    """The stand-in, in this process, in `root`."""
    spec = importlib.util.spec_from_loader("stand_in", loader=None)
    assert spec
    module = importlib.util.module_from_spec(spec)
    exec(STAND_IN.replace('if __name__ == "__main__":\n    run(*sys.argv[1:])', ""), module.__dict__)
    before = Path.cwd()
    os.chdir(root)
    try:
        module.run(*name.split("@"))
    finally:
        os.chdir(before)
