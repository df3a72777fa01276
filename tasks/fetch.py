"""One file from the first of several places that gives it whole: resumed, retried, held to its digest.

A download grows in `downloads/NAME-KEY.part` and survives `kill -9`; KEY stands for address and digest, so
the part of another file is never continued. The file is moved to its place only when it is whole.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import tenacity
from filelock import FileLock
from tqdm import tqdm

from tasks.mirrors import is_web, local
from tasks.sources import MIB, Digest, check
from tasks.versions import Version

CHUNK = MIB
PROGRESS = MIB
"""Bytes that an attempt must bring so that it does not count against the number of attempts."""
SLOWEST = 1000
"""Bytes a second, as a mean over the time limit, below which a server counts as silent."""
HELPED_BY_WAITING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed."""
SEEN = ".seen"
"""Ending of the note that stays of a whole download: which version of the file its place had."""
RESERVE = 16 * MIB
"""Free disk to leave untouched."""


class RefusedError(OSError):
    """A failure that no further attempt at this address can mend."""


class _PassingError(OSError):
    """A failure after which the same address may succeed."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is fetched, and how it is known."""

    name: str
    """Name for messages and for the unfinished part."""
    digest: Digest | None
    bytes: int | None = None
    """Size: checked before the transfer with `md5_first_mib`, else only to check the free disk."""

    def part(self, address: str, downloads: Path) -> Path:
        """Where the unfinished download from `address` lies."""
        key = hashlib.sha256(f"{address}\n{self.digest}\n{self.bytes}".encode()).hexdigest()[:12]
        return downloads / f"{self.name}-{key}.part"


