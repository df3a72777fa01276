"""Stage `download`: the bytes as published, drawn, or the user's own, and a manifest of what they are."""

import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.consent import require_consent
from tasks.fetch import Wanted, fetch
from tasks.mirrors import Copy, Extent, find_copy, local, moved
from tasks.own_data import store
from tasks.parameters import Parameters
from tasks.pipeline import Job, Receipt
from tasks.sources import Source, check, load_source, sha256_of
from tasks.url_lists import fetch_lists, is_lists, read_lists, serving, write_record

CLAIMS: tuple[Extent, ...] = ("whole", "subset", "stand-in")
"""What files may be, from the strongest claim to the weakest, which is that of several together."""
SAMPLE = "sample"
"""The edition in which every source is drawn."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The head of `manifest.json`: what the bytes are and on which terms they may be used."""

    source: str
    title: str
    extent: Extent
    extent_note: str = ""
    licence: str
    citation: str = ""
    non_commercial: bool = False
    address: str
    """Where the bytes are published: never a path of this machine nor a port of it."""


def run(job: Job) -> Receipt:
    """Bring the source of `job` into its output folder; `manifest.json` is written last.

    A source is `sources/NAME.yaml`, or a folder or file of the user's. ValueError where the source, the
    mirror or the bytes are at fault or consent is missing, OSError where nothing came or the disk is full.
    """
    written = job.entry.source
    if written.endswith((".yaml", ".yml")):
        source = load_source(job.workspace.resolve(written))
        if source.kind == "weights":
            raise ValueError(f"{written} is of kind weights; an application's source holds examples")
        part = part_of(source, job.parameters, job.workspace.root, timeout=job.block.timeout)
        if part is not None:
            terms, more = _completed(job, source, part)
        elif is_drawn(source, job.parameters):
            if job.parameters.mirror:
                print(f"mirror has no effect here: {source.name} is drawn", file=sys.stderr)
            terms, more = _drawn(job, source)
        else:
            terms, more = _published(job, source)
    else:
        terms, more = _own(job, written)
    return _finish(job.output, terms, more)


def is_drawn(source: Source, parameters: Parameters) -> bool:
    """Whether the project draws the source itself, in the edition in effect or in all."""
    return parameters.edition == SAMPLE or source.drawn_only


def part_of(source: Source, parameters: Parameters, root: Path, *, timeout: float) -> Copy | None:
    """The mirror's part of an archive that is drawn around it; None where there is none."""
    if parameters.edition == SAMPLE or source.completed is None or not parameters.mirror:
        return None
    return find_copy(source, parameters.mirror, root, timeout=timeout)


def locations_of(source: Source, copy: Copy | None, root: Path) -> tuple[str, ...]:
    """Where to look for a source's bytes, in order. With a copy of other bytes, only there."""
    own = (*moved(source, root), *source.addresses)  # moved first: who sets it wants no other traffic
    if copy is None:
        return own
    return (copy.location, *own) if copy.own else (copy.location,)


def bring(
    source: Source,
    copy: Copy | None,
    output: Path,
    *,
    root: Path,
    downloads: Path,
    timeout: float,
    attempts: int,
) -> tuple[Path, Terms]:
    """Fetch the file of a source or of a mirror's copy of it into `output`; returns it with its terms."""
    terms = Terms(
        source=source.name, title=source.title, extent="whole", licence=source.licence,
        citation=source.citation, non_commercial=source.non_commercial,
        address=source.addresses[0] if source.addresses else "none published",
    )  # fmt: skip
    wanted = wanted_of(source, copy)
    target = output / wanted.name
    places = locations_of(source, copy, root)
    if not places:
        raise ValueError(f"{source.name} is published nowhere and no mirror has {source.file}")
    fetch(wanted, places, target, downloads=downloads, root=root, timeout=timeout, attempts=attempts)
    if copy and not _is_own(target, source):
        terms = replace(
            terms, extent=copy.extent, extent_note=copy.note, licence=copy.licence,
            non_commercial=copy.non_commercial,
        )  # fmt: skip
    return target, terms


def wanted_of(source: Source, copy: Copy | None) -> Wanted:
    """The file to fetch: the source's own, or a mirror's copy by the digest of its manifest."""
    if copy:
        return Wanted(name=copy.file, digest=copy.digest, bytes=copy.bytes)
    return Wanted(name=source.file, digest=source.digest, bytes=source.bytes)


def terms_of(source: Source, copy: Copy | None) -> tuple[str, bool]:
    """Licence of what will be fetched, and whether consent is asked for."""
    return (copy.licence, copy.non_commercial) if copy else (source.licence, source.non_commercial)


def _published(job: Job, source: Source) -> tuple[Terms, dict[str, Any]]:
    root, block, mirror = job.workspace.root, job.block, job.parameters.mirror
    copies = [
        find_copy(each, mirror, root, timeout=block.timeout) if mirror else None for each in source.files
    ]
    for each, copy in zip(source.files, copies, strict=True):
        if copy is None and not each.addresses:
            raise ValueError(_nowhere(job, each))
    copy = copies[0]
    licence, restricted = terms_of(source, copy)
    if restricted:
        command = f"python -m flows consent {job.application}"
        require_consent(source.name, licence, command, workspace=job.workspace)
    downloads = job.workspace.state / "downloads"
    settings: dict[str, Any] = {"timeout": block.timeout, "attempts": block.attempts}
    if source.kind == "archive":
        brought = [
            bring(each, copy, job.output, root=root, downloads=downloads, **settings)[1]
            for each, copy in zip(source.files, copies, strict=True)
        ]
        return max(brought, key=lambda terms: CLAIMS.index(terms.extent)), {}
    with tempfile.TemporaryDirectory(dir=job.output, prefix=".lists-") as aside:
        lists, terms = bring(source, copy, Path(aside), root=root, downloads=downloads, **settings)
        return terms, _behind(job, lists, None)


