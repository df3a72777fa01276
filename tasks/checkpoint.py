"""The checkpoint of an unfinished training: outside what DVC tracks, valid for one fingerprint only."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from tasks.pipeline import Job


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(job: "Job") -> str:
    """What the training of this job depends on, as one sha256: settings, data, split, weights and code.

    The data stands there by the digest that `clean` took of every example, so nothing large is read.
    """
    root = job.workspace.root
    code = [
        root / "recipes" / f"{job.entry.recipe}.py",
        root / "models" / "engine_version.txt",
        *sorted((root / "models" / job.entry.family).rglob("*.py")),
    ]
    provenance = json.loads((job.read("clean") / "provenance.json").read_text())
    split = pq.read_table(job.read("split") / "split.parquet")
    parts = hashlib.sha256(json.dumps(split.to_pydict(), sort_keys=True).encode()).hexdigest()
    start = starting_weights(job)
    facts = {
        "application": job.application,
        "settings": job.entry.fine_tune.model_dump(mode="json"),
        "content": provenance["content"],
        "split": parts,
        "starts_from": file_digest(start) if start else None,
        "code": {str(path.relative_to(root)): file_digest(path) for path in code},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def starting_weights(job: "Job") -> Path | None:
    """The weights file that `starts_from` names, or None where it names the empty file."""
    path = job.workspace.resolve(job.entry.starts_from)
    where = f"applications.{job.application}.starts_from"
    if path.is_dir():
        path = path / "weights.safetensors"
    if not path.is_file():
        raise ValueError(
            f"{where} is {job.entry.starts_from}, but {path} does not exist; a folder must hold"
            " weights.safetensors (`dvc repro` of its stage); sources/none means random weights"
        )
    if path.stat().st_size <= 1:  # sources/none holds one line end: DVC warns of files without a byte
        return None
    if path.suffix != ".safetensors":
        raise ValueError(f"{where} is {job.entry.starts_from}: weights must be a .safetensors file")
    return path


@dataclass(frozen=True)
class Checkpoint:
    """State of one unfinished training. Another fingerprint's state is never taken up."""

    folder: Path
    fingerprint: str

    @property
    def path(self) -> Path:
        """The file; its name carries the fingerprint."""
        return self.folder / f"{self.fingerprint}.pt"

    def load(self) -> dict[str, Any] | None:
        """The last whole state, or None. Never unpickles code."""
        import torch

        if not self.path.is_file():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write beside and rename, so that a kill at any moment leaves the state before or the one after."""
        import torch

        self.folder.mkdir(parents=True, exist_ok=True)
        for other in self.folder.glob("*.pt*"):
            if other.name != self.path.name:
                other.unlink(missing_ok=True)
        partial = self.path.with_suffix(".pt.partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def clear(self) -> None:
        """Forget the state: the training is whole."""
        shutil.rmtree(self.folder, ignore_errors=True)