def fetch(
    wanted: Wanted,
    locations: Sequence[str],
    target: Path,
    *,
    downloads: Path,
    root: Path,
    timeout: float = 30.0,
    attempts: int = 5,
) -> str:
    """Bring the file to `target` and return its sha256; tries `locations` in order.

    Locations are `http(s)://`, `file://` or paths (relative to `root`). `timeout`: seconds without a byte
    that end an attempt; `attempts`: fruitless attempts per address, with back-off between them. ValueError
    where a location gave other bytes than published (nothing of them is kept), OSError where none gave any,
    or the disk is too full.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    failures: list[Exception] = []
    for location in locations:
        part = wanted.part(location, downloads)
        with FileLock(part.with_suffix(".lock")):  # two applications may want the same source at once
            try:
                if is_web(location):
                    digest = _from_web(wanted, location, part, timeout=timeout, attempts=attempts)
                else:
                    digest = _from_disk(wanted, local(location, root), part)
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                failures.append(type(error)(f"{location}: {error}"))
                print(f"{wanted.name} not from {location}: {error}", file=sys.stderr)
                continue
            shutil.move(part, target)
            _note(part).replace(seen_note(wanted, location, downloads))  # what freshness compares with
            return digest
    message = f"{wanted.name} could not be fetched:\n" + "\n".join(f"  {each}" for each in failures)
    for kind in (ValueError, ConnectionError):  # wrong bytes first; a flow retries what only the network did
        if any(isinstance(each, kind) for each in failures):
            raise kind(message)
    raise OSError(message)


def require_space(folder: Path, needed: int, name: str) -> None:
    """OSError where `folder` has less than `needed` bytes free: better before a transfer than within it."""
    free = shutil.disk_usage(folder).free
    if needed + RESERVE > free:
        raise OSError(
            errno.ENOSPC,
            f"{name} needs {needed / 1e6:,.1f} MB more on disk, but {folder} has {free / 1e6:,.1f} MB free;"
            " make room and start again",
        )


@contextlib.contextmanager
def transfer_bar(name: str, total: int | None, initial: int = 0, unit: str = "B") -> Iterator[Any]:
    """A progress bar on stderr; where that is no terminal, a line every half minute."""
    terminal = sys.stderr.isatty()
    bar = tqdm(
        total=total, initial=initial, desc=name, unit=unit, unit_scale=unit == "B", unit_divisor=1000,
        mininterval=0.1 if terminal else 30, delay=0 if terminal else 30, ascii=not terminal, leave=True,
    )  # fmt: skip
    with bar:
        yield bar


def new_client(timeout: float, **settings: Any) -> httpx.Client:
    """An HTTP client; loopback is never asked of a proxy."""
    direct: dict[str, httpx.BaseTransport | None] = {"all://127.0.0.1": None, "all://localhost": None}
    return httpx.Client(timeout=timeout, follow_redirects=True, mounts=direct, **settings)


def version_at(location: str, *, root: Path, timeout: float) -> Version:
    """The version of a file that a place holds now; of a server only the head of its answer is read.

    OSError, which names the place, where it does not answer or refuses.
    """
    if not is_web(location):
        return Version.of_file(local(location, root))
    try:
        with (
            new_client(timeout) as client,
            client.stream("GET", location, headers={"Accept-Encoding": "identity"}) as response,
        ):
            _refuse_status(response)
            return Version.of_answer(response, _span(response)[1])
    except (httpx.HTTPError, httpx.InvalidURL, RefusedError, _PassingError) as error:
        raise ConnectionError(f"{location}: {str(error) or type(error).__name__}") from None


def first_mib_at(location: str, *, root: Path, timeout: float) -> bytes:
    """The first 2^20 bytes of a file, from a place as `version_at` takes it."""
    if not is_web(location):
        with local(location, root).open("rb") as file:
            return file.read(MIB)
    headers = {"Accept-Encoding": "identity", "Range": f"bytes=0-{MIB - 1}"}
    head = bytearray()
    try:
        with new_client(timeout) as client, client.stream("GET", location, headers=headers) as response:
            _refuse_status(response)
            for chunk in response.iter_raw():  # a server may ignore the range
                head += chunk
                if len(head) >= MIB:
                    break
    except httpx.HTTPError as error:
        raise ConnectionError(f"{location}: {str(error) or type(error).__name__}") from None
    return bytes(head[:MIB])


def seen_note(wanted: Wanted, location: str, downloads: Path) -> Path:
    """Where the version is noted that the last whole download from `location` brought."""
    return wanted.part(location, downloads).with_suffix(SEEN)


def _from_disk(wanted: Wanted, path: Path, part: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    size = path.stat().st_size
    _refuse_size(wanted, size)
    require_space(part.parent, size, wanted.name)
    with (
        _naming_disk(wanted, part),
        path.open("rb") as source,
        part.open("wb") as file,
        transfer_bar(wanted.name, size) as bar,
    ):
        _write_note(part, str(path), Version.of_file(path))
        while chunk := source.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    return _checked(wanted, part)


def _from_web(wanted: Wanted, address: str, part: Path, *, timeout: float, attempts: int) -> str:
    """The sha256 of the whole file; a continued part that proves wrong is fetched once more from its start.

    A server without ETag and date may have changed the file between two runs.
    """
    continued = _continuable(part)[0] > 0
    _repeat_attempts(wanted, address, part, timeout=timeout, attempts=attempts)
    try:
        return _checked(wanted, part)
    except ValueError:
        if not continued:
            raise
    _repeat_attempts(wanted, address, part, timeout=timeout, attempts=attempts)
    return _checked(wanted, part)


def _repeat_attempts(wanted: Wanted, address: str, part: Path, *, timeout: float, attempts: int) -> None:
    """Attempts at one address; one that brought a good deal starts the count anew."""
    state = {"fruitless": 0, "size": _size(part)}

    def enough(call: tenacity.RetryCallState) -> bool:
        gained = _size(part) - state["size"]
        state["size"] = _size(part)
        state["fruitless"] = 0 if gained >= PROGRESS else state["fruitless"] + 1
        return state["fruitless"] >= attempts

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((_PassingError, httpx.TransportError)),
        wait=tenacity.wait_exponential(multiplier=0.25, max=30) + tenacity.wait_random(0, 0.25),
        stop=enough,
        reraise=True,
    )
    try:
        with new_client(timeout) as client:
            retrying(_attempt, wanted, address, part, client=client, timeout=timeout)
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        raise ConnectionError(f"{said} (after {state['fruitless']} attempts; what came is kept)") from None
    except httpx.InvalidURL as error:
        raise ValueError(f"is no address: {error}") from None


def _attempt(wanted: Wanted, address: str, part: Path, *, client: httpx.Client, timeout: float) -> None:
    """One request that continues `part` where the server still has the same file, else starts it anew."""
    have, note = _continuable(part)
    headers = {"Accept-Encoding": "identity"}  # a range counts the bytes as published
    if have:
        headers["Range"] = f"bytes={have}-"
        if note.validator:
            headers["If-Range"] = note.validator
    with client.stream("GET", address, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            if have == note.total:  # stopped between the last byte and the move
                return
            _forget(part)
            raise _PassingError("the server has another file than the part was fetched from; starting again")
        _refuse_status(response)
        start, total = _span(response)
        if response.status_code == httpx.codes.PARTIAL_CONTENT and (start != have or total != note.total):
            _forget(part)
            raise _PassingError("the server answered with another range than asked for; starting again")
        _refuse_size(wanted, total)
        size = total or wanted.bytes
        if size:
            require_space(part.parent, size - start, wanted.name)
        if not start:
            # the old part goes before the new note comes, so that they never belong to different files
            part.unlink(missing_ok=True)
            _write_note(part, address, Version.of_answer(response, total))
        with _naming_disk(wanted, part), part.open("ab") as file:
            _pour(response, file, wanted.name, start, size, timeout)
        if total is not None and _size(part) != total:
            raise _PassingError(f"the connection ended after {_size(part):,} of {total:,} bytes")


def _pour(
    response: httpx.Response, file: BinaryIO, name: str, start: int, size: int | None, timeout: float
) -> None:
    """Append the body; a server slower than SLOWEST over a whole time limit counts as silent."""
    began, counted = time.monotonic(), 0
    with transfer_bar(name, size, start) as bar:
        for chunk in response.iter_raw():
            file.write(chunk)
            bar.update(len(chunk))
            counted += len(chunk)
            if (passed := time.monotonic() - began) > timeout:
                if counted < SLOWEST * passed:
                    raise _PassingError(f"the server sent only {counted:,} bytes in {passed:.0f} s")
                began, counted = time.monotonic(), 0


def _span(response: httpx.Response) -> tuple[int, int | None]:
    """First byte of the answer within the file, and the file's size where the server says it."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        try:
            unit, rest = response.headers["Content-Range"].split()
            span, total = rest.split("/")
            if unit == "bytes":
                return int(span.split("-")[0]), None if total == "*" else int(total)
        except (KeyError, ValueError):
            pass
        return -1, None
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _refuse_status(response: httpx.Response) -> None:
    if response.is_success:
        return
    said = f"the server answers {response.status_code} {response.reason_phrase}".rstrip()
    raise (_PassingError if response.status_code in HELPED_BY_WAITING else RefusedError)(said)


def _refuse_size(wanted: Wanted, total: int | None) -> None:
    if wanted.digest and wanted.digest.md5_first_mib and total not in (None, wanted.bytes):
        raise ValueError(
            f"{wanted.name} is not the published file: bytes expected {wanted.bytes}, got {total}"
        )


def _checked(wanted: Wanted, part: Path) -> str:
    try:
        return check(part, wanted.name, wanted.digest, wanted.bytes)
    except ValueError:
        _forget(part)
        raise


def _continuable(part: Path) -> tuple[int, Version]:
    """Bytes to continue from and the version that they come from; 0 where that is unclear."""
    version = Version.read(_note(part))
    return (_size(part), version) if version else (0, Version())


def _write_note(part: Path, location: str, version: Version) -> None:
    fresh = _note(part).with_suffix(".new")
    version.write(fresh, location)
    fresh.replace(_note(part))


@contextlib.contextmanager
def _naming_disk(wanted: Wanted, part: Path) -> Iterator[None]:
    """A full disk within the transfer says which file, and that the part is kept."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                error.errno,
                f"{os.strerror(error.errno)} while writing {wanted.name} to {part};"
                " make room and start again, what came is kept",
            ) from None
        raise


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note(part: Path) -> Path:
    return part.with_suffix(".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
