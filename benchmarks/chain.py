"""What the chain itself costs: everything around the work of the stages, by number of applications and door.

Scratch projects of equal applications, of which one is really run. The others are given its outputs and its
entries of `dvc.lock`, which is what DVC would have recorded of them.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.race import ROOT
from tasks.pipeline import STAGE_NAMES
from tests import pictures
from tests.prefect_server import Server
from tests.scratch import commit, lock_entries, make_project, plain

SIZES = (18, 27, 50)
"""Applications: of the course, with some of one's own, and of a large project."""
ROUNDS = 3
FIRST = "app00"
DOORS = {
    "dvc repro": ("dvc", "repro"),
    "flows run all": ("flows", "run", "all"),
    "flows course": ("flows", "course"),
}
GOALS = {"dvc repro": 6.0, "flows run all": 15.0, "flows course": 15.0}
"""Seconds to find that there is nothing to do in the applications of the course."""


def measure(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> dict[str, Any]:
    """All figures, in seconds, as JSON; the overhead of a stage with one application, and in the smallest of
    the projects."""
    with TemporaryDirectory(prefix="benchmark-") as place, server(Path(place)) as address:
        pictures.write_folder(Path(place) / "shapes")
        alone = project(Path(place) / "of-1", 1)
        roots = [Path(place) / f"of-{size}" for size in sizes]
        found = {}
        for root, size in zip(roots, sizes, strict=True):
            project(root, size, like=alone)
            found[str(size)] = {
                "stages": size * len(STAGE_NAMES),
                "nothing to do": nothing_to_do(root, rounds),
                "recording": asked(root, address, "record", rounds),
            }
        return {"rounds": rounds, "sizes": found, **overheads(alone, roots[0], rounds, address)}


@contextmanager
def server(place: Path) -> Iterator[str]:
    """A Prefect server that runs; its address."""
    home = place / "prefect"
    home.mkdir()
    running = Server(home)
    running.start()
    try:
        yield running.address
    finally:
        running.stop()


def project(root: Path, size: int, *, like: Path | None = None) -> Path:
    """A project of so many applications in which every stage is current; `like` is one of another size."""
    names = [f"app{number:02d}" for number in range(size)]
    make_project(root, pictures.parameters(**{name: pictures.entry() for name in names}))
    if like is None:
        run(root, "dvc", "repro", f"export@{FIRST}")
    else:
        shutil.copytree(like / ".dvc" / "cache", root / ".dvc" / "cache")
        shutil.copytree(like / "artifacts" / FIRST, root / "artifacts" / FIRST)
    entries = {name: each for name, each in lock_entries(like or root).items() if name.endswith(f"@{FIRST}")}
    text = yaml.safe_dump(entries, sort_keys=False)
    for name in names[1:]:
        shutil.copytree(root / "artifacts" / FIRST, root / "artifacts" / name)
        entries |= yaml.safe_load(text.replace(FIRST, name))
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}, sort_keys=False))
    said = run(root, "dvc", "repro")  # DVC learns the digests of the copies
    assert "Running" not in said, said
    commit(root)
    return root


def nothing_to_do(root: Path, rounds: int) -> dict[str, Any]:
    """Wall and processor seconds of a door that has nothing to do, by door; the best of so many rounds."""
    found: dict[str, list[dict[str, float]]] = {door: [] for door in DOORS}
    for _ in range(rounds):
        for door, command in DOORS.items():
            found[door].append(timed(root, *command))
    return {door: best(each) for door, each in found.items()}


