"""Is this installation fit to run? Each check answers in one line, and says what to do where it is not."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.workspace import Workspace

FREE_BYTES = 5 * 2**30
"""Below this much free disk the sample edition of every application does not fit comfortably."""


@dataclass(frozen=True)
class Finding:
    """The answer of one check."""

    name: str
    good: bool | None
    """None: nothing wrong, but worth knowing."""
    text: str

    def __str__(self) -> str:
        """One line."""
        return f"{ {True: 'ok  ', False: 'BAD ', None: 'note'}[self.good] } {self.name:<12} {self.text}"


def examine(workspace: Workspace) -> Iterator[Finding]:
    """All checks; one that itself fails is a finding too."""
    for check in CHECKS:
        try:
            yield check(workspace)
        except Exception as error:
            yield Finding(check.__name__.strip("_"), False, f"{type(error).__name__}: {error}")


def python(workspace: Workspace) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("python", False, f"{version}; tested are 3.11 to 3.13")
    first = shutil.which("python")
    same = first is not None and Path(first).parent.resolve() == Path(sys.executable).parent.resolve()
    if not same:
        return Finding(
            "python", False, f"`python` in PATH is {first}; activate the environment of {sys.executable}"
        )
    return Finding("python", True, f"{version} in {sys.prefix}")


def packages(workspace: Workspace) -> Finding:
    wrong = [
        f"{name} {have or 'missing'} instead of {want}"
        for name, want in pins(workspace.root / "requirements.txt").items()
        if (have := installed(name)) != want
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        return Finding("packages", False, f"{', '.join(wrong[:5])}{more}; run `make setup`")
    return Finding("packages", True, "as pinned in requirements.txt")


def pins(file: Path) -> dict[str, str]:
    """Versions by package that hold for this Python and platform."""
    from packaging.markers import Marker

    found = {}
    for line in file.read_text().splitlines():
        match = re.match(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$", line)
        if match and (match[3] is None or Marker(match[3].strip()).evaluate()):
            found[match[1]] = match[2]
    return found


def installed(name: str) -> str | None:
    """Version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def bytecode(workspace: Workspace) -> Finding:
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return Finding("byte code", None, "PYTHONDONTWRITEBYTECODE is set: imports take about twice as long")
    return Finding("byte code", True, "is written")


def disk(workspace: Workspace) -> Finding:
    free = shutil.disk_usage(workspace.root).free
    text = f"{free / 1e9:.1f} GB free (`python -m flows forecast APP` says what a run needs)"
    return Finding("disk", free > FREE_BYTES or None, text)


def accelerator(workspace: Workspace) -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding(
            "accelerator", True, f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB; {cores} cores"
        )
    if torch.backends.mps.is_available():
        return Finding("accelerator", True, f"Apple MPS; {cores} cores")
    return Finding("accelerator", None, f"none: training runs on {cores} cores")


def threads(workspace: Workspace) -> Finding:
    said = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ}
    text = "fine_tune.threads of each application (one and two threads train to different bytes)"
    return Finding(
        "threads", None if said else True, f"{text}{f'; the environment says {said}' if said else ''}"
    )


def runs(workspace: Workspace) -> Finding:
    from tasks.tracking import open_outbox

    outbox = open_outbox(workspace)
    with outbox.store.reached():
        outbox.store.client.search_experiments(max_results=1)
    waiting, refused = len(outbox.waiting()), len(outbox.refused())
    text = outbox.store.uri
    if waiting:
        text += f"; {waiting} messages wait to be sent at the next start"
    if refused:
        text += f"; {refused} messages were refused and lie in {outbox.folder}"
    return Finding("mlflow", None if waiting or refused else True, text)


def stray(workspace: Workspace) -> Finding:
    folder = workspace.root / "mlruns"
    if folder.exists():
        return Finding(
            "mlruns", False, f"{folder} turns MLflow's default store into files; remove or migrate it"
        )
    return Finding("mlruns", True, "no stray folder")


def versions(workspace: Workspace) -> Finding:
    from dvc.repo import Repo

    repo = Repo(str(workspace.root))
    try:
        cache = Path(repo.cache.local.path)
        cache.mkdir(parents=True, exist_ok=True)
        if not os.access(cache, os.W_OK):
            return Finding("dvc", False, f"its cache {cache} cannot be written to")
        remote = repo.config["core"].get("remote") or "none"
        free = shutil.disk_usage(cache).free / 1e9
        return Finding(
            "dvc",
            True,
            f"{len(repo.index.stages)} stages; cache {cache} ({free:.1f} GB free); remote {remote}",
        )
    finally:
        repo.close()


def prefect(workspace: Workspace) -> Finding:
    # In another process: a FastAPI that does not fit makes this import fail, and a partial import lingers.
    done = subprocess.run(
        [sys.executable, "-c", "import prefect.server.api.server"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return Finding(
            "prefect", False, f"its server does not import: {done.stderr.strip().splitlines()[-1]}"
        )
    where = os.environ.get("PREFECT_API_URL", "a temporary one per run")
    return Finding("prefect", True, f"server: {where}")


def parameters(workspace: Workspace) -> Finding:
    from tasks.parameters import load_parameters

    loaded = load_parameters(workspace.root / "params.yaml")
    for name in loaded.applications:
        loaded.application(name)
    return Finding("params.yaml", True, f"{len(loaded.applications)} applications, edition {loaded.edition}")


CHECKS: tuple[Callable[[Workspace], Finding], ...] = (
    python, packages, bytecode, disk, accelerator, threads, parameters, runs, stray, versions, prefect,
)  # fmt: skip
