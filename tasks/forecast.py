"""What will a full run ask for? Bytes, disk, memory, hours and terms, before the first byte is fetched."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.consent import has_consent
from tasks.download import SAMPLE, locations_of, terms_of
from tasks.mirrors import find_copy, local
from tasks.own_data import own_files
from tasks.parameters import Application, Parameters, load_parameters
from tasks.pipeline import STAGE_NAMES
from tasks.sources import Source, load_source
from tasks.url_lists import is_lists
from tasks.weights import source_of
from tasks.workspace import Workspace, checkout

PROGRAM_BYTES = 1_000_000_000
"""Memory of a process with torch, torchvision and MLflow imported: 0.85 GB measured on Linux, rounded up."""
ACTIVATIONS = 145
"""Memory that training keeps for its backward pass, per byte of a float32 batch. Measured at 224 pixels:
ResNet-34 54, SqueezeNet 58, ResNet-50 143; the largest is taken."""
CLEAN_SHARE = 1.05
"""Size of the clean Parquet files per byte of the archive: photographs keep their published bytes."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one application will ask for in the edition in effect. Sizes in bytes; None where unknown."""

    application: str
    edition: str
    source: str
    title: str
    extent: str
    """`whole`, `subset`, `stand-in`, `generated` or `own`."""
    addresses: tuple[str, ...]
    """Where the bytes come from, in the order of trying."""
    fetch_bytes: int | None
    fetched_bytes: int
    """Of these, already here: a finished download stage or an unfinished part."""
    weights_bytes: int | None
    """Published starting weights, where the entry starts from such."""
    disk: dict[str, int | None]
    """By what takes the disk: download, clean, decoded cache, DVC's cache."""
    disk_free: int
    memory_bytes: int
    hours: float | None
    """From receipts of earlier runs on this machine with the same extent."""
    hours_note: str
    licence: str
    non_commercial: bool
    consent: bool | None
    """Whether consent is recorded; None where none is asked for."""
    notes: tuple[str, ...]

    @property
    def disk_bytes(self) -> int | None:
        """The sum of `disk`, or None where a part is unknown."""
        parts = list(self.disk.values())
        return None if None in parts else sum(part or 0 for part in parts)

    def text(self) -> str:
        """The forecast as lines for people."""
        terms = self.licence
        if self.consent is not None:
            recorded = (
                "recorded" if self.consent else "NOT recorded: python -m flows consent " + self.application
            )
            terms += f" (non-commercial; consent {recorded})"
        here = f", of which {_size(self.fetched_bytes)} is here" if self.fetched_bytes else ""
        parts = ", ".join(f"{name} {_size(size)}" for name, size in self.disk.items())
        enough = "" if self.disk_bytes is None or self.disk_bytes <= self.disk_free else "  NOT ENOUGH"
        rows = [
            ("application", f"{self.application}, edition {self.edition}"),
            ("data", f"{self.title} ({self.extent})"),
            ("from", "\n".join(self.addresses) or "nowhere"),
            ("fetch", _size(self.fetch_bytes) + here),
            ("weights", _size(self.weights_bytes) if self.weights_bytes != 0 else "none to fetch"),
            ("disk", f"about {_size(self.disk_bytes)} ({parts}); free {_size(self.disk_free)}{enough}"),
            ("memory", f"about {_size(self.memory_bytes)}"),
            ("hours", f"{self.hours:.2f} ({self.hours_note})" if self.hours is not None else self.hours_note),
            ("licence", terms),
            *(("note", note) for note in self.notes),
        ]
        return "\n".join(
            f"{name if not line else '':<12} {text}"
            for name, value in rows
            for line, text in enumerate(value.splitlines() or [""])
        )


def forecast(
    application: str, *, workspace: Workspace | None = None, parameters: Parameters | None = None
) -> Forecast:
    """What `application` will ask for. Fetches nothing but the mirror's `MANIFEST.json`."""
    workspace = workspace or checkout()
    parameters = parameters or load_parameters(workspace.root / "params.yaml")
    entry, _ = parameters.application(application)
    facts = _facts_of_source(application, entry, parameters, workspace)
    examples = facts.pop("examples")
    pixels, batch = _pixels(entry), int(getattr(entry.fine_tune, "batch_size", 64))
    content = facts["content_bytes"]
    cache = None if examples is None else examples * pixels * 3
    clean = None if content is None else int(content * CLEAN_SHARE)
    disk = {
        "download": content,
        "clean": clean,
        "decoded cache": cache,
        # by default DVC keeps a copy of what it tracks; a file system with reflinks shares them
        "DVC's cache": None if content is None or clean is None else content + clean,
    }
    weights, weight_notes = _weights(entry, parameters, workspace)
    hours, hours_note = _hours(application, facts["extent"], workspace)
    del facts["content_bytes"]
    return Forecast(
        application=application, edition=parameters.edition, weights_bytes=weights, disk=disk,
        disk_free=shutil.disk_usage(workspace.root).free,
        memory_bytes=PROGRAM_BYTES + ACTIVATIONS * batch * pixels * 3 * 4,
        hours=hours, hours_note=hours_note, **{**facts, "notes": (*facts["notes"], *weight_notes)},
    )  # fmt: skip


