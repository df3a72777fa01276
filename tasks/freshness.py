"""Has a source changed since it was fetched? What a scheduled run asks before it works.

A pinned source (a digest stands in its file, or in the mirror's manifest) may not change: other bytes fail
the check. One that is not pinned is fetched anew, and DVC says what follows from it. Bytes are fetched for
the question only where the answer of the place (ETag, date, size) leaves it open.
"""

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.download import is_drawn, locations_of, part_of, wanted_of
from tasks.fetch import Wanted, fetch, first_mib_at, seen_note, version_at
from tasks.mirrors import Copy, find_copy, local
from tasks.parameters import DownloadBlock, Parameters, load_parameters
from tasks.sources import Source, difference, load_source
from tasks.url_lists import is_lists
from tasks.versions import Version
from tasks.weights import source_of
from tasks.workspace import Workspace, checkout


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at the source of one stage has found."""

    stage: str
    """`download@APP` or `weights@NAME`."""
    again: bool
    """The stage must run, whatever DVC says: only a fetch tells what its source holds now."""
    said: str
    """For people."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """One file of a source, and where it was put."""

    stage: str
    source: Source
    copy: Copy | None
    block: DownloadBlock
    workspace: Workspace
    folder: Path

    @property
    def wanted(self) -> Wanted:
        """What is fetched."""
        return wanted_of(self.source, self.copy)

    @property
    def downloads(self) -> Path:
        """Where notes of downloads lie."""
        return self.workspace.state / "downloads"


def look(
    stage: str, *, current: bool, workspace: Workspace | None = None, parameters: Parameters | None = None
) -> Look:
    """Look at what is published for `download@APP` or `weights@NAME`.

    `current`: DVC finds the stage current, so that its bytes are here to compare with. ValueError, with old
    and new digest, where a pinned source has changed. A place that does not answer is told, and is no change.
    """
    workspace = workspace or checkout()
    parameters = parameters or load_parameters(workspace.root / "params.yaml")
    kind, _, name = stage.partition("@")
    if kind == "weights":
        block, source = DownloadBlock(), source_of(name, parameters, workspace)
        folder = workspace.artifacts / "weights" / name
    else:
        entry, _ = parameters.application(name)
        block, folder = entry.download, workspace.folder(name, "download")
        if not entry.source.endswith((".yaml", ".yml")):
            place = local(entry.source, workspace.root)
            behind = place.exists() and is_lists(place)
            found = "its addresses are fetched anew" if behind else "DVC compares it"
            return Look(stage=stage, again=behind, said=f"{entry.source}: your own, {found}")
        source = load_source(workspace.resolve(entry.source))
        part = part_of(source, parameters, workspace.root, timeout=block.timeout)
        if part is None and is_drawn(source, parameters):
            return Look(stage=stage, again=False, said=f"{source.name}: drawn, published nowhere")
    files = [
        Fetched(
            stage=stage, source=each, block=block, workspace=workspace, folder=folder,
            copy=find_copy(each, parameters.mirror, workspace.root, timeout=block.timeout)
            if parameters.mirror else None,
        )
        for each in source.files
    ]  # fmt: skip
    again = source.kind == "url_lists"
    said: list[str] = []
    for file in files:
        if file.wanted.digest is None:
            anew = not (current and _unchanged(file))
            again = again or anew
            said.append(f"{file.wanted.name}: {'followed, fetched anew' if anew else 'followed, unchanged'}")
        else:
            said.append(f"{file.wanted.name}: {_held(file) if current else 'pinned, not here yet'}")
    if source.kind == "url_lists":
        said.append("the addresses of its lists are fetched anew")
    return Look(stage=stage, again=again, said="; ".join(said))


def _unchanged(file: Fetched) -> bool:
    """Whether the place surely has the version that was fetched last."""
    found = _answering(file)
    return not isinstance(found, OSError) and found[1].same(Version.read(_note(file, found[0])))


def _held(file: Fetched) -> str:
    """Hold what is published now to its digest; ValueError with the old and the new one."""
    _require_recorded(file)
    found = _answering(file)
    if isinstance(found, OSError):
        return f"pinned, not compared: {found}"
    location, version = found
    note = _note(file, location)
    if version.same(Version.read(note)):
        return "pinned, unchanged"
    try:
        other = _compare(file, location, version)
    except OSError as error:
        return f"pinned, not compared: {error}"
    if other is not None:
        raise ValueError(_changed(file, location, *other))
    file.downloads.mkdir(parents=True, exist_ok=True)
    version.write(note, location)
    return "pinned, unchanged (its bytes were compared)"


def _compare(file: Fetched, location: str, version: Version) -> tuple[str, str | int, str | int] | None:
    """Fetch what tells the pinned file: all of it, or where the digest is of its beginning only that."""
    wanted = file.wanted
    assert wanted.digest is not None
    old, size = wanted.digest.md5_first_mib, wanted.bytes
    if old and size and version.total is not None:
        head = first_mib_at(location, root=file.workspace.root, timeout=file.block.timeout)
        found = hashlib.md5(head, usedforsecurity=False).hexdigest()
        if found != old:
            return "md5_first_mib", old, found
        return None if version.total == size else ("bytes", size, version.total)
    with tempfile.TemporaryDirectory(dir=file.workspace.state, prefix=".look-") as aside:
        target = Path(aside) / wanted.name
        sha256 = fetch(
            replace(wanted, digest=None), [location], target, downloads=Path(aside), root=file.workspace.root,
            timeout=file.block.timeout, attempts=file.block.attempts,
        )  # fmt: skip
        return difference(target, wanted.digest, wanted.bytes, sha256=sha256)


def _require_recorded(file: Fetched) -> None:
    """ValueError where a mirror's manifest now has another digest than the file that was fetched from it."""
    manifest = file.folder / "manifest.json"
    if file.copy is None or not manifest.is_file():
        return
    for recorded in json.loads(manifest.read_text())["files"]:
        if recorded["name"] == file.copy.file and recorded["sha256"] != file.copy.digest.sha256:
            raise ValueError(
                _changed(
                    file, file.copy.location, "sha256", recorded["sha256"], file.copy.digest.sha256 or "none"
                )
            )


def _changed(file: Fetched, location: str, kind: str, old: str | int, new: str | int) -> str:
    said = f"{file.wanted.name} is pinned, but {location} now has another file: {kind} was {old}, is {new}."
    if file.copy is not None:
        return (
            f"{said} Nothing was run; `dvc repro --force --single-item {file.stage}` takes the mirror's own"
        )
    return (
        f"{said} Nothing was run. To take it, write the new digest into {file.source.name}.yaml, or"
        " `follow: true` in the place of the digest to take every change"
    )


def _answering(file: Fetched) -> tuple[str, Version] | OSError:
    """The first place that answers, and what it has; the last failure where none does."""
    failure = OSError("it is published nowhere")
    for location in locations_of(file.source, file.copy, file.workspace.root):
        try:
            version = version_at(location, root=file.workspace.root, timeout=file.block.timeout)
        except OSError as error:
            failure = error
        else:
            return location, version
    return failure


def _note(file: Fetched, location: str) -> Path:
    return seen_note(file.wanted, location, file.downloads)
