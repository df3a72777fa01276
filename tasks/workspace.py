"""The folders of a checkout: where each stage writes, and where unfinished work and locks live."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

RELEASE_SECONDS = 10
"""How long a lock may outlive a holder that was killed: a child of it may be a moment behind."""


def _alive(holder: Path) -> bool:
    """Whether the process that wrote its name into `holder` still runs; True where nobody did."""
    found = re.search(r"process (\d+)", holder.read_text()) if holder.exists() else None
    return found is None or psutil.pid_exists(int(found[1]))


@dataclass(frozen=True)
class Workspace:
    """Paths of one checkout, or of a side workspace that borrows some stages from another."""

    root: Path
    """Paths of an entry (`source`, `starts_from`, ...) are relative to it."""
    artifacts: Path
    """Everything that DVC tracks."""
    state: Path
    """Stores, checkpoints, caches, receipts and locks: never tracked, safe to delete when nothing runs."""
    borrowed: Mapping[str, Path] = field(default_factory=dict)
    """Stages read from another workspace's artifacts, by name of the stage."""
    lent_cache: Path | None = None
    """Where a side workspace keeps decoded examples: with those of the workspace that it borrows from."""

    @property
    def cache(self) -> Path:
        """Decoded examples, under keys made of their digests and settings; safe to delete."""
        return self.lent_cache or self.state / "cache"

    def folder(self, application: str, stage: str) -> Path:
        """Where the finished output of a stage lies."""
        return self.borrowed.get(stage, self.artifacts) / application / stage

    def resolve(self, path: str) -> Path:
        """A path of an entry, made absolute."""
        return self.root / path

    def side(self, name: str, *, own: tuple[str, ...], stages: tuple[str, ...]) -> "Workspace":
        """A workspace below the state folder that runs `own` stages itself and borrows the rest."""
        home = self.state / "side" / name
        return Workspace(
            root=self.root,
            artifacts=home / "artifacts",
            state=home,
            borrowed={stage: self.artifacts for stage in stages if stage not in own},
            lent_cache=self.cache,
        )

    @contextmanager
    def lock(self, application: str, stage: str) -> Iterator[None]:
        """Hold an application for one stage; a second holder is refused with the first one's name."""
        folder = self.state / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        holder = folder / f"{application}.holder"
        lock = FileLock(folder / f"{application}.lock")
        try:
            lock.acquire(timeout=0 if _alive(holder) else RELEASE_SECONDS)
        except Timeout:
            who = holder.read_text() if holder.exists() else "another process"
            raise ValueError(
                f"{application} is being worked on by {who}; wait for it or stop it, then start {stage} again"
            ) from None
        try:
            holder.write_text(f"process {os.getpid()} (stage {stage})")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def writing(self, folder: Path) -> Iterator[Path]:
        """A fresh sibling of `folder` to write into, under the final file names; renamed when whole.

        On any failure the sibling is removed and what stood at `folder` stays as it was.
        """
        partial = folder.with_name(f".{folder.name}.partial")
        previous = folder.with_name(f".{folder.name}.previous")
        for leftover in (partial, previous):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if folder.exists():
            folder.rename(previous)
        partial.rename(folder)
        shutil.rmtree(previous, ignore_errors=True)


def checkout(root: Path | None = None) -> Workspace:
    """The workspace of the checkout that holds `root` (default: the current folder)."""
    root = (root or Path.cwd()).resolve()
    return Workspace(root=root, artifacts=root / "artifacts", state=root / ".practicum")


def shared_state(root: Path) -> Path:
    """The state folder of the main checkout, which linked work trees and experiments share."""
    original = Path(
        os.environ.get("DVC_ROOT", root)
    )  # `dvc exp run --temp` works in a clone below the original
    if root.is_relative_to(original / ".dvc" / "tmp"):
        root = original
    answer = subprocess.run(
        ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (
        Path(answer.stdout.strip()).parent / ".practicum" if answer.returncode == 0 else root / ".practicum"
    )