def _facts_of_source(
    application: str, entry: Application, parameters: Parameters, workspace: Workspace
) -> dict[str, Any]:
    if not entry.source.endswith((".yaml", ".yml")):
        return _own(entry.source, workspace)
    source = load_source(workspace.resolve(entry.source))
    generated = parameters.edition == SAMPLE or source.drawn_only
    mirror = parameters.mirror if not generated else ""
    copies = [find_copy(each, mirror, workspace.root) if mirror else None for each in source.files]
    copy = copies[0]
    licence, restricted = terms_of(source, copy)
    notes = []
    if generated:
        notes.append(
            "drawn on this machine, nothing is fetched; `python -m flows edition full` for the real data"
        )
        licence, restricted = "Apache-2.0 (drawn by this project)", False
    elif copy:
        notes.append(f"the mirror's copy: {copy.note}")
    sizes = [
        each.bytes if copied is None else copied.bytes
        for each, copied in zip(source.files, copies, strict=True)
    ]
    size = 0 if generated else None if None in sizes else sum(each or 0 for each in sizes)
    places = () if generated else locations_of(source, copy, workspace.root)
    content: int | None = size if not generated else 20_000_000
    examples = source.examples if not generated and not copy else None
    if source.kind == "url_lists" and not generated:
        limit = entry.download.limit_per_class
        notes.append(f"the lists alone; each of at most {limit} addresses per class adds some 0.5 MB")
        content = None
        if not places:
            notes.append("published nowhere: set `mirror`, or `source` to a folder of your own lists")
    if copy and source.bytes and source.examples:  # a mirror's share of the examples, by its size
        examples = max(1, round(source.examples * copy.bytes / source.bytes))
    return {
        "source": source.name, "title": source.title,
        "extent": "generated" if generated else copy.extent if copy else "whole",
        "addresses": places, "fetch_bytes": size, "content_bytes": content,
        "fetched_bytes": 0 if generated else _fetched(source, application, size, workspace),
        "licence": licence, "non_commercial": restricted,
        "consent": has_consent(source.name, licence, workspace=workspace) if restricted else None,
        "examples": examples if not generated else 2000, "notes": tuple(notes),
    }  # fmt: skip


def _own(written: str, workspace: Workspace) -> dict[str, Any]:
    place = local(written, workspace.root)
    if not place.exists():
        raise ValueError(f"the source {written} does not exist")
    files = own_files(place) if place.is_dir() else [(place.name, place)]
    size = sum(path.stat().st_size for _, path in files)
    lists = is_lists(place)
    note = "lists of addresses; every picture adds some 0.5 MB" if lists else "copied, not fetched"
    return {
        "source": written, "title": f"own data: {written}", "extent": "own", "addresses": (written,),
        "fetch_bytes": None if lists else 0, "content_bytes": None if lists else size, "fetched_bytes": 0,
        "licence": "not stated: your own data", "non_commercial": False, "consent": None,
        "examples": len(files) if place.is_dir() and not lists else None, "notes": (note,),
    }  # fmt: skip


def _fetched(source: Source, application: str, size: int | None, workspace: Workspace) -> int:
    """Bytes already here: a finished stage whose file has that size, or the largest unfinished part."""
    for name in (source.file, *source.also):
        whole = workspace.folder(application, "download") / name
        if whole.is_file() and whole.stat().st_size == size:
            return size or 0
    parts = [
        part.stat().st_size
        for name in (source.file, *source.also)
        for part in (workspace.state / "downloads").glob(f"{name}-*.part")
    ]
    return max(parts, default=0)


def _weights(
    entry: Application, parameters: Parameters, workspace: Workspace
) -> tuple[int | None, tuple[str, ...]]:
    """Bytes of published starting weights that are not here yet."""
    start = Path(entry.starts_from)
    if start.parts[:2] != ("artifacts", "weights") or len(start.parts) < 3:
        return 0, ()
    name = start.parts[2]
    source = source_of(name, parameters, workspace)
    if (workspace.artifacts / "weights" / name / "manifest.json").is_file():
        return 0, (f"starting weights {source.name}: here",)
    return source.bytes, (f"starting weights {source.name}: {', '.join(source.addresses)}; {source.licence}",)


def _pixels(entry: Application) -> int:
    """Pixels of an image as the network sees it: a side, or height and width. 0 where the recipe has no
    images: rows and texts are small beside the program."""
    size = getattr(entry.fine_tune, "size", 0)
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return int(height) * int(width)


def _hours(application: str, extent: str, workspace: Workspace) -> tuple[float | None, str]:
    """Sum of the last receipts of all stages, if they are of the same extent of data."""
    folder = workspace.state / "receipts" / application
    seconds, missing, extents = 0.0, [], set()
    for stage in STAGE_NAMES:
        try:
            record = json.loads((folder / f"{stage}.json").read_text())
            seconds += float(record["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            missing.append(stage)
            continue
        if stage == "download":
            extents.add(record.get("numbers", {}).get("extent"))
    if not missing and extents == {extent}:
        return seconds / 3600, "as in the last run on this machine"
    if not missing:
        (other,) = extents
        return None, f"unknown for this extent; the last run, on {other} data, took {seconds / 3600:.2f} h"
    return None, "unknown: no receipt yet of " + ", ".join(missing)


def _size(size: int | None) -> str:
    if size is None:
        return "unknown"
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
