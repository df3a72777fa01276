"""The download folder as one stream of files: archives are read in place, never unpacked to disk."""

import bz2
import difflib
import gzip
import json
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

TAR_ENDINGS = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
ZIP_ENDINGS = (".zip",)
UNREADABLE_ENDINGS = (".7z", ".rar", ".zst", ".lz4", ".ace")
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an honest archive stays below; anything above is refused as a bomb."""

    member: int = 2**30
    """Bytes of one member (a member is read into memory as a whole)."""
    total: int = 2**40
    """Bytes of all members of one archive."""
    ratio: int = 200
    """Bytes out per byte in. Deflate ends at 1,032; the course's archives stay below 12."""
    floor: int = 8 * 2**20
    """Bytes below which a high ratio is harmless; also the window over which a stream's ratio is taken."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file as published. `read` works only until the next member is asked for."""

    archive: str
    """Name of the file in the download folder."""
    name: str
    """Posix path inside the archive, without a leading `./`."""
    size: int
    """Bytes."""
    read: Callable[[], bytes]


class Raw:
    """The download folder as `download` left it. ValueError where it has no readable manifest."""

    def __init__(self, folder: Path, *, limits: Limits | None = None) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        path = folder / "manifest.json"
        try:
            self.manifest: dict[str, Any] = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); run the download stage again") from None
        self.ignored: Counter[str] = Counter()
        """Files that are no examples, by reason: system files, and what the recipe adds by `ignore`."""

    def members(self) -> Iterator[Member]:
        """Every file in every archive, in the manifest's and the archives' order.

        Directories are passed over; files that macOS and Windows leave behind are counted in `ignored`,
        which starts anew. ValueError names the archive and the member: `..` or absolute names, links,
        devices, encrypted or sparse members, bombs, truncated or damaged archives.
        """
        self.ignored.clear()
        for member in self._stream():
            if _of_system(member.name):
                self.ignore("system files")
            else:
                yield member

    def ignore(self, reason: str) -> None:
        """Count one file that is no example."""
        self.ignored[reason] += 1

    def find(self, name: str) -> bytes:
        """Content of the one member of that name. ValueError as `find_all`."""
        return self.find_all([name])[name]

    def find_all(self, names: Collection[str]) -> dict[str, bytes]:
        """Content by name, in one pass; a name may leave out leading folders where that is unambiguous.

        ValueError where a name fits no member (with the nearest) or several.
        """
        found: dict[str, tuple[str, bytes]] = {}
        seen: set[str] = set()
        endings = {PurePosixPath(name).suffix for name in names}
        for member in self._stream():
            if PurePosixPath(member.name).suffix in endings and len(seen) < 10_000:
                seen.add(member.name)
            for name in names:
                exact = member.name == name
                if not exact and not member.name.endswith(f"/{name}"):
                    continue
                other = found[name][0] if name in found else None
                if other is not None and other != name and not exact:
                    raise ValueError(f"{name!r} fits {other!r} and {member.name!r}; give the whole path")
                if other is None or exact:
                    found[name] = (member.name, member.read())
        for name in names:
            if name not in found:
                close = difflib.get_close_matches(name, seen, n=1, cutoff=0.3)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"no file {name!r} in {', '.join(self._files())}{hint}")
        return {name: content for name, (_, content) in found.items()}

    def _files(self) -> list[str]:
        return [str(file["name"]) for file in self.manifest.get("files", [])]

    def _stream(self) -> Iterator[Member]:
        for name in self._files():
            path = self.folder / name
            if not path.is_file():
                raise ValueError(f"{path} is in the manifest but not there; run the download stage again")
            lower = name.lower()
            if lower.endswith(UNREADABLE_ENDINGS):
                raise ValueError(f"{name}: this kind of archive cannot be read; pack it as .tar.gz or .zip")
            if not lower.endswith(TAR_ENDINGS + ZIP_ENDINGS):
                _check_size(name, name, path.stat().st_size, self.limits)
                yield Member(
                    archive=name, name=_posix(name, name), size=path.stat().st_size, read=path.read_bytes
                )
                continue
            with path.open("rb") as file:
                start = file.read(6)
            if start.startswith(b"PK"):
                yield from _zip_members(path, name, self.limits)
            else:
                yield from _tar_members(path, name, start, self.limits)


