"""Published ratings to rows: who rated what with how many points, and what cannot be counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.archives import Raw
from data.chunks import Chunk
from data.copies import among, twice
from data.digests import joined, repr_of, sha256_of
from data.examples import INDEX, Reject
from data.ratings.reading import Lines, read_delimited
from data.ratings.settings import RatingCleaning, TitleColumns

CHUNK = 65536
"""Ratings that become rows at once."""

LATEST = 4_102_444_800
"""Seconds from 1970 to 2100: a greater number is no time in seconds."""

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""Texts that Arrow reads as a number; whatever else may be one is left to pandas."""

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


def clean_ratings(raw: Raw, settings: RatingCleaning) -> Iterator[Chunk]:
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
    number, broken = lines.number, sorted(lines.broken.items())
    last = max(int(number[-1]) if len(number) else 1, broken[-1][0] if broken else 1)
    found = _Ratings(lines, settings, titles, width=len(str(last)))
    del lines  # its columns are held as codes and numbers by now
    behind = np.searchsorted(number, [line for line, _ in broken])  # records before each broken line
    for start in range(0, max(len(number), 1), CHUNK):
        stop = start + CHUNK if start + CHUNK < len(number) else len(number) + 1
        here = np.flatnonzero((behind >= start) & (behind < stop)).tolist()
        yield found.chunk(
            start, min(stop, len(number)), [(int(behind[each]), *broken[each]) for each in here]
        )


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
        self, lines: Lines, settings: RatingCleaning, titles: Mapping[str, str | None] | None, *, width: int
    ) -> None:
        columns = settings.ratings
        self.settings, self.titles, self.number, self.width = settings, titles, lines.number, width
        self.text = {
            name: lines.table[name].combine_chunks()
            for name in (columns.rating, *([columns.time] if columns.time else []))
        }
        self.users, self.items = (
            lines.table[name].combine_chunks().dictionary_encode() for name in (columns.user, columns.item)
        )
        self.rating = _numbers(self.text[columns.rating])
        self.time = _times(self.text[columns.time]) if columns.time else None
        self.reasons = [""]
        self.reason = np.zeros(len(self.number), dtype=np.int8)  # place in `reasons`; 0: none
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
        self.reasons.append(reason)
        self.reason[flags & (self.reason == 0)] = len(self.reasons) - 1

    def _superseded(self) -> Flags:
        """Ratings that the same user gave the same thing anew; `kept` is the row that stays."""
        pair = _codes(self.users) * (len(self.items.dictionary) + 1) + _codes(self.items)
        rows = np.flatnonzero(self.reason == 0)
        rows = rows[among(pair[rows], twice(pair[rows]))]  # few, as a rule: only they are put in order
        pair = pair[rows]
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

    def chunk(self, start: int, stop: int, broken: Sequence[tuple[int, int, str]]) -> Chunk:
        """The records from `start` to before `stop`, with the broken lines among them: each with the number
        of records before it, its line, and what is wrong with it."""
        stays = self.reason[start:stop] == 0
        rejects = [
            (place, self.number[place], self.reasons[self.reason[place]], self._detail(place))
            for place in (start + np.flatnonzero(~stays)).tolist()
        ]
        file = self.settings.ratings.file
        rejects += [
            (place, line, "not a record", f"{file}, line {line}: {what}") for place, line, what in broken
        ]
        rejects.sort(key=lambda each: int(each[1]))
        before = np.concatenate([[0], np.cumsum(stays)])
        return Chunk(
            rows=self._rows(start + np.flatnonzero(stays)),
            rejects=tuple(
                (int(before[place - start]), Reject(f"{file}:{line:0{self.width}}", reason, detail))
                for place, line, reason, detail in rejects
            ),
        )

    def _rows(self, places: npt.NDArray[np.int64]) -> pa.RecordBatch:
        """The records at these places as rows of the schema."""
        lines = pc.utf8_lpad(pa.array(self.number[places]).cast(pa.string()), self.width, "0")
        chosen = pa.array(places)
        codes = self.items.indices.take(chosen)
        users, items = self.users.take(chosen).cast(pa.string()), self.items.dictionary.take(codes)
        none = pa.nulls(len(places), pa.string())
        times = (
            pa.nulls(len(places), pa.timestamp("us")) if self.time is None else pa.array(self.time[places])
        )
        rating = self.rating[places]
        columns = {
            "item_id": joined(f"{self.settings.ratings.file}:", lines),
            "label": none, "part": none, "group": none, "time": times,
            "digest": sha256_of(joined(users, items, repr_of(rating), between="\0")),
            "user": users, "item": items, "title": items if self.titles is None else self._titles.take(codes),
            "rating": pa.array(rating.astype(np.float32)),
        }  # fmt: skip
        schema = rating_schema()
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

    @cached_property
    def _titles(self) -> pa.Array:
        """Title by the code of its item."""
        names = self.items.dictionary.to_pylist()
        return pa.array([(self.titles or {}).get(name) for name in names], pa.string())

    def _detail(self, place: int) -> str:
        """File, line and value, for the person who looks."""
        reason = self.reasons[self.reason[place]]
        columns = self.settings.ratings
        where = f"{columns.file}, line {self.number[place]}"
        user, item, rating = (
            column[place].as_py() for column in (self.users, self.items, self.text[columns.rating])
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
    plain = pc.match_substring_regex(column, NUMBER)
    numbers = pc.cast(pc.if_else(plain, column, None), pa.float64()).to_numpy(zero_copy_only=False)
    numbers = np.array(numbers, dtype=np.float64)
    other = np.flatnonzero(pc.fill_null(pc.invert(plain), False).to_numpy(zero_copy_only=False))
    if len(other):
        texts = column.take(pa.array(other)).to_pandas()
        numbers[other] = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return numbers


def _times(column: pa.Array) -> npt.NDArray[np.datetime64]:
    """Microseconds, from seconds since 1970 or from ISO text; not a time where the text is neither."""
    seconds = _numbers(column)
    numeric = np.isfinite(seconds)
    times = np.full(len(column), np.datetime64("NaT"), dtype="datetime64[us]")
    sane = numeric & (seconds >= 0) & (seconds < LATEST)
    times[sane] = (seconds[sane] * 1e6).astype(np.int64).view("datetime64[us]")
    other = np.flatnonzero(~numeric & ~_null(column))
    if len(other):
        texts = column.take(pa.array(other)).to_pandas()
        read = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True)
        times[other] = read.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return times
