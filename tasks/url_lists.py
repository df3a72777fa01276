"""Pictures behind lists of addresses: fetched in parallel, every failure a row of the record.

The course's lesson 2 of 2019: one list per class, one address per line, most of the web is dead by now.
"""

import asyncio
import collections
import csv
import functools
import hashlib
import io
import re
import ssl
import tarfile
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin

import httpx
import tenacity
from PIL import Image, UnidentifiedImageError

from tasks.fetch import HELPED_BY_WAITING, transfer_bar

LARGEST = 32 * 2**20
"""Bytes of one picture at most; the address is given up beyond it."""
REDIRECTS = 5
"""Redirects followed per address."""
AHEAD = 4
"""Addresses asked for before the oldest answer is written, per worker: bounds the memory."""
UNDECODED = 50_000_000
"""Pixels above which a picture is not decoded to see whether it is whole; `clean` has its own limit."""

FORMATS = {
    "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "BMP": ".bmp",
    "TIFF": ".tif", "PPM": ".ppm",
}  # fmt: skip
"""Formats taken for pictures, with the suffix they are stored under."""
OPENERS = tuple(name for name in FORMATS if name != "MPO")
"""Decoders that may look at foreign bytes; MPO, several JPEGs in one file, is recognised by that of JPEG."""

STATUSES = (
    "ok", "http error", "not an image", "truncated image", "time limit", "redirect loop", "too large",
    "no connection", "no address", "empty answer",
)  # fmt: skip
"""What can become of an address: column `status` of `record.csv`."""


@dataclass(frozen=True)
class UrlList:
    """The addresses of one class, in the order of the list."""

    label: str
    addresses: tuple[str, ...]
    blank_lines: int


@dataclass(frozen=True)
class Row:
    """One row of `record.csv`: what became of one address."""

    address: str
    label: str
    status: str
    """One of STATUSES."""
    detail: str = ""
    bytes: int = 0
    sha256: str = ""
    name: str = ""
    """Name within `images.tar`; empty where nothing was stored."""


def read_lists(source: Path) -> list[UrlList]:
    """The lists of a zip or folder, sorted by class. ValueError for none, or two of one class."""
    lists: dict[str, UrlList] = {}
    for name, text in _list_files(source):
        # the course names its lists urls_black.csv, folders and labels black
        label = PurePosixPath(name).stem.removeprefix("urls_")
        if not label or label in lists:
            raise ValueError(f"{source.name}: {name} is a second list of class {label!r}; merge the two")
        lines = [_address_in(line) for line in text.splitlines()]
        lists[label] = UrlList(label, tuple(filter(None, lines)), lines.count(""))
    if not any(each.addresses for each in lists.values()):
        raise ValueError(
            f"{source.name} holds no list of addresses (one .csv or .txt per class, one per line)"
        )
    return [lists[label] for label in sorted(lists)]


def is_lists(source: Path) -> bool:
    """Whether a folder or zip of the user's holds lists and nothing else: each file opens with an address."""
    if not (source.is_dir() or zipfile.is_zipfile(source)):
        return False
    try:
        opening = [
            next(filter(None, map(_address_in, text.splitlines())), "") for _, text in _list_files(source)
        ]
    except ValueError:  # some other kind of file
        return False
    return any(opening) and all(_is_web(line) for line in opening if line)