def overheads(alone: Path, among: Path, rounds: int, address: str) -> dict[str, Any]:
    """By stage: its own work in a warm process, and what comes on top through a warm flow and through DVC.

    `dvc`: in a project of one application, within one `dvc repro` of its chain; `dvc among`: in a project of
    several, whose larger `dvc.lock` DVC writes anew after every stage. `start`: until its first stage.
    """
    warm = asked(among, address, "flow", rounds)
    doors = {"dvc": alone, "dvc among": among}
    through = {
        door: best([paced(root, f"export@{FIRST}") for _ in range(rounds)]) for door, root in doors.items()
    }
    found = {
        stage: {"work": warm["work"][stage], "flow": warm["overhead"][stage]}
        | {door: round(through[door][stage] - warm["work"][stage], 3) for door in doors}
        for stage in STAGE_NAMES
    }
    return {"stages": found, "flow": warm["around"]} | {door: through[door]["start"] for door in doors}


def paced(root: Path, target: str) -> dict[str, float]:
    """Seconds of `dvc repro --force` of a target by stage, each until the next begins; `start` before all."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "dvc", "repro", "--force", target]
    process = subprocess.Popen(
        command, cwd=root, env=plain(PYTHONUNBUFFERED="1"), text=True, stdout=subprocess.PIPE
    )
    seconds: dict[str, float] = {}
    running = "start"
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.match(r"Running stage '(\w+)@", line):
            now = time.perf_counter()
            seconds[running], began, running = now - began, now, found[1]
    if process.wait():
        raise RuntimeError(f"{' '.join(command)} in {root} failed")
    seconds[running] = time.perf_counter() - began
    return seconds


def asked(root: Path, address: str, *arguments: Any) -> Any:
    """What a process that stays warm has measured: see `benchmarks/warm.py`."""
    output = run(
        root, "benchmarks.warm", FIRST, *map(str, arguments), PYTHONPATH=str(ROOT), PREFECT_API_URL=address
    )
    return json.loads(output.splitlines()[-1])


def run(root: Path, *arguments: str, **environment: str) -> str:
    """`python -m ARGUMENTS` in a project, in a plain environment; what it says."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=root, env=plain(**environment), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} in {root} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def timed(root: Path, *arguments: str, **environment: str) -> dict[str, float]:
    """Wall and processor seconds of such a command and of all processes that it has waited for."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run(root, *arguments, **environment)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor": spent}


def best(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The least of every figure: noise only adds."""
    return {name: round(min(each[name] for each in rounds), 3) for name in rounds[0]}


def tables(figures: Mapping[str, Any]) -> str:
    """The figures as markdown: what it costs to do nothing, by number of applications, and by stage."""
    doing = ["| nothing to do in | " + " | ".join(f"`{door}`" for door in DOORS) + " | goal of 18 |"]
    doing += ["| --- |" + " --- |" * (len(DOORS) + 1)]
    recording = ["| recording a stage among | by the flow | by DVC |", "| --- | --- | --- |"]
    for size, found in figures["sizes"].items():
        cells = [
            f"{each['seconds']:.1f} s ({each['processor']:.1f})" for each in found["nothing to do"].values()
        ]
        goal = ", ".join(f"{seconds:g} s" for seconds in GOALS.values()) if size == str(SIZES[0]) else ""
        doing.append(f"| {size} applications, {found['stages']} stages | {' | '.join(cells)} | {goal} |")
        flow, dvc = (f"{found['recording'][door]:.2f} s" for door in ("flow", "dvc"))
        recording.append(f"| {found['stages']} stages | {flow} | {dvc} |")
    smallest = next(iter(figures["sizes"].values()))["stages"]
    stages = [
        "| stage | own work | on top, warm flow | on top, `dvc repro` of one application |"
        f" the same among {smallest} stages |",
        "| --- | --- | --- | --- | --- |",
    ]
    for stage, found in figures["stages"].items():
        cells = [f"{found[what]:.2f} s" for what in ("work", "flow", "dvc", "dvc among")]
        stages.append(f"| {stage} | {' | '.join(cells)} |")
    around = [f"{figures[what]:.2f} s" for what in ("flow", "dvc", "dvc among")]
    stages.append(f"| around all of them | – | {' | '.join(around)} |")
    return "\n\n".join("\n".join(rows) for rows in (doing, recording, stages))
