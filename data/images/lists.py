"""Published lists of images, and how an image is found by any ending of its path."""

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from data.examples import Reject

MISSING = "listed, but not in the archive"


class Listed:
    """The images that a published list names."""

    def __init__(self, names: list[str], *, file: str) -> None:
        self.file = file
        self._names = names
        self._rows = {name: number for number, name in enumerate(names)}
        self._seen = np.zeros(len(names), dtype=bool)

    def find(self, path: str) -> bool:
        """Is the image, or an ending of its path, in the list? An extension may be left out there."""
        for key in (*endings(path), *endings(str(PurePosixPath(path).with_suffix("")))):
            if key in self._rows:
                self._seen[self._rows[key]] = True
                return True
        return False

    def missing(self) -> Iterator[Reject]:
        """A reject for every entry that was never found. ValueError where that is every one."""
        return never_found(self._names, self._seen, self.file)


def read_list(content: bytes, *, file: str) -> Listed:
    """A text file with one image a line; what follows a blank (as in the lists of pets) is passed over."""
    text = text_of(content, file)
    names = [line.split()[0].removeprefix("./") for line in text.splitlines() if line.strip()]
    names = [name for name in names if not name.startswith("#")]
    if not names:
        raise ValueError(f"{file} names no image")
    return Listed(list(dict.fromkeys(names)), file=file)


def never_found(names: list[str], seen: npt.NDArray[np.bool_], file: str) -> Iterator[Reject]:
    """A reject for each name that was never looked up. ValueError where that is every one."""
    if names and not seen.any():
        raise ValueError(
            f"no image fits a row of {file} (first row: {names[0]!r});"
            " look at clean.labels.name, clean.labels.suffix and clean.images"
        )
    for number in np.flatnonzero(~seen):
        yield Reject(names[number], MISSING, f"{file}, row {number + 1}")


def endings(path: str) -> list[str]:
    """The path and what is left of it without its first folders, longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def text_of(content: bytes, file: str) -> str:
    """A file as text, its mark left out. ValueError where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); save it as such"
        ) from None
