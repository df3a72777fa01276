"""A table as published to rows whose cells have types, and a reason for every row that is left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.archives import Raw
from data.chunks import Chunk
from data.digests import joined, json_of, repr_of, sha256_of
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
from data.tables.reading import Ragged, Table, only_table, open_table
from data.tables.settings import ClassCleaning, NumberCleaning, TableCleaning

SURE = 0.9
"""Share of a column's cells that must be numbers where the block does not say what the column holds."""

NAMES = ("Month", "Dayofweek", "Is_month_end", "Is_month_start")
"""Parts of a date that are names, where the block does not say; the others are quantities."""

CHUNK = 2**16
"""Rows that are judged at once."""


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


def clean_classes(raw: Raw, block: ClassCleaning) -> Iterator[Chunk]:
    """Rows of `table_schema` with their target in `label`, and rejects, in the order of the file.

    Reasons: `ragged row`, `no partner` (in a side table), `no target`, `unknown target`, `not a number`, `not
    a date`, `not above the bound`, `no id`, `unknown part`. ValueError where the table as a whole is of no
    use: empty, no text, without a column that the block names.
    """
    for rows in _stretches(raw, block):
        target = as_texts(rows.column(block.target), block.missing)
        labels = np.array([block.relabel.get(text, text) for text in target], dtype=object)
        if block.classes:
            unknown = ~np.isin(labels.astype(str), (*block.classes, "None"))
            rows.leave_out(unknown, "unknown target", block.target)
        missing = np.array([label is None for label in labels], dtype=bool)
        yield rows.finish(labels=labels, missing=missing)


def clean_numbers(raw: Raw, block: NumberCleaning) -> Iterator[Chunk]:
    """The same with the target as a quantity in `target`, and no label."""
    for rows in _stretches(raw, block):
        target, wrong = as_numbers(rows.column(block.target), block.missing, decimal=block.decimal)
        rows.leave_out(wrong, "not a number", block.target)
        yield rows.finish(target=target, missing=np.isnan(target) & ~wrong)


def _stretches(raw: Raw, block: TableCleaning) -> Iterator[_Rows]:
    """The joined table in stretches of CHUNK rows; as one where events look at the rows around each row."""
    name = block.table or only_table(raw)
    texts = raw.find_all(list(dict.fromkeys([name, *(join.table for join in block.joins)])))
    tables = {
        each: open_table(content, file=each, delimiter=block.delimiter, encoding=block.encoding)
        for each, content in texts.items()
    }
    wholes = {join.table: tables[join.table].whole().rows for join in block.joins}
    sides = [side_table(wholes[join.table], join, block.missing) for join in block.joins]
    table = tables[name]
    count = int(table.numbers[-1]) + 1
    if block.valid_rows and block.valid_rows[1] > count:
        raise ValueError(f"clean.valid_rows ends at {block.valid_rows[1]}, {table.file} has {count} rows")

    def opened() -> Iterator[_Rows]:
        stretches = [table.whole()] if block.events else table.stretches(CHUNK)
        return (_Rows(stretch, sides, block) for stretch in stretches)

    kinds = (block.categories, block.numbers)
    if not block.categories and not block.numbers:
        kinds = _kinds(opened, block)
    described = ""
    for rows in opened():
        described = described or rows.describe(*kinds)
        rows.settle(*kinds, described, () if rows.table.numbers[0] != table.numbers[0] else table.ragged)
        yield rows


