"""A scratch project: the code of this checkout in a git repository of its own, with its own parameters."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CODE = (
    "data",
    "flows",
    "models",
    "recipes",
    "sources",
    "tasks",
    "editions",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
)


def make_project(folder: Path, parameters: dict[str, Any]) -> Path:
    """Copy what the doors need into `folder`, write `params.yaml`, and commit it all."""
    folder.mkdir(parents=True)
    for name in CODE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    write_parameters(folder, parameters)
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def write_parameters(folder: Path, parameters: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))


def commit(folder: Path, message: str = "state") -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def plain(**changed: str) -> dict[str, str]:
    """Environment of a process in which nothing is activated or set but `changed`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC", "MLFLOW", "PRACTICUM", "PREFECT"))
    }
    return {
        **kept, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **changed,
    }  # fmt: skip


def lock_entries(folder: Path) -> dict[str, Any]:
    """The stages of `dvc.lock`, parsed."""
    path = folder / "dvc.lock"
    return dict(yaml.safe_load(path.read_text())["stages"]) if path.exists() else {}
