"""One entry of `dvc.lock`, at a cost that does not grow with the others.

DVC parses the whole file with its slow parser, which keeps comments, and writes all of it anew. Here the
lines of one entry are read alone, or take the place of those that stood there, and everything else stays,
byte by byte.
"""

from pathlib import Path
from typing import Any

HEAD = ["schema: '2.0'\n", "stages:\n"]
"""How every lock file begins that DVC has written."""


def write_entry(repo: Any, stage: Any) -> None:
    """Put what a stage has recorded of itself into `dvc.lock`, as DVC would; in place or at the end.

    Into a copy that becomes `dvc.lock` when whole: a kill must not leave half. A file that is not laid out as
    DVC writes it is left to DVC.
    """
    from dvc.dvcfile import LOCK_FILE, Lockfile

    final, copy = Path(repo.root_dir) / LOCK_FILE, Path(repo.tmp_dir) / LOCK_FILE
    text = final.read_text(encoding="utf-8") if final.exists() else ""
    replaced = with_entry(text, entry_lines(stage))
    copy.write_text(text if replaced is None else replaced, encoding="utf-8")
    if replaced is None:
        if not text:
            copy.unlink()
        Lockfile(repo, str(copy)).dump(stage)
    copy.replace(final)


def entry_lines(stage: Any) -> list[str]:
    """The lines of a stage below `stages:`, as DVC lays them out; the first holds its name."""
    from dvc.stage.serialize import to_lockfile
    from dvc.utils.serialize import dumps_yaml

    text: str = dumps_yaml({"stages": to_lockfile(stage)})
    return text.splitlines(keepends=True)[1:]


def recorded_digest(root: Path, name: str) -> str | None:
    """DVC's hash of the first output of a stage as it was recorded last; None where nothing is."""
    import yaml

    file = root / "dvc.lock"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    begin, end = _span(lines, f"  {name}:\n")
    entry = yaml.safe_load("".join(lines[begin:end])) or {name: {}}
    outs = entry[name].get("outs") or [{}]
    digest = outs[0].get("md5")
    return None if digest is None else str(digest)


def with_entry(text: str, entry: list[str]) -> str | None:
    """The text of a lock file with that entry; None where it is not laid out as DVC writes it."""
    lines = text.splitlines(keepends=True)
    below = lines[len(HEAD) :]
    if lines[: len(HEAD)] != HEAD or not text.endswith("\n") or any(line[:2] != "  " for line in below):
        return None
    begin, end = _span(below, entry[0])
    return "".join([*HEAD, *below[:begin], *entry, *below[end:]])


def _span(lines: list[str], first: str) -> tuple[int, int]:
    """Where the entry is that begins with the line `first`: up to the next line that is as far to the left.

    Behind the last line where there is none.
    """
    begin = lines.index(first) if first in lines else len(lines)
    end = next((number for number in range(begin + 1, len(lines)) if lines[number][:3] != "   "), len(lines))
    return begin, end