def _kinds(
    opened: Callable[[], Iterator[_Rows]], block: TableCleaning
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the columns that hold names, and of those that hold quantities, by what most cells hold."""
    used = {block.target, block.id, block.group, block.part, *block.dates, *block.drop}
    used |= {block.time} if block.time not in block.dates else set()
    parts = {column: part for name in block.dates for part, column in part_names(name).items()}
    there: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    columns: list[str] = []
    count = 0
    for rows in opened():
        for name in block.drop:
            rows.column(name)
        file, count = rows.table.file, count + len(rows.rows)
        columns = [name for name in rows.rows.columns if name not in used]
        for name in columns:
            values, faults = as_numbers(rows.rows[name], block.missing, decimal=block.decimal)
            there[name] += int((~np.isnan(values)).sum() + faults.sum())
            wrong[name] += int(faults.sum())
    if not columns:
        raise ValueError(f"{file} has no column beside the target that could be learned from")
    mixed = [
        name
        for name in columns
        if name not in parts and not (there[name] and wrong[name] <= (1 - SURE) * there[name])
    ]
    for name, distinct in _distinct(opened, mixed).items():
        if distinct > max(100, count // 2):
            raise ValueError(
                f"{file}: column {name!r} holds {distinct} texts in {count} rows;"
                " name it in clean.id, clean.dates or clean.drop, or list the columns in clean.categories"
            )
    names = tuple(name for name in columns if name in mixed or parts.get(name) in NAMES)
    return names, tuple(name for name in columns if name not in names)


def _distinct(opened: Callable[[], Iterator[_Rows]], columns: Sequence[str]) -> dict[str, int]:
    """How many different cells each column has, by 8 bytes of a hash: a column may have one in every row."""
    found: dict[str, list[NDArray[np.uint64]]] = {name: [] for name in columns}
    for rows in opened() if columns else ():
        for name in columns:
            cells = rows.rows[name].dropna().unique()
            found[name].append(pd.util.hash_array(np.asarray(cells, dtype=object), categorize=False))
    return {name: len(np.unique(np.concatenate(hashes))) for name, hashes in found.items()}


class _Rows:
    """A stretch of the joined table, and the reason against each row that has one: the first that is found
    counts."""

    def __init__(self, table: Table, sides: Sequence[pd.DataFrame], block: TableCleaning) -> None:
        self.block, self.table = block, table
        self.rows = table.rows
        self.reasons: NDArray[Any] = np.full(len(self.rows), None, dtype=object)
        self.details: dict[int, str] = {}
        for column in (block.target, block.id, block.group, block.time, block.part):
            if column:
                self.column(column)
        if block.time:
            self.leave_out(self._dates(block.time)[1], "not a date", block.time)
        for join, side in zip(block.joins, sides, strict=True):
            self.rows, lonely = join_tables(self.rows, side, join, block)
            if join.required:
                self.leave_out(lonely, "no partner", *join.keys, *join.asof, side=join.table)
        self.times = self._dates(block.time)[0] if block.time else None
        self.rows = derived(self.rows, block, self.times)
        made: dict[Any, pd.Series[Any]] = {}
        for name in block.dates:
            dates, wrong = self._dates(name)
            self.leave_out(wrong, "not a date", name)
            for part, values in date_parts(dates, name).items():
                made[part] = values.set_axis(self.rows.index)
        self.rows = self.rows.assign(**{name: made[name] for name in made if name not in self.rows.columns})

    def settle(
        self, categories: Sequence[str], numbers: Sequence[str], described: str, ragged: Sequence[Ragged]
    ) -> None:
        """Which columns hold names and which quantities, what they are called as JSON, and the rows of
        another length that are rejected with these."""
        for name in (*categories, *numbers):
            self.column(name)
        self.categories, self.numbers, self.described, self.ragged = categories, numbers, described, ragged

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
    ) -> Chunk:  # fmt: skip
        """All rows, and what speaks against the others; `missing`: where the target is."""
        block = self.block
        if block.without_target == "reject":
            self.leave_out(missing, "no target", block.target)
        for name, bound in block.above.items():
            values, wrong = as_numbers(self.column(name), block.missing, decimal=block.decimal)
            self.leave_out(wrong, "not a number", name)
            with np.errstate(invalid="ignore"):
                self.leave_out(values <= bound, "not above the bound", name)
        numbers = self._numbers()
        ids = as_texts(self.rows[block.id], ()) if block.id else None
        if ids is not None:
            self.leave_out(np.array([each in (None, "") for each in ids], dtype=bool), "no id", block.id)
        groups = as_texts(self.rows[block.group], block.missing) if block.group else None
        parts = self._parts(missing)
        texts = [as_texts(self.rows[name], block.missing) for name in self.categories]
        stays = pd.isna(self.reasons)
        before = np.concatenate([[0], np.cumsum(stays)])
        rejects = [(0, self._of_another_length(reject)) for reject in self.ragged]
        for row in np.flatnonzero(~stays).tolist():
            item_id = str((ids[row] if ids is not None else "") or self._name(int(self.table.numbers[row])))
            rejects.append((int(before[row]), Reject(item_id, self.reasons[row], self._where(row))))
        names = self._numbered() if ids is None else pa.array(ids, pa.string())
        columns = {
            "item_id": names.filter(pa.array(stays)),
            "label": _texts(labels, stays), "part": _texts(parts, stays), "group": _texts(groups, stays),
            "time": pa.array(
                np.full(int(stays.sum()), np.datetime64("NaT"), "datetime64[us]")
                if self.times is None
                else self.times.to_numpy()[stays].astype("datetime64[us]")
            ),
            "target": pa.array(
                np.full(int(stays.sum()), np.nan) if target is None else target[stays], from_pandas=True
            ),
        }  # fmt: skip
        cells = [_texts(column, stays) for column in texts]
        floats = [column[stays] for column in numbers]
        columns["digest"] = _digests(columns["item_id"], cells, floats, columns["label"], columns["target"])
        columns["categories"] = _lists(
            [np.asarray(column, object) for column in cells], pa.string(), stays.sum()
        )
        columns["numbers"] = _lists(floats, pa.float64(), stays.sum())
        columns["columns"] = pa.DictionaryArray.from_arrays(
            np.zeros(int(stays.sum()), np.int32), pa.array([self.described], pa.string())
        )
        schema = table_schema()
        rows = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
        return Chunk(rows=rows, rejects=tuple(rejects))

    def _of_another_length(self, row: Ragged) -> Reject:
        return Reject(
            self._name(row.row), "ragged row",
            f"{self.table.file}, row {row.row}: {row.found} cells, the header has {row.expected}"
            f": {row.text[:80]!r}",
        )  # fmt: skip

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
            inside = (self.table.numbers >= first) & (self.table.numbers < after)
            parts[:] = np.where(inside, "valid", "train")
        if block.without_target == "test":
            parts[missing] = "test"
        return parts

    def describe(self, categories: Sequence[str], numbers: Sequence[str]) -> str:
        """The column `columns` of the schema."""
        used = {*categories, *numbers}
        dates = {
            name: next(
                (text for text in as_texts(self.rows[name].head(100), self.block.missing) if text), None
            )
            for name in self.block.dates
            if used & set(part_names(name).values())
        }
        return json.dumps(
            {
                "categories": list(categories),
                "numbers": list(numbers),
                "dates": dates,
                "missing": list(self.block.missing),
                "decimal": self.block.decimal,
                "date_format": self.block.date_format,
            },
            ensure_ascii=False,
        )

    def _numbered(self) -> pa.Array:
        numbers = pa.array(self.table.numbers).cast(pa.string())
        return joined(f"{self.table.file}:", pc.utf8_lpad(numbers, 8, "0"))

    def _name(self, number: int) -> str:
        return f"{self.table.file}:{number:08d}"

    def _cell(self, name: str, row: Any) -> Any:
        return self.rows[name].iat[row] if name in self.rows.columns else name

    def _where(self, row: int) -> str:
        return f"{self.table.file}, row {self.table.numbers[row]}: {self.details[row]}"


def _texts(values: NDArray[Any] | None, stays: NDArray[np.bool_]) -> pa.Array:
    """The texts of the rows that stay; null without any."""
    count = int(stays.sum())
    return pa.nulls(count, pa.string()) if values is None else pa.array(values[stays], pa.string())


def _lists(columns: Sequence[NDArray[Any]], kind: pa.DataType, rows: int) -> pa.Array:
    """The cells of each row as a list; null where one is missing."""
    cells = np.stack(columns, axis=1).ravel() if columns else np.empty(0, dtype=object)
    offsets = np.arange(rows + 1, dtype=np.int32) * len(columns)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(cells, kind, from_pandas=True))


def _digests(
    item_ids: pa.Array, names: Sequence[pa.Array], quantities: Sequence[NDArray[np.float64]],
    labels: pa.Array, targets: pa.Array,
) -> pa.Array:  # fmt: skip
    """Of each row's content with its name (two people who are alike are two examples): the sha256 of the JSON
    list [name, [categories], [numbers], label, target]."""
    aims = targets.to_numpy(zero_copy_only=False)
    return sha256_of(
        joined(
            joined("[", json_of(item_ids)),
            _json_list([json_of(column) for column in names], len(item_ids)),
            _json_list([_json_number(column) for column in quantities], len(item_ids)),
            json_of(labels),
            joined(_json_number(aims), "]"),
            between=", ",
        )
    )


def _json_number(values: NDArray[np.float64]) -> pa.Array:
    return pc.fill_null(repr_of(values), "null")


def _json_list(cells: Sequence[pa.Array], rows: int) -> pa.Array:
    empty = pa.array([""]).take(pa.array(np.zeros(rows, np.int64)))
    return joined("[", joined(*cells, between=", ") if cells else empty, "]")
