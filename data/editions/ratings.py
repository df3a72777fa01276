"""Editions of ratings: people with tastes, films with kinds and qualities, in the layouts of MovieLens."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from data.editions.archives import write_archive

SEED = 20181113
"""Of every drawing (the day on which lesson 4 of the 2019 course was taught)."""

KINDS = ("Action", "Animation", "Comedy", "Documentary", "Drama", "Horror", "Musical", "Western")
FIRST = (
    "Silent", "Crimson", "Last", "Hidden", "Broken", "Golden", "Midnight", "Distant", "Burning", "Paper",
    "Iron", "Summer", "Lost", "Second", "Northern", "Électrique",
)  # fmt: skip
SECOND = (
    "River", "Garden", "Orchestra", "Letter", "Station", "Mountain", "Circus", "Detective", "Harbour",
    "Kingdom", "Train", "Mirror", "Café", "Holiday", "Astronaut", "Wolf",
)  # fmt: skip

HEADER = ("userId", "movieId", "rating", "timestamp")
START = 964_982_400
"""Seconds from 1970 to July 2000, when these people begin to rate."""

UNKNOWN, UNTITLED, AMBIGUOUS = 900_001, 900_002, 900_003
"""Films that are rated, but that the list of films does not hold, does not name, and names twice."""


class Ratings(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Drawn ratings: how many, of whom, and in which layout."""

    file: str
    """Name of the archive."""
    folder: str
    """Folder inside."""
    layout: Literal["headed", "tabbed", "bare"]
    """`headed`: `ratings.csv` and `movies.csv` with headers; `tabbed`: `u.data` and `u.item` without a
    header; `bare`: `ratings.csv` alone."""
    users: int = Field(default=120, ge=4)
    """People who rate."""
    items: int = Field(default=160, ge=8, le=len(FIRST) * len(SECOND))
    """Films that can be rated."""
    each: int = Field(default=48, ge=2)
    """Films that a person rates in the mean."""
    steps: Annotated[tuple[float, float, float], Field(strict=False)] = (0.5, 5.0, 0.5)
    """Lowest and highest rating, and the step between two."""
    seed: int = Field(default=SEED, ge=0)
    """Of the drawing."""


class _World:
    """Films, people, and what they gave."""

    def __init__(self, settings: Ratings) -> None:
        rng = np.random.default_rng(settings.seed)
        count, kinds = settings.items, len(KINDS)
        places = rng.permutation(len(FIRST) * len(SECOND))[:count]
        years = rng.integers(1940, 2018, count)
        self.titles = [
            f"{SECOND[place % len(SECOND)]}, The {FIRST[place // len(SECOND)]} ({year})"
            for place, year in zip(places.tolist(), years.tolist(), strict=True)
        ]
        self.titles[1] = self.titles[0]  # two films of one title stay two
        # ids with gaps, or from 1 without any, as the layouts have them
        gaps = np.cumsum(rng.integers(1, 9, count))
        self.ids = np.arange(1, count + 1) if settings.layout == "tabbed" else gaps
        self.kinds = np.zeros((count, kinds))
        for film in range(count):
            self.kinds[film, rng.permutation(kinds)[: rng.integers(1, 3)]] = 1.0
        quality = rng.normal(0, 0.45, count)
        taste = rng.normal(0, 0.75, (settings.users, kinds))
        taste -= taste.mean(axis=1, keepdims=True)
        mildness = rng.normal(0, 0.3, settings.users)
        popular = (np.arange(count) + 12.0) ** -0.7
        low, high, step = settings.steps
        self.rows: list[tuple[int, int, float, int]] = []
        for user in range(settings.users):
            wanted = int(np.clip(rng.normal(settings.each, settings.each / 4), 2, count))
            chosen = rng.choice(count, wanted, replace=False, p=popular / popular.sum())
            liking = self.kinds[chosen] @ taste[user] + quality[chosen] + mildness[user]
            exact = low + 0.65 * (high - low) + liking + rng.normal(0, 0.35, wanted)
            given = np.clip(low + np.rint((exact - low) / step) * step, low, high)
            moments = START + user * 86_400 + np.sort(rng.integers(0, 7_200, wanted))
            films = self.ids[np.sort(chosen)] if settings.layout == "headed" else self.ids[chosen]
            given = given[np.argsort(chosen)] if settings.layout == "headed" else given
            self.rows += zip(
                [user + 1] * wanted, films.tolist(), given.tolist(), moments.tolist(), strict=True
            )


