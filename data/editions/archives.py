"""Archives whose bytes depend on their content alone: fixed order, owners and times."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""


def write_archive(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write `files` in their order; the ending of `path` names the kind: .tgz, .tar or .zip."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files:
                archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
        return path
    if path.suffix not in (".tgz", ".tar"):
        raise ValueError(f"an archive called {path.name}: its name must end in .tgz, .tar or .zip")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    plain = buffer.getvalue()
    # A fixed time, no file name, and a level whose output does not change between releases in practice.
    path.write_bytes(gzip.compress(plain, compresslevel=6, mtime=0) if path.suffix == ".tgz" else plain)
    return path
