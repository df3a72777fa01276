"""The table that a person made from the top losses: examples to delete or to relabel."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.examples import Reject

COLUMNS = ("item_id", "action", "label")
ACTIONS = ("delete", "relabel")


class Corrections:
    """Corrections by item id; each must meet its item."""

    def __init__(self, rows: Mapping[str, tuple[int, str, str]], *, file: str) -> None:
        self.rows, self.file = rows, file
        self._met: set[str] = set()
        self._applied: Counter[str] = Counter()

    def apply(self, row: Mapping[str, Any]) -> Mapping[str, Any] | Reject:
        """The example as corrected, or its reject."""
        item_id = row["item_id"]
        if item_id not in self.rows:
            return row
        self._met.add(item_id)
        line, action, label = self.rows[item_id]
        self._applied[action] += 1
        if action == "delete":
            return Reject(item_id, "deleted by correction", f"{self.file}, line {line}")
        return {**row, "label": label}

    def met(self, item_id: str) -> None:
        """Note an item that was rejected for another reason: no correction is needed, none is wrong."""
        if item_id in self.rows:
            self._met.add(item_id)

    def all_used(self) -> None:
        """ValueError naming the first correction of an item that does not exist."""
        for item_id, (line, _, _) in self.rows.items():
            if item_id not in self._met:
                raise ValueError(
                    f"{self.file}, line {line}: there is no item {item_id!r}; item_id is the name inside the"
                    " archive, as in clean/items-*.parquet"
                )

    def counts(self) -> dict[str, int]:
        """Examples that each action changed."""
        return {action: self._applied[action] for action in ACTIONS}


def read_corrections(path: Path) -> Corrections:
    """Read `item_id,action,label` (other columns are passed over); an empty file holds none, and a row
    without an action, as `evaluate` writes its candidates, changes nothing.

    ValueError naming the file and the line: a missing column, an unknown action, a relabel without label,
    an item named twice, a file that does not exist.
    """
    if not path.is_file():
        raise ValueError(f"corrections: {path} does not exist; `sources/none` stands for none")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if not text.strip():
        return Corrections({}, file=path.name)
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    for column in COLUMNS:
        if column not in (reader.fieldnames or ()):
            raise ValueError(
                f"{path.name} has no column {column!r}; its first line must name {','.join(COLUMNS)}"
            )
    rows: dict[str, tuple[int, str, str]] = {}
    for row in reader:
        line = reader.line_num
        item_id, action, label = ((row[column] or "").strip() for column in COLUMNS)
        if not action:  # a candidate of evaluate/corrections.csv that nobody has judged
            continue
        if action not in ACTIONS:
            raise ValueError(f"{path.name}, line {line}: action {action!r} is neither delete nor relabel")
        if not item_id:
            raise ValueError(f"{path.name}, line {line}: item_id is empty")
        if action == "relabel" and not label:
            raise ValueError(f"{path.name}, line {line}: relabel of {item_id!r} needs a label")
        if item_id in rows:
            raise ValueError(
                f"{path.name}, line {line}: {item_id!r} stands in line {rows[item_id][0]} already"
            )
        rows[item_id] = (line, action, label)
    return Corrections(rows, file=path.name)
