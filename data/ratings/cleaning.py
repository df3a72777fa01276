"""Published ratings to rows: who rated what with how many points, and what cannot be counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.archives import Raw
from data.examples import INDEX, Reject
from data.ratings.reading import Lines, read_delimited
from data.ratings.settings import RatingCleaning, TitleColumns

CHUNK = 65536
"""Ratings that become rows at once."""

LATEST = 4_102_444_800
"""Seconds from 1970 to 2100: a greater number is no time in seconds."""

Flags = npt.NDArray[np.bool_]


def rating_schema() -> pa.Schema:
    """Columns of a rating."""
    return pa.schema(
        [
            *INDEX,  # no label: a number is what is learned
            pa.field("user", pa.string(), nullable=False),
            pa.field("item", pa.string(), nullable=False),
            pa.field("title", pa.string(), nullable=False),  # the item where no titles are given
            pa.field("rating", pa.float32(), nullable=False),
        ]
    )


def clean_ratings(raw: Raw, settings: RatingCleaning) -> Iterator[Mapping[str, Any] | Reject]:
    """Every line of the file of ratings as a row or as a reject, in the file's order.

    An item id is `FILE:LINE`. Of several ratings of one thing by one user the latest stays; without a time,
    or at the same, the one that stands last. ValueError where a file or a column is missing.
    """
    columns = settings.ratings
    wanted = [columns.user, columns.item, columns.rating, *([columns.time] if columns.time else [])]
    titles = _titles(raw, settings.titles) if settings.titles else None
    lines = read_delimited(raw, columns, wanted)
    for _ in range(lines.blank):
        raw.ignore("empty lines")
    found = _Ratings(lines, settings, titles)
    width = len(str(int(lines.number[-1]) if len(lines.number) else 1))
    width = max(width, *(len(str(line)) for line in lines.broken)) if lines.broken else width
    broken = sorted(lines.broken.items(), reverse=True)
    for start in range(0, len(lines.number), CHUNK):
        for line, row in found.rows(start, start + CHUNK):
            while broken and broken[-1][0] < line:
                yield _broken(columns.file, width, *broken.pop())
            item_id = f"{columns.file}:{line:0{width}}"
            yield Reject(item_id, *row) if isinstance(row, tuple) else {"item_id": item_id, **row}
    while broken:
        yield _broken(columns.file, width, *broken.pop())


def _broken(file: str, width: int, line: int, what: str) -> Reject:
    return Reject(f"{file}:{line:0{width}}", "not a record", f"{file}, line {line}: {what}")


def _titles(raw: Raw, settings: TitleColumns) -> dict[str, str | None]:
    """Title by item; None where its lines name several or none. Lines without an item are passed over."""
    lines = read_delimited(raw, settings, [settings.item, settings.title])
    titles: dict[str, str | None] = {}
    items, names = (lines.table[name].to_pylist() for name in (settings.item, settings.title))
    for item, name in zip(items, names, strict=True):
        if item is None:
            raw.ignore("titles without an item")
        else:
            titles[item] = name if titles.get(item, name) == name else None
    for _ in lines.broken:
        raw.ignore("lines of titles that are no records")
    return titles


class _Ratings:
    """All ratings of a file as columns, each judged once."""

    def __init__(
        self, lines: Lines, settings: RatingCleaning, titles: Mapping[str, str | None] | None
    ) -> None:
        columns = settings.ratings
        self.settings, self.titles, self.number = settings, titles, lines.number
        self.text = {name: lines.table[name].combine_chunks() for name in lines.table.column_names}
        self.users = self.text[columns.user].dictionary_encode()
        self.items = self.text[columns.item].dictionary_encode()
        self.rating = _numbers(self.text[columns.rating])
        self.time = _times(self.text[columns.time]) if columns.time else None
        self.reason: npt.NDArray[np.object_] = np.full(len(self.number), None, dtype=object)
        self.kept = np.full(len(self.number), -1, dtype=np.int64)
        self._judge()

    def _judge(self) -> None:
        """Set the reason of every row that is left out: the first that holds."""
        low, high = self.settings.range
        rating = self.text[self.settings.ratings.rating]
        self._leave_out("missing user", _null(self.users.indices))
        self._leave_out("missing item", _null(self.items.indices))
        self._leave_out("missing rating", _null(rating))
        self._leave_out("rating is not a number", ~np.isfinite(self.rating))
        self._leave_out("rating out of range", ~((self.rating >= low) & (self.rating <= high)))
        if self.time is not None:
            self._leave_out("unreadable time", np.isnat(self.time))
        if self.titles is not None:
            names = self.items.dictionary.to_pylist()
            unknown = np.array([name not in self.titles for name in names] + [False])
            untitled = np.array([name in self.titles and not self.titles[name] for name in names] + [False])
            codes = _codes(self.items)
            self._leave_out("unknown item", unknown[codes])
            self._leave_out("item without one title", untitled[codes])
        self._leave_out("rated again", self._superseded())

    def _leave_out(self, reason: str, flags: Flags) -> None:
        self.reason[flags & (self.reason == None)] = reason  # noqa: E711 (element by element)

    def _superseded(self) -> Flags:
        """Ratings that the same user gave the same thing anew; `kept` is the row that stays."""
        rows = np.flatnonzero(self.reason == None)  # noqa: E711
        pair = _codes(self.users)[rows] * (len(self.items.dictionary) + 1) + _codes(self.items)[rows]
        time = self.time[rows].view(np.int64) if self.time is not None else np.zeros(len(rows), np.int64)
        order = np.lexsort((rows, time, pair))
        again = np.append(pair[order][1:] == pair[order][:-1], False)[: len(order)]
        # from the back: the last row of each pair stays, and stands for all before it
        ends = np.flatnonzero(~again)
        last = order[ends[np.searchsorted(ends, np.arange(len(order)))]]
        flags: Flags = np.zeros(len(self.number), dtype=bool)
        flags[rows[order[again]]] = True
        self.kept[rows[order]] = rows[last]
        return flags

    def rows(self, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any] | tuple[str, str]]]:
        """Line with the row of the schema (all but its item id), or with reason and detail."""
        users, items = (each[start:stop].to_pylist() for each in (self.users, self.items))
        times = [None] * len(users) if self.time is None else self.time[start:stop].astype(object).tolist()
        for place, line, reason, user, item, rating, time in zip(
            range(start, stop),
            self.number[start:stop].tolist(),
            self.reason[start:stop],
            users,
            items,
            self.rating[start:stop].tolist(),
            times,
            strict=False,
        ):
            if reason is not None:
                yield line, (reason, self._detail(place, reason))
                continue
            yield (
                line,
                {
                    "label": None, "part": None, "group": None, "time": time,
                    "digest": sha256(f"{user}\0{item}\0{rating!r}".encode()).hexdigest(),
                    "user": user, "item": item, "title": self.titles[item] if self.titles else item,
                    "rating": rating,
                },
            )  # fmt: skip

    def _detail(self, place: int, reason: str) -> str:
        """File, line and value, for the person who looks."""
        columns = self.settings.ratings
        where = f"{columns.file}, line {self.number[place]}"
        user, item, rating = (
            self.text[name][place].as_py() for name in (columns.user, columns.item, columns.rating)
        )
        low, high = self.settings.range
        who = f"user {user!r}, item {item!r}, rating {rating!r}"
        if reason == "rating out of range":
            return f"{where}: {rating} is not in {low:g} to {high:g} ({who})"
        if reason == "unreadable time":
            return f"{where}: {self.text[columns.time][place].as_py()!r} is no time ({who})"
        if reason in ("unknown item", "item without one title"):
            assert self.settings.titles is not None
            lack = "does not hold it" if reason == "unknown item" else "has no title for it, or several"
            return f"{where}: {self.settings.titles.file} {lack} ({who})"
        if reason == "rated again":
            stays = self.kept[place]
            other = self.text[columns.rating][stays].as_py()
            return f"{where}: line {self.number[stays]} is later, with rating {other!r} ({who})"
        return f"{where}: {who}"


def _null(column: pa.Array) -> Flags:
    flags: Flags = column.is_null().to_numpy(zero_copy_only=False)
    return flags


def _codes(column: pa.DictionaryArray) -> npt.NDArray[np.int64]:
    """Codes of a dictionary array; null is the code after the last."""
    filled = pc.fill_null(column.indices, len(column.dictionary))
    codes: npt.NDArray[np.int64] = filled.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """float64, not a number where the text is none."""
    try:
        numbers = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        numbers = pd.to_numeric(column.to_pandas(), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.asarray(numbers, dtype=np.float64)


def _times(column: pa.Array) -> npt.NDArray[np.datetime64]:
    """Microseconds, from seconds since 1970 or from ISO text; not a time where the text is neither."""
    seconds = _numbers(column)
    numeric = np.isfinite(seconds)
    texts = pd.to_datetime(column.to_pandas().where(~numeric), errors="coerce", format="ISO8601", utc=True)
    times = texts.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    sane = numeric & (seconds >= 0) & (seconds < LATEST)
    times[sane] = (seconds[sane] * 1e6).astype(np.int64).view("datetime64[us]")
    times[numeric & ~sane] = np.datetime64("NaT")
    return np.asarray(times)
