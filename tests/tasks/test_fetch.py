"""One file over real HTTP: resumed, retried, checked; and nothing half-written is ever taken for whole."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.fetch import Wanted, fetch
from tasks.sources import Digest
from tests import servers

CONTENT = random.Random(7).randbytes(3 * 2**20 + 11)
SHA = hashlib.sha256(CONTENT).hexdigest()
WANTED = Wanted(name="data.tgz", digest=Digest(sha256=SHA), bytes=len(CONTENT))
ROOT = Path(__file__).resolve().parents[2]


def fetched(
    folder: Path, *locations: str, wanted: Wanted = WANTED, timeout: float = 5, attempts: int = 3
) -> str:
    return fetch(
        wanted, locations, folder / "whole", downloads=folder / "downloads", root=folder,
        timeout=timeout, attempts=attempts,
    )  # fmt: skip


def unfinished(folder: Path) -> list[Path]:
    return sorted((folder / "downloads").glob("*.part"))


def test_whole_file(tmp_path: Path, server: servers.Server) -> None:
    server.answers["/data"] = servers.whole(CONTENT)
    assert fetched(tmp_path, server.address("/data")) == SHA
    assert (tmp_path / "whole").read_bytes() == CONTENT
    assert not unfinished(tmp_path)


def test_broken_connection_is_continued_by_range(tmp_path: Path, server: servers.Server) -> None:
    server.answers["/data"] = servers.breaking(CONTENT, 2_000_000, times=1)
    assert fetched(tmp_path, server.address("/data")) == SHA
    assert server.asked("/data") == ["", "bytes=2000000-"]


def test_attempts_that_bring_bytes_do_not_count(tmp_path: Path, server: servers.Server) -> None:
    """Three breaks, each after more than a MiB, with one fruitless attempt allowed."""
    pieces = [1_100_000, 2_200_000, 3_140_000]

    def answer(request: object) -> None:
        until = pieces.pop(0) if pieces else len(CONTENT)
        servers._send(request, CONTENT, until)  # type: ignore[arg-type]
        request.close_connection = True  # type: ignore[attr-defined]

    server.answers["/data"] = answer
    # the last break brings less than a MiB, so two fruitless attempts must be allowed
    assert fetched(tmp_path, server.address("/data"), attempts=2) == SHA
    assert server.asked("/data") == ["", "bytes=1100000-", "bytes=2200000-", "bytes=3140000-"]


def test_server_that_ignores_ranges(tmp_path: Path, server: servers.Server) -> None:
    server.answers["/data"] = servers.breaking(CONTENT, 2_000_000, times=1, ranges=False)
    assert fetched(tmp_path, server.address("/data")) == SHA
    assert server.asked("/data") == ["", "bytes=2000000-"]


def test_part_of_a_file_that_has_changed_is_dropped(tmp_path: Path, server: servers.Server) -> None:
    """The server holds another file after the break: its tag differs, so it sends all of it."""
    old = bytes(len(CONTENT))
    server.answers["/data"] = servers.breaking(old, 2_000_000, times=9)
    with pytest.raises(OSError, match="could not be fetched"):
        fetched(tmp_path, server.address("/data"), attempts=1)
    assert [part.stat().st_size for part in unfinished(tmp_path)] == [2_000_000]
    server.answers["/data"] = servers.whole(CONTENT)
    assert fetched(tmp_path, server.address("/data")) == SHA


def test_changed_file_without_tag_is_found_by_the_digest(tmp_path: Path, server: servers.Server) -> None:
    old = bytes(len(CONTENT))

    def breaks(request: object) -> None:
        servers._send(request, old, 900_000, tag=False)  # type: ignore[arg-type]
        request.close_connection = True  # type: ignore[attr-defined]

    server.answers["/data"] = breaks
    with pytest.raises(OSError, match="could not be fetched"):
        fetched(tmp_path, server.address("/data"), attempts=1)
    server.answers["/data"] = servers.whole(CONTENT, tag=False)
    assert fetched(tmp_path, server.address("/data")) == SHA
    assert server.asked("/data") == ["", "bytes=900000-", ""]


def test_part_of_another_digest_is_not_continued(tmp_path: Path, server: servers.Server) -> None:
    other = Wanted(name="data.tgz", digest=Digest(sha256="0" * 64), bytes=len(CONTENT))
    server.answers["/data"] = servers.breaking(CONTENT, 900_000, times=1)
    with pytest.raises(OSError, match="could not be fetched"):
        fetched(tmp_path, server.address("/data"), wanted=other, attempts=1)
    assert fetched(tmp_path, server.address("/data")) == SHA
    assert server.asked("/data") == ["", ""]


def test_killed_process_continues(tmp_path: Path, server: servers.Server) -> None:
    """SIGKILL in the middle of the body; the same command asks for the rest only."""
    server.answers["/data"] = servers.whole(CONTENT, pause=0.05)
    program = (
        "import sys; from pathlib import Path; from tasks.fetch import *; from tasks.sources import Digest\n"
        "folder, address, sha = Path(sys.argv[1]), *sys.argv[2:]\n"
        "fetch(Wanted(name='data.tgz', digest=Digest(sha256=sha), bytes=3145739), [address],"
        " folder / 'whole', downloads=folder / 'downloads', root=folder)"
    )
    command = [sys.executable, "-c", program, str(tmp_path), server.address("/data"), SHA]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and sum(part.stat().st_size for part in unfinished(tmp_path)) < 500_000:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "whole").exists()
    (part,) = unfinished(tmp_path)
    have = part.stat().st_size
    assert 500_000 <= have < len(CONTENT)
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    assert server.asked("/data") == ["", f"bytes={have}-"]
    assert (tmp_path / "whole").read_bytes() == CONTENT


def test_complete_part_needs_no_byte(tmp_path: Path, server: servers.Server) -> None:
    """Stopped between the last byte and the move: the server says 416, the digest decides."""
    server.answers["/data"] = servers.breaking(CONTENT, 900_000)
    with pytest.raises(OSError, match="could not be fetched"):
        fetched(tmp_path, server.address("/data"), attempts=1)
    (part,) = unfinished(tmp_path)
    part.write_bytes(CONTENT)
    assert fetched(tmp_path, server.address("/data")) == SHA


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (410, 1), (503, 3), (429, 3)])
def test_only_what_waiting_mends_is_tried_again(
    tmp_path: Path, server: servers.Server, code: int, requests: int
) -> None:
    server.answers["/data"] = servers.status(code)
    with pytest.raises(OSError, match=f"data.tgz could not be fetched:\n.*answers {code}"):
        fetched(tmp_path, server.address("/data"))
    assert len(server.requests) == requests


def test_overloaded_server_then_well(tmp_path: Path, server: servers.Server) -> None:
    server.answers["/data"] = servers.status(503, times=2, then=servers.whole(CONTENT))
    assert fetched(tmp_path, server.address("/data")) == SHA


def test_next_address_then_folder(tmp_path: Path, server: servers.Server) -> None:
    """A dead address, one with other bytes, then a file:// address that holds the file."""
    server.answers["/other"] = servers.whole(b"other" * 1000)
    (tmp_path / "mirror dir").mkdir()
    (tmp_path / "mirror dir" / "data.tgz").write_bytes(CONTENT)
    last = (tmp_path / "mirror dir" / "data.tgz").as_uri()
    assert "%20" in last
    assert fetched(tmp_path, server.address("/gone"), server.address("/other"), last) == SHA
    assert not unfinished(tmp_path)


