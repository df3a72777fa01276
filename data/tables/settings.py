"""How a table is laid out, as typed settings: which columns there are, what is joined, what is derived."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

Names = Annotated[tuple[str, ...], Field(strict=False)]

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
"""Cells that say nothing: what R, pandas, databases and the UCI repository write."""


class Join(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One side table, of which each row of the main table gets at most one row."""

    table: str
    """File of the side table; leading folders may be left out."""
    extract: dict[str, tuple[str, str]] = {}
    """Columns made first: name -> (column of the side table, regular expression with one group)."""
    replace: dict[str, dict[str, str]] = {}
    """Cells changed next: column -> old text -> new text."""
    match: dict[str, str] = {}
    """Only rows whose column fits the regular expression."""
    keys: dict[str, str] = {}
    """Columns that must be equal: of the rows so far -> of the side table."""
    asof: dict[str, str] = {}
    """One pair of dates: the latest side row that is not after the row's date is taken."""
    take: dict[str, str] = {}
    """New name -> column of the side table. Empty: all columns that the rows do not have yet."""
    required: bool = True
    """Whether a row without a partner is rejected; otherwise its new cells are missing."""

    @field_validator("extract", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: tuple(pair) if isinstance(pair, list) else pair for name, pair in value.items()}
        return value

    @model_validator(mode="after")
    def _has_a_key(self) -> Join:
        if not self.keys and not self.asof:
            raise ValueError("a join needs `keys`, `asof` or both")
        if len(self.asof) > 1:
            raise ValueError("asof is one pair of columns")
        for pattern in [pair[1] for pair in self.extract.values()]:
            if _groups(pattern) != 1:
                raise ValueError(f"extract: {pattern!r} needs exactly one group in parentheses")
        for pattern in self.match.values():
            _groups(pattern)
        return self


class Events(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Where the events of one kind of row (a store) lie in time, seen from each row."""

    columns: Names
    """0 or 1 (after `flags`): whether the event takes place on that row's day."""
    by: str
    """Column whose rows belong together, e.g. the store."""
    elapsed: bool = True
    """New numbers `AfterX` and `BeforeX`: days since the last and until the next event; 0 where none is."""
    days: int = Field(default=0, ge=0)
    """New numbers `X_bw` and `X_fw`: events in so many rows back and ahead, the row itself included (course:
    7; one row is one day). 0: none."""


class Since(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Time since something began that is known by year and month, or year and week."""

    name: str
    """The new number."""
    year: str
    """Column of the year."""
    month: str = ""
    """Column of the month (its 15th day counts, as in the course)."""
    week: str = ""
    """Column of the ISO week (its Monday counts)."""
    unit: Literal["days", "weeks", "months"] = "days"
    """A month is 30 days."""
    limit: int | None = Field(default=None, ge=1)
    """Largest value (course: 24 months, 25 weeks); smaller than 0 and unknown are 0."""
    earliest: int = 1990
    """Years before this are taken for typing errors: 0."""

    @model_validator(mode="after")
    def _month_or_week(self) -> Since:
        if bool(self.month) == bool(self.week):
            raise ValueError("give either month or week")
        return self


class TableCleaning(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block of a problem whose examples are rows of a table."""

    table: str = ""
    """The file; leading folders may be left out. Empty: the only .csv or .tsv there is."""
    delimiter: Literal["", ",", ";", "\t", "|"] = ""
    """Between cells. Empty: the one that occurs most often in the header."""
    encoding: str = ""
    """Of the text. Empty: UTF-8 or UTF-16 by their marks, else UTF-8, else Windows-1252."""
    decimal: Literal[".", ","] = "."
    """Before the fraction of a number."""
    missing: Names = MISSING
    """Cells that say nothing, after blanks are stripped."""
    target: str = Field(min_length=1)
    """Column of what is learned."""
    categories: Names = ()
    """Columns that hold names. Empty together with `numbers`: all columns, by what most cells hold."""
    numbers: Names = ()
    """Columns that hold quantities."""
    dates: Names = ()
    """Columns that hold dates. Each gives the columns Year, Month, Week, Day, Dayofweek, Dayofyear,
    Is_month_end, Is_month_start and Elapsed (days since 1970), with the date's name before them, without a
    final `Date` (fastai's `add_datepart`)."""
    date_format: str = ""
    """As for strptime, e.g. `%d.%m.%Y`. Empty: year first, or month first."""
    drop: Names = ()
    """Columns that are left out where all columns are taken."""
    id: str = ""
    """Column that names a row. Empty: the file's name and the row's number, from 0."""
    group: str = ""
    """Column for splits by group."""
    time: str = ""
    """Column with a date, for splits by time."""
    part: str = ""
    """Column whose cells are train, valid or test."""
    valid_rows: Annotated[tuple[int, int], Field(strict=False)] | None = None
    """First row of the validation part, and the first after it (course: 800 and 1000), from 0."""
    above: dict[str, float] = {}
    """Rows with a smaller or equal number in that column are left out (course: closed shops, `{Sales:
    0}`)."""
    without_target: Literal["reject", "test"] = "reject"
    """Rows whose target is missing: rejected, or the unlabelled test part."""
    flags: dict[str, str] = {}
    """Columns that become 0 where they hold this text, else 1: `{StateHoliday: '0'}`."""
    joins: Annotated[tuple[Join, ...], Field(strict=False)] = ()
    """Side tables, one after the other."""
    events: Annotated[tuple[Events, ...], Field(strict=False)] = ()
    """Numbers about the events around each row; they need `time`."""
    since: Annotated[tuple[Since, ...], Field(strict=False)] = ()
    """Numbers about the time since something began; they need `time`."""

    @model_validator(mode="after")
    def _consistent(self) -> TableCleaning:
        if (self.events or self.since) and not self.time:
            raise ValueError("events and since count days from a date: name its column in time")
        if self.part and self.valid_rows:
            raise ValueError("part and valid_rows both say what is held out: give one of them")
        if self.valid_rows and not 0 <= self.valid_rows[0] < self.valid_rows[1]:
            raise ValueError(
                f"valid_rows {list(self.valid_rows)}: the first row, then the first after the last"
            )
        both = sorted(set(self.categories) & set(self.numbers))
        if both:
            raise ValueError(f"{both[0]!r} stands in categories and in numbers")
        if self.drop and (self.categories or self.numbers):
            raise ValueError("drop has no effect where categories or numbers name the columns")
        if self.target in (*self.categories, *self.numbers):
            raise ValueError(f"the target {self.target!r} cannot be an input as well")
        return self


class ClassCleaning(TableCleaning, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block where the target is one of some names."""

    relabel: dict[str, str] = {}
    """Other spellings of a target: `{'>50K.': '>=50k'}`."""
    classes: Names = ()
    """The targets that there may be; others are rejected. Empty: whatever there is."""


class NumberCleaning(TableCleaning, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block where the target is a quantity."""


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