def fetch_lists(
    lists: Sequence[UrlList],
    output: Path,
    *,
    base: str | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
    workers: int = 8,
    limit_per_class: int = 200,
) -> list[Row]:
    """Write `images.tar` (CLASS/00000001.jpg) and `record.csv` to `output`; returns the record's rows.

    `timeout` is the whole time for one address, with retries and however slowly it answers. Relative
    addresses are below `base`. The order is that of the lists, whichever answer comes first, so the same
    answers give the same bytes. A failure of one address is a row, never an exception.
    """
    wanted = [
        (each.label, number, address)
        for each in lists
        for number, address in enumerate(each.addresses[:limit_per_class], start=1)
    ]

    async def run() -> list[Row]:
        # names are looked up and pictures decoded in threads; asyncio's own few would make addresses wait
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * workers))
        rows = []
        with (
            tarfile.open(output / "images.tar", "w") as tar,
            transfer_bar("addresses", len(wanted), unit="") as bar,
        ):
            answers = _in_order(wanted, base, timeout=timeout, attempts=attempts, workers=workers)
            async for row, content in answers:
                if content:
                    member = tarfile.TarInfo(row.name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                rows.append(row)
                bar.update()
        return rows

    rows = asyncio.run(run())
    write_record(rows, output / "record.csv")
    return rows


def write_record(rows: Sequence[Row], path: Path) -> None:
    """The rows as CSV with the columns address, class, status, detail, bytes, sha256, name."""
    names = [field.name for field in fields(Row)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow("class" if name == "label" else name for name in names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on a loopback port; yields its address. The sample edition is fetched like any other."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _list_files(source: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every file; ValueError for one that is no text list."""
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
        named = [(path.relative_to(source).as_posix(), path.read_bytes) for path in files]
    else:
        try:
            archive = zipfile.ZipFile(source)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{source.name} is no whole zip of lists: {error}") from None
        named = [
            (info.filename, functools.partial(archive.read, info))
            for info in archive.infolist()
            if not info.is_dir() and not info.filename.startswith("__MACOSX/")
        ]
    for name, read in named:
        if PurePosixPath(name).suffix.lower() not in {".csv", ".txt"}:
            raise ValueError(f"{source.name}: {name} is no list of addresses (.csv or .txt)")
        try:
            yield name, read().decode("utf-8-sig")
        except (UnicodeDecodeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{source.name}: {name} cannot be read as text: {error}") from None


async def _in_order(
    wanted: Sequence[tuple[str, int, str]], base: str | None, *, timeout: float, attempts: int, workers: int
) -> AsyncIterator[tuple[Row, bytes]]:
    """Answers in the order of the lists; never more than AHEAD times `workers` of them in memory."""
    gate = asyncio.Semaphore(workers)
    direct: dict[str, httpx.AsyncBaseTransport | None] = {"all://127.0.0.1": None, "all://localhost": None}
    client = httpx.AsyncClient(
        timeout=timeout, follow_redirects=True, max_redirects=REDIRECTS, mounts=direct,
        limits=httpx.Limits(max_connections=workers, max_keepalive_connections=0),
    )  # fmt: skip

    async def one(label: str, number: int, address: str) -> tuple[Row, bytes]:
        async with gate:  # the time limit begins when its turn comes
            return await _ask(client, label, number, address, base, timeout=timeout, attempts=attempts)

    waiting: collections.deque[asyncio.Task[tuple[Row, bytes]]] = collections.deque()
    async with client:
        try:
            for each in wanted:
                waiting.append(asyncio.create_task(one(*each)))
                if len(waiting) >= AHEAD * workers:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def _ask(
    client: httpx.AsyncClient,
    label: str,
    number: int,
    address: str,
    base: str | None,
    *,
    timeout: float,
    attempts: int,
) -> tuple[Row, bytes]:
    """One address to one row. Details are fixed words, so that equal answers give equal records."""
    row = functools.partial(Row, address, label)
    target = address if base is None else urljoin(base, address)
    if not _is_web(target):
        return row("no address", "neither http:// nor https://"), b""
    try:
        async with asyncio.timeout(timeout):
            content = await _get(client, target, attempts, timeout)
    except TimeoutError:
        return row("time limit", f"no whole answer in {timeout:g} s"), b""
    except httpx.TimeoutException:
        return row("time limit", f"no whole answer in {timeout:g} s"), b""
    except httpx.TooManyRedirects:
        return row("redirect loop", f"more than {REDIRECTS} redirects"), b""
    except httpx.HTTPStatusError as error:
        response = error.response
        return row("http error", f"{response.status_code} {response.reason_phrase}".rstrip()), b""
    except _TooLarge:
        return row("too large", f"more than {LARGEST} bytes"), b""
    except httpx.RemoteProtocolError:
        return row("no connection", "the server broke off"), b""
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
        return row("no address", "malformed"), b""
    except (httpx.HTTPError, ssl.SSLError, OSError) as error:
        return row("no connection", _kind_of(error)), b""
    suffix, status, detail = await asyncio.to_thread(_look_at, content)
    if status != "ok":
        return row(status, detail, bytes=len(content)), b""
    digest = hashlib.sha256(content).hexdigest()
    return row("ok", bytes=len(content), sha256=digest, name=f"{label}/{number:08}{suffix}"), content


class _TooLarge(Exception):  # noqa: N818
    pass


async def _get(client: httpx.AsyncClient, address: str, attempts: int, timeout: float) -> bytes:
    """The body. Repeats what waiting may mend (overload, a broken connection), not a refusal."""
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(_may_mend),
        wait=tenacity.wait_exponential(multiplier=0.25, max=10) + tenacity.wait_random(0, 0.25),
        # the last answer is worth more than a time limit that ends a pause
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_before_delay(timeout),
        reraise=True,
    ):
        with attempt:
            async with client.stream("GET", address) as response:
                if response.is_error:
                    response.raise_for_status()
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > LARGEST:
                        raise _TooLarge
                return bytes(body)
    raise AssertionError("tenacity raises or returns")


def _may_mend(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in HELPED_BY_WAITING
    return isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)


def _look_at(content: bytes) -> tuple[str, str, str]:
    """Suffix, status and detail of a body: by its content, whatever type the server claims."""
    if not content:
        return "", "empty answer", ""
    try:
        with Image.open(io.BytesIO(content), formats=OPENERS) as image:
            suffix = FORMATS[image.format or "JPEG"]
            if image.width * image.height <= UNDECODED:
                image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return ".jpg", "ok", ""  # a picture, if a huge one: `clean` says so by its own limit
    except UnidentifiedImageError:
        text = content[:1024].lstrip().lower()
        is_html = re.match(rb"<(!doctype html|html|head|body|!--)", text)
        return "", "not an image", "HTML" if is_html else "unknown content"
    except Exception:  # decoders raise a dozen kinds on damaged bytes; none may stop the other addresses
        return "", "truncated image", "the picture ends early or is damaged"
    return suffix, "ok", ""


def _kind_of(error: BaseException) -> str:
    """Fixed words for why there was no connection: messages of the system hold addresses and vary."""
    reasons = []
    cause: BaseException | None = error
    while cause is not None:
        reasons.append(f"{type(cause).__name__} {cause}".lower())
        cause = cause.__cause__ or cause.__context__
    said = " ".join(reasons)
    for sign, words in (
        ("gaierror", "unknown host"),
        ("name or service", "unknown host"),
        ("refused", "refused"),
        ("connection attempts failed", "refused"),
        ("certificate", "certificate not valid"),
        ("ssl", "no secure connection"),
        ("reset", "the server broke off"),
    ):
        if sign in said:
            return words
    return "failed"


def _address_in(line: str) -> str:
    return line.strip().strip('"').strip()


def _is_web(address: str) -> bool:
    return re.match(r"https?://[^/\s]+", address) is not None