def test_wrong_digest_names_both_and_keeps_nothing(tmp_path: Path, server: servers.Server) -> None:
    wrong = bytes(len(CONTENT))
    server.answers["/data"] = servers.whole(wrong)
    with pytest.raises(ValueError, match=r"data.tgz is not the published file") as error:
        fetched(tmp_path, server.address("/data"))
    assert SHA in str(error.value)
    assert hashlib.sha256(wrong).hexdigest() in str(error.value)
    assert not (tmp_path / "whole").exists()
    assert not unfinished(tmp_path)


def test_wrong_size_is_refused_before_the_body(tmp_path: Path, server: servers.Server) -> None:
    server.answers["/data"] = servers.whole(CONTENT)
    wanted = Wanted(name="data.tgz", digest=Digest(md5_first_mib="0" * 32), bytes=5)
    with pytest.raises(ValueError, match=f"bytes expected 5, got {len(CONTENT)}"):
        fetched(tmp_path, server.address("/data"), wanted=wanted)
    assert not unfinished(tmp_path)


def test_silent_and_trickling_servers_end(tmp_path: Path, server: servers.Server) -> None:
    server.answers["/silent"] = servers.silence(server)
    server.answers["/slow"] = servers.trickle(server, CONTENT)
    # Without a limit the second would take days: a byte every tenth of a second.
    with pytest.raises(OSError, match="could not be fetched"):
        fetched(tmp_path, server.address("/silent"), server.address("/slow"), timeout=0.5, attempts=1)


def test_redirects(tmp_path: Path, server: servers.Server) -> None:
    server.answers["/data"] = servers.whole(CONTENT)
    server.answers["/moved"] = servers.redirect("/data")
    server.answers["/loop"] = servers.redirect("/loop")
    assert fetched(tmp_path, server.address("/moved")) == SHA
    with pytest.raises(OSError, match="redirect"):
        fetched(tmp_path, server.address("/loop"))


def test_too_little_disk_is_said_before(tmp_path: Path, server: servers.Server) -> None:
    """A size that no disk here has: refused before the first byte of the body."""
    server.answers["/data"] = servers.whole(CONTENT, tag=False)
    huge = Wanted(name="data.tgz", digest=Digest(sha256=SHA), bytes=10**17)
    server.answers["/endless"] = lambda request: (
        request.send_response(200),
        request.send_header("Content-Length", str(10**17)),
        request.end_headers(),
    )[0]
    with pytest.raises(OSError, match=r"data.tgz needs 100,000,000,0.* MB more on disk"):
        fetched(tmp_path, server.address("/endless"), wanted=huge)
    assert not unfinished(tmp_path)


FULL = """
import resource, signal, sys
from pathlib import Path
from tasks.fetch import *
from tasks.sources import Digest
folder, address, sha = Path(sys.argv[1]), *sys.argv[2:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    fetch(Wanted(name='data.tgz', digest=Digest(sha256=sha), bytes=3145739), [address], folder / 'whole',
          downloads=folder / 'downloads', root=folder)
except OSError as error:
    sys.exit(f"refused: {error}")
"""


def test_disk_that_fills_up_within_the_transfer(tmp_path: Path, server: servers.Server) -> None:
    """The system refuses bytes after the second megabyte; with room again, the rest is fetched."""
    server.answers["/data"] = servers.whole(CONTENT)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), server.address("/data"), SHA],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "while writing data.tgz" in done.stderr
    assert "make room and start again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "whole").exists()
    assert fetched(tmp_path, server.address("/data")) == SHA
    assert server.asked("/data") == ["", "bytes=2000000-"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_of_its_own(tmp_path: Path, server: servers.Server) -> None:
    """A real disk of 18 MB that says so before the transfer."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=18m", "none", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        server.answers["/data"] = servers.whole(CONTENT)
        with pytest.raises(OSError, match=r"data.tgz needs 3.1 MB more on disk, but .* has 18.* MB free"):
            fetched(small, server.address("/data"))
        assert not (small / "whole").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)