def _of_system(name: str) -> bool:
    """Files that operating systems put beside the data."""
    path = PurePosixPath(name)
    return (
        "__MACOSX" in path.parts
        or path.name.startswith("._")
        or path.name in {".DS_Store", "Thumbs.db", "desktop.ini"}
    )


def _posix(archive: str, name: str) -> str:
    """The name with `/` only and no leading `./`. ValueError where it leads out of the archive."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8; Arrow could not store them
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        raise ValueError(
            f"{archive}: member {name!r} has an absolute name; do not trust this archive, repack it"
        )
    if ".." in re.split(r"[\\/]", name):
        raise ValueError(
            f"{archive}: member {name!r} leads out of the archive by '..'; do not trust it, repack it"
        )
    return str(PurePosixPath(name))


def _check_size(archive: str, member: str, size: int, limits: Limits) -> None:
    if size > limits.member:
        raise ValueError(
            f"{archive}: member {member!r} has {size:,} bytes, above the limit of {limits.member:,};"
            " leave it out of the archive if it is honest"
        )


def _bomb(archive: str, member: str, what: str) -> ValueError:
    return ValueError(
        f"{archive}: member {member!r} {what}: this looks like a decompression bomb;"
        " if the archive is honest, repack it without compression"
    )


@contextmanager
def _whole(archive: str, member: Callable[[], str]) -> Iterator[None]:
    """Turn whatever a damaged archive raises into one message."""
    try:
        yield
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the archive; bz2 reports damage as an OSError without a number
        where = f" at or after member {member()!r}" if member() else ""
        raise ValueError(
            f"{archive} is truncated or damaged{where} ({error}); delete it and run the download stage again"
        ) from None


# Zip


def _zip_members(path: Path, archive: str, limits: Limits) -> Iterator[Member]:
    current = ""
    with _whole(archive, lambda: current), zipfile.ZipFile(path) as file:
        infos = file.infolist()
        total = sum(info.file_size for info in infos)
        if total > limits.total or total > max(limits.floor, limits.ratio * path.stat().st_size):
            raise _bomb(archive, infos[-1].filename, f"brings the content to {total:,} bytes")
        for info in infos:
            _check_zip_member(archive, info, limits)
        for info in infos:
            if info.is_dir():
                continue
            current = info.filename
            yield Member(
                archive=archive,
                name=_posix(archive, info.filename.replace("\\", "/")),
                size=info.file_size,
                read=_zip_reader(file, info, archive),
            )


def _check_zip_member(archive: str, info: zipfile.ZipInfo, limits: Limits) -> None:
    name = info.filename
    _posix(archive, name)
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise ValueError(
            f"{archive}: member {name!r} is a symbolic link; repack the archive with plain files"
        )
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ValueError(
            f"{archive}: member {name!r} is a device or pipe; repack the archive with plain files"
        )
    if info.flag_bits & 0x1:
        raise ValueError(f"{archive}: member {name!r} is encrypted; repack the archive without a password")
    _check_size(archive, name, info.file_size, limits)
    if info.file_size > limits.floor and info.file_size > limits.ratio * max(info.compress_size, 1):
        raise _bomb(archive, name, f"grows from {info.compress_size:,} to {info.file_size:,} bytes")


def _zip_reader(file: zipfile.ZipFile, info: zipfile.ZipInfo, archive: str) -> Callable[[], bytes]:
    def read() -> bytes:
        # zipfile stops at the declared size and compares the CRC: a header that lies is damage
        with _whole(archive, lambda: info.filename):
            try:
                return file.read(info)
            except NotImplementedError as error:
                raise ValueError(
                    f"{archive}: member {info.filename!r}: {error}; repack the archive with deflate"
                ) from None

    return read


# Tar


class _Metered:
    """Decompressed bytes of a tar, with the ratio watched over windows: bombs hide behind honest data too."""

    slack = 2**14  # bytes that a decompressor may have read ahead

    def __init__(self, source: IO[bytes], packed: IO[bytes] | None, archive: str, limits: Limits) -> None:
        self.source, self.packed, self.archive, self.limits = source, packed, archive, limits
        self.member = ""
        self.out = self.window_out = self.window_in = 0

    def read(self, size: int) -> bytes:
        data = self.source.read(size)
        self.out += len(data)
        if self.out > self.limits.total:
            raise _bomb(self.archive, self.member, f"brings the content to {self.out:,} bytes")
        if self.packed is not None and self.out - self.window_out >= self.limits.floor:
            consumed = self.packed.tell()
            grown, read = self.out - self.window_out, consumed - self.window_in
            if grown > self.limits.ratio * (read + self.slack):
                raise _bomb(self.archive, self.member, f"grows from {read:,} to {grown:,} bytes")
            self.window_out, self.window_in = self.out, consumed
        return data


class _StrictInfo(tarfile.TarInfo):
    """tarfile takes a damaged header in mid-archive for the end; here only the end marker is the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_StrictInfo":
        try:
            return super().fromtarfile(tarfile_)  # type: ignore[arg-type, return-value, unused-ignore]
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined, unused-ignore]
            tarfile_.ended = True  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined, unused-ignore]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _tar_members(path: Path, archive: str, start: bytes, limits: Limits) -> Iterator[Member]:
    opened: dict[bytes, Callable[..., Any]] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ": lzma.open,
    }
    opener = next((each for magic, each in opened.items() if start.startswith(magic)), None)
    with path.open("rb") as packed:
        source = opener(packed) if opener else packed
        meter = _Metered(source, packed if opener else None, archive, limits)
        with (
            _whole(archive, lambda: meter.member),
            tarfile.open(fileobj=meter, mode="r|", bufsize=2**16, tarinfo=_StrictInfo) as tar,  # type: ignore[call-overload]
        ):
            while (info := tar.next()) is not None:
                tar.members.clear()  # else it keeps every header it has seen
                meter.member = info.name
                _check_tar_member(archive, info, limits)
                name = _posix(archive, info.name)
                if info.isdir():
                    continue
                yield Member(archive=archive, name=name, size=info.size, read=_tar_reader(tar, info, archive))
            # The end of a compressed stream proves that it is whole; a plain tar has only its end marker.
            if opener is None and not getattr(tar, "ended", False):
                raise tarfile.ReadError("no end marker")
            while meter.read(2**16):  # to the end, for the checksum of the compressed stream
                pass


def _check_tar_member(archive: str, info: tarfile.TarInfo, limits: Limits) -> None:
    if info.issym() or info.islnk():
        kind = "symbolic" if info.issym() else "hard"
        raise ValueError(
            f"{archive}: member {info.name!r} is a {kind} link to {info.linkname!r};"
            " repack the archive with plain files"
        )
    if not (info.isreg() or info.isdir()):
        raise ValueError(
            f"{archive}: member {info.name!r} is a device or pipe; repack the archive with plain files"
        )
    if info.issparse():
        raise ValueError(f"{archive}: member {info.name!r} is sparse; repack the archive with plain files")
    _check_size(archive, info.name, info.size, limits)


def _tar_reader(tar: tarfile.TarFile, info: tarfile.TarInfo, archive: str) -> Callable[[], bytes]:
    def read() -> bytes:
        with _whole(archive, lambda: info.name):
            content = tar.extractfile(info)
            assert content is not None, "only plain files are read"
            return content.read()

    return read
