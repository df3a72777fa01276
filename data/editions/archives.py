"""Archives whose bytes depend on their content alone: fixed order, owners and times, and no compressor.

Deflate may be written in many ways, and zlib's releases and replacements do; even the header of
`gzip.compress` differs between Python 3.12 and 3.13. What is drawn is small, so it is stored.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")
"""Deflate, no name, no time, an unknown system (RFC 1952)."""
BLOCK = 0xFFFF
"""Most bytes in a stored block of deflate (RFC 1951, 3.2.4)."""


def write_archive(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write `files` in their order; the ending of `path` names the kind: .tgz, .tar or .zip."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in files:
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.create_system = 3  # Unix, whatever this is
                archive.writestr(entry, content)
        return path
    if path.suffix not in (".tgz", ".tar"):
        raise ValueError(f"an archive called {path.name}: its name must end in .tgz, .tar or .zip")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    plain = buffer.getvalue()
    path.write_bytes(gzip_stored(plain) if path.suffix == ".tgz" else plain)
    return path


def gzip_stored(content: bytes) -> bytes:
    """`content` as a gzip file that is not compressed."""
    return (
        GZIP_HEADER
        + deflate_stored(content)
        + struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    )


def deflate_stored(content: bytes) -> bytes:
    """`content` as stored blocks of deflate, the last one marked."""
    starts = range(0, max(len(content), 1), BLOCK)
    blocks = []
    for start in starts:
        block = content[start : start + BLOCK]
        last = start == starts[-1]
        blocks.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    return b"".join(blocks)