def draw_ratings(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive of ratings, with faults planted in the middle of the file."""
    checked = Ratings.model_validate(dict(settings))
    return [write_archive(folder / checked.file, _files(checked, _World(checked)))]


def _files(settings: Ratings, world: _World) -> Iterator[tuple[str, bytes]]:
    root = settings.folder
    lines = [[*map(str, (user, film)), _number(rating), str(time)] for user, film, rating, time in world.rows]
    if settings.layout == "tabbed":
        yield f"{root}/README", b"Drawn ratings in the layout of MovieLens 100k.\n"
        yield f"{root}/u.data", _text(_with_faults(settings, lines), "\t")
        yield f"{root}/u.genre", "".join(f"{kind}|{place}\n" for place, kind in enumerate(KINDS)).encode()
        counts = f"{settings.users} users\n{settings.items} items\n{len(lines)} ratings\n"
        yield f"{root}/u.info", counts.encode()
        yield f"{root}/u.item", _text(_films(world, flags=True), "|").decode().encode("latin-1")
        return
    if settings.layout == "headed":
        yield f"{root}/README.txt", b"Drawn ratings in the layout of MovieLens.\n"
        yield f"{root}/links.csv", _text([("movieId", "imdbId", "tmdbId")], ",")
        films = [("movieId", "title", "genres"), *_films(world, flags=False)]
        yield f"{root}/movies.csv", _text(films, ",")
    yield f"{root}/ratings.csv", _text([HEADER, *_with_faults(settings, lines)], ",")
    if settings.layout == "headed":
        yield f"{root}/tags.csv", _text([("userId", "movieId", "tag", "timestamp")], ",")


def _films(world: _World, *, flags: bool) -> Iterator[Sequence[str]]:
    """Identity, title and kinds of every film; then one without a title, and one with two."""
    named = [*zip(world.ids.tolist(), world.titles, world.kinds, strict=True)]
    empty: NDArray[np.float64] = world.kinds[0]
    named += [
        (UNTITLED, "", empty),
        (AMBIGUOUS, "One Name (2001)", empty),
        (AMBIGUOUS, "Another (2001)", empty),
    ]
    for film, title, kinds in named:
        if flags:
            yield [str(film), title, "01-Jan-1995", "", "", *(str(int(each)) for each in kinds)]
        else:
            yield [str(film), title, "|".join(kind for kind, each in zip(KINDS, kinds, strict=True) if each)]


def _with_faults(settings: Ratings, lines: list[list[str]]) -> list[list[str]]:
    """The ratings, and in their middle a line for each reason that `clean` knows."""
    film, other = lines[0][1], lines[1][1]
    low, high, step = settings.steps
    fine, time = _number(high), str(START)
    planted = [
        ["1", film, _number(high + step), time],
        ["1", film, _number(low - step), time],
        ["1", film, "five", time],
        ["1", film, "nan", time],
        ["", film, fine, time],
        ["1", "", fine, time],
        ["1", film, "", time],
        ["1", film, fine, "yesterday"],
        [],
        ["1", film],
        ["1", film, fine, time, "again"],
        # rated by the first line of the file, and later another way; and one line twice
        ["1", film, _number(low), str(int(lines[0][3]) + 10_000_000)],
        lines[1],
        ["1", other, _number(low), str(START - 10_000_000)],
    ]
    if settings.layout != "bare":
        planted += [["1", str(film), fine, time] for film in (UNKNOWN, UNTITLED, AMBIGUOUS)]
    middle = len(lines) // 2
    return [*lines[:middle], *planted, *lines[middle:]]


def _number(value: float) -> str:
    """With one decimal, as `ratings.csv` has them; whole stars without."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def _text(rows: Sequence[Sequence[str]] | Iterator[Sequence[str]], delimiter: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
