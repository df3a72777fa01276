"""The checkpoint of an unfinished training: outside what DVC tracks, valid for one fingerprint only."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from tasks.parameters import Application
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from recipes.recipe import Trained
    from tasks.pipeline import Job


WEIGHTS, FACTS, SETTINGS = "weights.safetensors", "facts.json", "settings.json"
"""What `fine_tune` writes of a network: its weights, what it knows of its data, how it was trained."""


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
    facts = {
        "application": job.application,
        "settings": job.entry.fine_tune.model_dump(mode="json"),
        "content": provenance["content"],
        "split": split_digest(job.read("split") / "split.parquet"),
        **{field: digest_of(path) for field, path in others_of(job).items()},
        "code": {str(path.relative_to(root)): file_digest(path) for path in code},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def split_digest(path: Path) -> str:
    """sha256 of all columns as JSON, a list each under its name; only a piece is held at once."""
    digest = hashlib.sha256()
    with pq.ParquetFile(path) as file:
        for place, name in enumerate(sorted(file.schema_arrow.names)):
            before = f"{', ' if place else '{'}{json.dumps(name)}: ["
            for batch in file.iter_batches(columns=[name]):
                digest.update((before + json.dumps(batch[name].to_pylist())[1:-1]).encode())
                before = ", "
            digest.update(b"]" if before == ", " else f"{before}]".encode())
    digest.update(b"}")
    return digest.hexdigest()


def weights_file(workspace: Workspace, application: str, entry: Application, field: str) -> Path | None:
    """The weights that the entry's path `field` names, or None where it names the empty file.

    `field` is `starts_from` or `judge`. ValueError where the path does not exist or holds no weights.
    """
    written = getattr(entry, field)
    path = workspace.resolve(written)
    where = f"applications.{application}.{field}"
    if path.is_dir():
        path = path / WEIGHTS
    if not path.is_file():
        raise ValueError(
            f"{where} is {written}, but {path} does not exist; a folder must hold"
            f" {WEIGHTS} (`dvc repro` of its stage); sources/none means none"
        )
    if path.stat().st_size <= 1:  # sources/none holds one line end: DVC warns of files without a byte
        return None
    if path.suffix != ".safetensors":
        raise ValueError(f"{where} is {written}: weights must be a .safetensors file")
    return path


def others_of(job: "Job") -> dict[str, Path | None]:
    """The weights files of the networks that a job's entry names beside its own."""
    return {
        field: weights_file(job.workspace, job.application, job.entry, field)
        for field in ("starts_from", "judge")
    }


def digest_of(weights: Path | None) -> list[str] | None:
    """sha256 of the weights and of the facts beside them, where there are any."""
    if weights is None:
        return None
    return [file_digest(path) for path in (weights, weights.with_name(FACTS)) if path.is_file()]


def read_trained(weights: Path | None) -> "Trained | None":
    """A network trained elsewhere, from its weights and what lies beside them; never unpickles."""
    if weights is None:
        return None
    from safetensors.torch import load_file

    from recipes.recipe import Trained

    facts, settings = (
        json.loads(path.read_text()) if path.is_file() else {}
        for path in (weights.with_name(FACTS), weights.with_name(SETTINGS))
    )
    return Trained(state=load_file(weights), facts=facts, settings=settings)


@dataclass(frozen=True)
class Checkpoint:
    """State of one unfinished training. Another fingerprint's state is never taken up."""

    folder: Path
    fingerprint: str

    @property
    def path(self) -> Path:
        """The file; its name carries the fingerprint."""
        return self.folder / f"{self.fingerprint}.pt"

    @property
    def samples(self) -> Path:
        """Where pictures of this training lie until it ends."""
        return self.folder / "samples" / self.fingerprint

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
