"""Which other place holds a source, and are its bytes the source's own?"""

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from tasks.sources import Digest, Source

VARIABLE = "PRACTICUM_MIRROR"
"""Environment variable with a folder or address that only moves files: digests stay the source's own."""

Extent = Literal["whole", "subset", "stand-in", "generated", "own"]

_RESTRICTED = re.compile(r"non-?commercial|no commercial|research (use|purpose)|competition", re.IGNORECASE)


class Entry(BaseModel, frozen=True, extra="ignore", strict=True, use_attribute_docstrings=True):
    """One file of a mirror's `MANIFEST.json`."""

    file: str
    """Path below the mirror."""
    bytes: int = Field(gt=0)
    """Size of the file."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of the whole file."""
    official_file: str = ""
    """Name of the published file that it stands for."""
    extent: str
    """Text that begins with, or contains, `whole`, `subset` or `stand-in`."""
    items: str = ""
    """What it holds, for people."""
    licence: str = ""
    """Terms of what the mirror holds; empty: those of the source."""
    notes: str = ""
    """Differences from the published file, for people."""
    official_md5_first_mib: str = ""
    """Digest of the published file, where it is the same."""
    non_commercial: bool | None = None
    """Whether consent is asked for; where it is not said, the licence's words decide."""


class Manifest(BaseModel, frozen=True, extra="ignore", use_attribute_docstrings=True):
    """`MANIFEST.json` of a mirror."""

    datasets: tuple[Entry, ...]
    """One entry per file."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A mirror's copy of a source: what `download` needs to know about it."""

    location: str
    """Path or address of the file."""
    file: str
    """Name under which it is stored."""
    bytes: int
    digest: Digest
    own: bool
    """The manifest says that these are the source's own bytes, so that its addresses serve as well."""
    extent: Extent
    note: str
    licence: str
    non_commercial: bool


def find_copy(source: Source, mirror: str, root: Path, *, timeout: float = 30.0) -> Copy | None:
    """The copy of `source` in `mirror` (folder relative to `root`, or an address); None where it has none.

    ValueError where the mirror or its `MANIFEST.json` is missing or malformed.
    """
    manifest = _read_manifest(mirror, root, timeout)
    names = (source.file, *source.also)
    # the most exact match first: several data sets share a name such as train.zip
    for part in range(3):
        for name in names:
            for entry in manifest.datasets:
                if (entry.file, entry.official_file, posixpath.basename(entry.file))[part] == name:
                    return _copy(source, entry, below(mirror, entry.file, root))
    return None


def moved(source: Source, root: Path) -> tuple[str, ...]:
    """Where the environment's mirror may hold the source's own file: one location, or none."""
    mirror = os.environ.get(VARIABLE, "")
    if not mirror or source.digest is None:
        return ()
    if not is_web(mirror) and not local(mirror, root).is_dir():
        raise ValueError(f"{VARIABLE} names the folder {mirror}, which does not exist")
    location = below(mirror, source.file, root)
    return (location,) if is_web(location) or Path(location).is_file() else ()


def below(mirror: str, name: str, root: Path) -> str:
    """Path or address of a file of a mirror. ValueError for a name that would leave it."""
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise ValueError(f"mirror {mirror}: the file name {name!r} leads out of the mirror")
    return f"{mirror.rstrip('/')}/{quote(name)}" if is_web(mirror) else str(local(mirror, root) / name)


def local(location: str, root: Path) -> Path:
    """A path or `file://` address as a path; relative ones are below `root`."""
    path = unquote(urlsplit(location).path) if location.startswith("file://") else location
    return root / Path(path).expanduser()


def is_web(location: str) -> bool:
    """An http or https address."""
    return location.startswith(("http://", "https://"))


def _read_manifest(mirror: str, root: Path, timeout: float) -> Manifest:
    where = below(mirror, "MANIFEST.json", root)
    try:
        if is_web(mirror):
            text = httpx.get(where, timeout=timeout, follow_redirects=True).raise_for_status().text
        else:
            text = Path(where).read_text()
    except (OSError, httpx.HTTPError) as error:
        raise ValueError(f"mirror {mirror}: cannot read its MANIFEST.json ({error})") from None
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"mirror {mirror}: MANIFEST.json is malformed: {error}") from None


def _copy(source: Source, entry: Entry, location: str) -> Copy:
    digest = source.digest or Digest.model_construct()
    own = entry.sha256 == digest.sha256 or (
        entry.bytes == source.bytes and entry.official_md5_first_mib == (digest.md5_first_mib or "none")
    )
    extent = "whole" if own else _extent(entry.extent)
    licence = entry.licence or source.licence
    if entry.non_commercial is not None:
        restricted = entry.non_commercial
    elif extent == "stand-in":  # other data than the source's, so other terms
        restricted = bool(_RESTRICTED.search(licence))
    else:
        restricted = source.non_commercial or bool(_RESTRICTED.search(licence))
    note = "; ".join(part.strip().rstrip(".") for part in (entry.extent, entry.items, entry.notes) if part)
    return Copy(
        location=location, file=posixpath.basename(entry.file), bytes=entry.bytes,
        digest=Digest(sha256=entry.sha256), own=own, extent=extent, note=note,
        licence=licence, non_commercial=restricted,
    )  # fmt: skip


def _extent(text: str) -> Extent:
    """What a manifest's words mean; anything unclear is called a stand-in, the weakest claim."""
    lowered = text.lower()
    if "stand-in" in lowered:
        return "stand-in"
    if lowered.startswith("whole"):
        return "whole"
    return "subset" if "subset" in lowered or "partial" in lowered else "stand-in"
