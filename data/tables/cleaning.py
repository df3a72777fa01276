"""A table as published to rows whose cells have types, and a reason for every row that is left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from data.archives import Raw
from data.examples import INDEX, PARTS, Reject
from data.tables.joins import derived, join_tables, side_table
from data.tables.prepare import (
    as_dates,
    as_numbers,
    as_texts,
    date_parts,
    nearest,
    part_names,
)
from data.tables.reading import Table, only_table, read_tables
from data.tables.settings import ClassCleaning, NumberCleaning, TableCleaning

SURE = 0.9
"""Share of a column's cells that must be numbers where the block does not say what the column holds."""

NAMES = ("Month", "Dayofweek", "Is_month_end", "Is_month_start")
"""Parts of a date that are names, where the block does not say; the others are quantities."""

CHUNK = 2**16
"""Rows that become Python objects at once."""


def table_schema() -> pa.Schema:
    """Columns of a row: its cells by kind, and what the cells are called.

    `columns` is JSON: `categories` and `numbers` (names, in the order of the cells), `dates` (with one as
    published), `missing`, `decimal` and `date_format`: all that turns a user's row into the same cells.
    """
    return pa.schema(
        [
            *INDEX,
            pa.field("columns", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("categories", pa.list_(pa.string()), nullable=False),  # null: missing
            pa.field("numbers", pa.list_(pa.float64()), nullable=False),  # null: missing
            pa.field("target", pa.float64()),  # where the target is a quantity
        ]
    )


def clean_classes(raw: Raw, block: ClassCleaning) -> Iterator[dict[str, Any] | Reject]:
    """Rows of `table_schema` with their target in `label`, and rejects, in the order of the file.

    Reasons: `ragged row`, `no partner` (in a side table), `no target`, `unknown target`, `not a number`, `not
    a date`, `not above the bound`, `no id`, `unknown part`. ValueError where the table as a whole is of no
    use: empty, no text, without a column that the block names.
    """
    rows = _Rows(raw, block)
    target = as_texts(rows.column(block.target), block.missing)
    labels = np.array([block.relabel.get(text, text) for text in target], dtype=object)
    if block.classes:
        rows.leave_out(~np.isin(labels.astype(str), (*block.classes, "None")), "unknown target", block.target)
    yield from rows.finish(labels=labels, missing=np.array([label is None for label in labels], dtype=bool))


def clean_numbers(raw: Raw, block: NumberCleaning) -> Iterator[dict[str, Any] | Reject]:
    """The same with the target as a quantity in `target`, and no label."""
    rows = _Rows(raw, block)
    target, wrong = as_numbers(rows.column(block.target), block.missing, decimal=block.decimal)
    rows.leave_out(wrong, "not a number", block.target)
    yield from rows.finish(target=target, missing=np.isnan(target) & ~wrong)


class _Rows:
    """The joined table, and the reason against each row that has one: the first that is found counts."""

    def __init__(self, raw: Raw, block: TableCleaning) -> None:
        self.block = block
        name = block.table or only_table(raw)
        sides = list(dict.fromkeys(join.table for join in block.joins))
        tables = read_tables(raw, [name, *sides], delimiter=block.delimiter, encoding=block.encoding)
        self.table: Table = tables[name]
        self.rows = self.table.rows
        self.reasons: NDArray[Any] = np.full(len(self.rows), None, dtype=object)
        self.details: dict[int, str] = {}
        for column in (block.target, block.id, block.group, block.time, block.part):
            if column:
                self.column(column)
        if block.time:
            self.leave_out(self._dates(block.time)[1], "not a date", block.time)
        for join in block.joins:
            side = side_table(tables[join.table].rows, join, block.missing)
            self.rows, lonely = join_tables(self.rows, side, join, block)
            if join.required:
                self.leave_out(lonely, "no partner", *join.keys, *join.asof, side=join.table)
        self.times = self._dates(block.time)[0] if block.time else None
        self.rows = derived(self.rows, block, self.times)
        self.categories, self.numbers = self._kinds()

    def column(self, name: str) -> pd.Series[Any]:
        """A column. ValueError names the file, the column and the nearest one."""
        if name not in self.rows.columns:
            raise ValueError(
                f"{self.table.file} has no column {name!r}{nearest(name, list(self.rows.columns))}"
            )
        return self.rows[name]

    def leave_out(self, wrong: NDArray[np.bool_], reason: str, *columns: str, side: str = "") -> None:
        """Note the reason against the rows that have none yet."""
        for row in np.flatnonzero(wrong & pd.isna(self.reasons)):
            self.reasons[row] = reason
            cells = ", ".join(f"{name} {self._cell(name, row)!r}" for name in columns)
            self.details[int(row)] = cells + (f" is not in {side}" if side else "")

    def finish(
        self, *, missing: NDArray[np.bool_], labels: NDArray[Any] | None = None,
        target: NDArray[np.float64] | None = None,
    ) -> Iterator[dict[str, Any] | Reject]:  # fmt: skip
        """All rows, or what speaks against them; `missing`: where the target is."""
        block = self.block
        if block.without_target == "reject":
            self.leave_out(missing, "no target", block.target)
        for name, bound in block.above.items():
            values, wrong = as_numbers(self.column(name), block.missing, decimal=block.decimal)
            self.leave_out(wrong, "not a number", name)
            with np.errstate(invalid="ignore"):
                self.leave_out(values <= bound, "not above the bound", name)
        numbers = self._numbers()
        ids = as_texts(self.rows[block.id], ()) if block.id else self._numbered()
        self.leave_out(np.array([each in (None, "") for each in ids]), "no id", block.id or "row")
        groups = as_texts(self.rows[block.group], block.missing) if block.group else None
        parts = self._parts(missing)
        texts = {name: as_texts(self.rows[name], block.missing) for name in self.categories}
        for reject in self.table.ragged:
            yield Reject(
                self._name(reject.row), "ragged row",
                f"{self.table.file}, row {reject.row}: {reject.found} cells, the header has {reject.expected}"
                f": {reject.text[:80]!r}",
            )  # fmt: skip
        described = self._described()
        times: Any = None if self.times is None else self.times.array
        for start in range(0, len(self.rows), CHUNK):
            here = slice(start, start + CHUNK)
            cells = list(zip(*(column[here] for column in texts.values()), strict=True)) or None
            listed: list[list[Any]] = []
            if numbers:
                floats = np.stack([column[here] for column in numbers], axis=1)
                gaps: Any = np.isnan(floats)
                listed = np.where(gaps, np.array(None, dtype=object), floats.astype(object)).tolist()
            for place in range(len(self.rows[here])):
                row = start + place
                item_id = str(ids[row] or self._name(int(self.table.numbers[row])))
                if self.reasons[row] is not None:
                    yield Reject(item_id, self.reasons[row], self._where(row))
                    continue
                names = list(cells[place]) if cells else []
                quantities = listed[place] if listed else []
                label = None if labels is None else labels[row]
                aim = None if target is None or np.isnan(target[row]) else float(target[row])
                yield {
                    "item_id": item_id,
                    "label": label,
                    "part": parts[row],
                    "group": None if groups is None else groups[row],
                    "time": None if times is None else times[row].to_pydatetime(),
                    "digest": _digest(item_id, names, quantities, label, aim),
                    "columns": described,
                    "categories": names,
                    "numbers": quantities,
                    "target": aim,
                }

    def _kinds(self) -> tuple[list[str], list[str]]:
        """Names of the columns that hold names, and of those that hold quantities; dates become their
        parts."""
        block = self.block
        made: dict[Any, pd.Series[Any]] = {}
        for name in block.dates:
            dates, wrong = self._dates(name)
            self.leave_out(wrong, "not a date", name)
            for part, values in date_parts(dates, name).items():
                made[part] = values.set_axis(self.rows.index)
        self.rows = self.rows.assign(**{name: made[name] for name in made if name not in self.rows.columns})
        if block.categories or block.numbers:
            for name in (*block.categories, *block.numbers):
                self.column(name)
            return list(block.categories), list(block.numbers)
        for name in block.drop:
            self.column(name)
        used = {block.target, block.id, block.group, block.part, *block.dates, *block.drop}
        used |= {block.time} if block.time not in block.dates else set()
        parts = {column: part for name in block.dates for part, column in part_names(name).items()}
        categories: list[str] = []
        numbers: list[str] = []
        for name in self.rows.columns:
            if name not in used:
                is_name = parts[name] in NAMES if name in parts else self._holds_names(name)
                (categories if is_name else numbers).append(name)
        if not categories and not numbers:
            raise ValueError(f"{self.table.file} has no column beside the target that could be learned from")
        return categories, numbers

    def _holds_names(self, name: str) -> bool:
        values, wrong = as_numbers(self.rows[name], self.block.missing, decimal=self.block.decimal)
        there = int((~np.isnan(values)).sum() + wrong.sum())
        if there and wrong.sum() <= (1 - SURE) * there:
            return False
        distinct = self.rows[name].nunique()
        if distinct > max(100, len(self.rows) // 2):
            raise ValueError(
                f"{self.table.file}: column {name!r} holds {distinct} texts in {len(self.rows)} rows;"
                " name it in clean.id, clean.dates or clean.drop, or list the columns in clean.categories"
            )
        return True

    def _numbers(self) -> list[NDArray[np.float64]]:
        found = []
        for name in self.numbers:
            values, wrong = as_numbers(self.rows[name], self.block.missing, decimal=self.block.decimal)
            self.leave_out(wrong, "not a number", name)
            found.append(values)
        return found

    def _dates(self, name: str) -> tuple[pd.Series[Any], NDArray[np.bool_]]:
        block = self.block
        dates, wrong = as_dates(self.column(name), block.missing, date_format=block.date_format)
        return dates, wrong | (dates.isna().to_numpy() if name == block.time else False)

    def _parts(self, missing: NDArray[np.bool_]) -> NDArray[Any]:
        block = self.block
        parts: NDArray[Any] = np.full(len(self.rows), None, dtype=object)
        if block.part:
            parts = as_texts(self.rows[block.part], block.missing)
            self.leave_out(~np.isin(parts.astype(str), PARTS), "unknown part", block.part)
        if block.valid_rows:
            first, after = block.valid_rows
            if after > self.table.numbers[-1] + 1:
                count = self.table.numbers[-1] + 1
                raise ValueError(f"clean.valid_rows ends at {after}, {self.table.file} has {count} rows")
            inside = (self.table.numbers >= first) & (self.table.numbers < after)
            parts[:] = np.where(inside, "valid", "train")
        if block.without_target == "test":
            parts[missing] = "test"
        return parts

    def _described(self) -> str:
        used = {*self.categories, *self.numbers}
        dates = {
            name: next(
                (text for text in as_texts(self.rows[name].head(100), self.block.missing) if text), None
            )
            for name in self.block.dates
            if used & set(part_names(name).values())
        }
        return json.dumps(
            {
                "categories": self.categories,
                "numbers": self.numbers,
                "dates": dates,
                "missing": list(self.block.missing),
                "decimal": self.block.decimal,
                "date_format": self.block.date_format,
            },
            ensure_ascii=False,
        )

    def _numbered(self) -> NDArray[Any]:
        return np.array([self._name(int(number)) for number in self.table.numbers], dtype=object)

    def _name(self, number: int) -> str:
        return f"{self.table.file}:{number:08d}"

    def _cell(self, name: str, row: Any) -> Any:
        return self.rows[name].iat[row] if name in self.rows.columns else name

    def _where(self, row: int) -> str:
        return f"{self.table.file}, row {self.table.numbers[row]}: {self.details[row]}"


def _digest(item_id: str, names: list[Any], quantities: list[Any], label: Any, target: Any) -> str:
    """Of the row's content with its name: two people who are alike are two examples."""
    content: Mapping[str, Any] | list[Any] = [item_id, names, quantities, label, target]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()
