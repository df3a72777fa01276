"""Archives of drawn files: the same bytes under every Python and zlib, and whole for every reader."""

import hashlib
import random
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from data.editions.archives import write_archive


@pytest.fixture
def files() -> list[tuple[str, bytes]]:
    """An empty file, small ones, and one larger than a block of deflate."""
    numbers = random.Random(1)
    return [(f"folder/{size}.bin", numbers.randbytes(size)) for size in (0, 1, 511, 65_535, 200_000)]


@pytest.mark.parametrize(
    ("kind", "digest"),
    [("tgz", "afb43e73cb67a428"), ("tar", "9da2bf32985f1123"), ("zip", "27d2e81c091972ca")],
)  # as Python 3.11, 3.12 and 3.13 write them
def test_bytes_are_those_of_every_python(
    kind: str, digest: str, files: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    path = write_archive(tmp_path / f"drawn.{kind}", files)
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest)


def test_other_readers_find_every_byte(files: list[tuple[str, bytes]], tmp_path: Path) -> None:
    path = write_archive(tmp_path / "drawn.tgz", files)
    subprocess.run(["gzip", "--test", path], check=True)
    with tarfile.open(path) as archive:
        read = [(member.name, archive.extractfile(member)) for member in archive]
        assert [(name, file.read()) for name, file in read if file] == files
    with zipfile.ZipFile(write_archive(tmp_path / "drawn.zip", files)) as archive:
        assert archive.testzip() is None
        assert [(name, archive.read(name)) for name in archive.namelist()] == files
