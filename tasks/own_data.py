"""A user's own folder or archive: taken as it is, one deterministic tar for a folder."""

import os
import shutil
import tarfile
from pathlib import Path

from tasks.fetch import require_space, transfer_bar
from tasks.parameters import nearest

NO_DATA = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
"""What file managers leave behind; names that begin with a dot are left out as well."""


def store(source: Path, output: Path, *, written: str) -> Path:
    """Store a folder as `files.tar` (sorted names, no times, no owners) or a file under its own name.

    `written`: the path as the user wrote it, for messages. ValueError where it does not exist, is empty, or
    holds the output itself.
    """
    if source.is_dir():
        if output.resolve().is_relative_to(source.resolve()):
            raise ValueError(f"the source folder {written} holds the project's own artifacts; choose another")
        files = own_files(source)
        if not files:
            raise ValueError(f"the source folder {written} holds no file")
        require_space(output, sum(path.stat().st_size for _, path in files), written)
        return _pack(files, output / "files.tar")
    if not source.is_file():
        beside = [path.name for path in source.parent.iterdir()] if source.parent.is_dir() else []
        hint = nearest(source.name, beside) if beside else f"; {source.parent} does not exist either"
        raise ValueError(f"the source {written} does not exist{hint}")
    if not source.stat().st_size:
        raise ValueError(f"the source file {written} is empty")
    require_space(output, source.stat().st_size, written)
    return Path(shutil.copyfile(source, output / source.name))


def own_files(folder: Path) -> list[tuple[str, Path]]:
    """Name (posix, relative) and path of every file below a folder, sorted; links are followed once."""
    found: list[tuple[str, Path]] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if _is_data(name)]
        for name in filter(_is_data, files):
            path = Path(place, name)
            if path.is_file():
                found.append((path.relative_to(folder).as_posix(), path))
    return sorted(found)


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name not in NO_DATA


def _pack(files: list[tuple[str, Path]], target: Path) -> Path:
    with tarfile.open(target, "w") as tar, transfer_bar(target.name, len(files), unit="") as bar:
        for name, path in files:
            member = tarfile.TarInfo(name)
            member.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(member, file)
            bar.update()
    return target