def _nowhere(job: Job, source: Source) -> str:
    """Why a file cannot be had, and what to do."""
    mirror = job.parameters.mirror
    place = f"applications.{job.application}.source"
    own = f"{place} to a folder or zip with one list of addresses per class"
    if source.kind == "archive":
        own = f"{place} to a folder with the unpacked files"
    where = f"only behind a login ({source.login})" if source.login else "nowhere"
    return (
        f"{source.name} is published {where}"
        + (f", and the mirror {mirror} has no {source.file}" if mirror else "")
        + f"; set `mirror` to a place whose MANIFEST.json names {source.file}, or bring your own: set {own}"
    )


def _drawn(job: Job, source: Source) -> tuple[Terms, dict[str, Any]]:
    if source.generated is None:
        raise ValueError(
            f"sources/{source.name}.yaml has no `generated` block, so edition {SAMPLE!r} has no data"
        )
    from data.editions import generate

    settings = {"file": source.file, **source.generated}
    generator = settings.pop("generator")
    terms = Terms(
        source=source.name, title=source.title, extent="generated",
        extent_note=f"drawn by the generator {generator}, not the published data",
        licence="Apache-2.0 (drawn by this project)", address="generated",
    )  # fmt: skip
    if source.kind == "archive":
        generate(generator, settings, job.output)
        return terms, {}
    with tempfile.TemporaryDirectory(dir=job.output, prefix=".lists-") as aside:
        generate(generator, settings, Path(aside))
        with serving(Path(aside) / "served") as base:
            return terms, _behind(job, Path(aside) / source.file, base)


def _completed(job: Job, source: Source, part: Copy) -> tuple[Terms, dict[str, Any]]:
    """Draw an archive around the part of it that a mirror has."""
    from data.editions import generate

    assert source.generated is not None
    assert source.completed is not None
    licence, restricted = terms_of(source, part)
    if restricted:
        command = f"python -m flows consent {job.application}"
        require_consent(source.name, licence, command, workspace=job.workspace)
    downloads = job.workspace.state / "downloads"
    settings = {"file": source.file, **source.generated, **source.completed}
    generator, taken = settings.pop("generator"), settings.pop("setting")
    with tempfile.TemporaryDirectory(dir=job.output, prefix=".part-") as aside:
        path, terms = bring(
            source, part, Path(aside), root=job.workspace.root, downloads=downloads,
            timeout=job.block.timeout, attempts=job.block.attempts,
        )  # fmt: skip
        generate(generator, {**settings, taken: str(path)}, job.output)
    note = f"drawn by the generator {generator} around what is real: {part.note}"
    return replace(terms, extent="stand-in", extent_note=note, address="generated"), {}


def _own(job: Job, written: str) -> tuple[Terms, dict[str, Any]]:
    place = local(written, job.workspace.root)
    terms = Terms(
        source=written, title=f"own data: {written}", extent="own", licence="not stated: your own data",
        address=written,
    )  # fmt: skip
    if place.exists() and is_lists(place):
        return terms, _behind(job, place, None)
    store(place, job.output, written=written)
    return terms, {}


def _behind(job: Job, source: Path, base: str | None) -> dict[str, Any]:
    """Fetch what the lists of `source` point to; returns what the manifest says beside the files."""
    block, lists = job.block, read_lists(source)
    rows = fetch_lists(
        lists, job.output, base=base, timeout=block.timeout, attempts=block.attempts, workers=block.workers,
        limit_per_class=block.limit_per_class,
    )  # fmt: skip
    counts = Counter(row.status for row in rows)
    if not counts["ok"]:
        kept = job.workspace.state / "logs" / f"{job.application}-record.csv"
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_record(rows, kept)
        said = ", ".join(f"{status} {count}" for status, count in sorted(counts.items()))
        raise OSError(f"none of {len(rows)} addresses gave a picture ({said}); every one of them: {kept}")
    return {
        "statuses": dict(sorted(counts.items())),
        "lists": [
            {"class": each.label, "addresses": len(each.addresses), "blank_lines": each.blank_lines}
            for each in lists
        ],
    }


def _is_own(path: Path, source: Source) -> bool:
    """Whether a mirror's file is the published one, whatever the mirror calls it."""
    try:
        return source.digest is not None and bool(check(path, path.name, source.digest, source.bytes))
    except ValueError:
        return False


def _finish(output: Path, terms: Terms, more: dict[str, Any]) -> Receipt:
    files = [
        {
            "name": path.name,
            "address": terms.address,
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(output.iterdir())
    ]
    head = {name: value for name, value in vars(terms).items() if name != "address"}
    manifest = {**head, **more, "files": files}
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (output / "manifest.json").write_text(text, encoding="utf-8")
    return Receipt(
        rows=sum(more["statuses"].values()) if more else len(files),
        bytes=sum(int(str(each["bytes"])) for each in files),
        digest=sha256_of(output / "manifest.json"),
        numbers={"extent": terms.extent, **{f"status: {k}": v for k, v in more.get("statuses", {}).items()}},
    )
