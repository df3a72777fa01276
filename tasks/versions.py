"""Which version of a file does a place hold? What its server or disk says, without fetching the file."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx


@dataclass(frozen=True, kw_only=True)
class Version:
    """How to tell a version of a file from another one."""

    validator: str = ""
    """Strong ETag or date of the last change, as If-Range takes it; of a file on disk its time of change."""
    total: int | None = None
    """Bytes of the whole file; None where the server does not say."""
    sure: bool = False
    """Whether another content must have another validator: not of dates within the second of the answer, in
    which the file may change once more (RFC 9110, 8.8.2.2)."""

    @staticmethod
    def of_answer(response: httpx.Response, total: int | None) -> "Version":
        """The version that a server has just given, or is about to give."""
        etag = response.headers.get("ETag", "")
        changed = response.headers.get("Last-Modified", "")
        if etag and not etag.startswith("W/"):
            return Version(validator=etag, total=total, sure=True)
        # a weak tag does not promise equal bytes, and servers ignore it in If-Range (RFC 9110, 13.1.5)
        then, now = _date(changed), _date(response.headers.get("Date", ""))
        return Version(validator=changed, total=total, sure=bool(then and now and then < now))

    @staticmethod
    def of_file(path: Path) -> "Version":
        """The version that lies on a disk."""
        status = path.stat()
        return Version(validator=str(status.st_mtime_ns), total=status.st_size, sure=True)

    @staticmethod
    def read(path: Path) -> "Version | None":
        """What `write` left; None where nothing whole lies there."""
        try:
            note = json.loads(path.read_text())
            return Version(validator=note["validator"], total=note["total"], sure=note.get("sure", False))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, path: Path, location: str) -> None:
        """Keep it beside the download, with the place for people."""
        path.write_text(json.dumps({"location": location, **asdict(self)}))

    def same(self, other: "Version | None") -> bool:
        """Whether both are surely one version."""
        return self.sure and self == other


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
