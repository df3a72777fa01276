"""The table that a person made from the top losses: examples to delete or to relabel."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.chunks import Chunk
from data.examples import Reject

COLUMNS = ("item_id", "action", "label")
ACTIONS = ("delete", "relabel")


class Corrections:
    """Corrections by item id; each must meet its item."""

    def __init__(self, rows: Mapping[str, tuple[int, str, str]], *, file: str) -> None:
        self.rows, self.file = rows, file
        self._names = pa.array(rows.keys(), pa.string())
        self._met: set[str] = set()
        self._applied: Counter[str] = Counter()

    def apply(self, chunk: Chunk) -> Chunk:
        """The examples as corrected, and the rejects of those that are deleted. An item that was rejected for
        another reason needs no correction, and its correction is not wrong."""
        self._met |= {reject.item_id for _, reject in chunk.rejects} & self.rows.keys()
        wanted = pc.is_in(chunk.rows["item_id"], value_set=self._names)
        hits = np.flatnonzero(wanted.to_numpy(zero_copy_only=False)).tolist()
        if not hits:
            return chunk
        labels = chunk.rows["label"].to_pylist()
        keep = np.ones(chunk.rows.num_rows, dtype=bool)
        deleted = []
        for row in hits:
            item_id = chunk.rows["item_id"][row].as_py()
            self._met.add(item_id)
            line, action, label = self.rows[item_id]
            self._applied[action] += 1
            if action == "delete":
                keep[row] = False
                deleted.append((row, Reject(item_id, "deleted by correction", f"{self.file}, line {line}")))
            else:
                labels[row] = label
        place = chunk.rows.schema.get_field_index("label")
        rows = chunk.rows.set_column(place, chunk.rows.schema.field(place), pa.array(labels, pa.string()))
        rejects = sorted([*chunk.rejects, *deleted], key=lambda each: each[0])  # stable: those before the row
        before = np.concatenate([[0], np.cumsum(keep)])
        return Chunk(
            rows=rows.filter(pa.array(keep)),
            rejects=tuple((int(before[row]), reject) for row, reject in rejects),
        )

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
