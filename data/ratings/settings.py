"""Where ratings stand in the files of a publisher or a user, as typed settings."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator


class Delimited(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """A text file with one record a line and a delimiter between its fields."""

    file: str
    """Name inside the archive or folder; leading folders may be left out."""
    delimiter: str = Field(default=",", min_length=1, max_length=4)
    """Between fields, e.g. `"\\t"`, `"|"`, or `"::"` of the larger MovieLens files."""
    encoding: str = "utf-8"
    """Of the text, e.g. `latin-1`."""
    quote: str = Field(default='"', max_length=1)
    """What stands around a field that holds the delimiter; empty where quotes are ordinary characters.
    Without effect on a delimiter of several characters."""
    columns: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of the first columns of a file without a header; empty: the first line names them."""

    @model_validator(mode="after")
    def _known_encoding(self) -> Self:
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding {self.encoding!r} is not known; try utf-8 or latin-1") from None
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns names one twice")
        return self


class RatingColumns(Delimited, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The file of ratings. The defaults are MovieLens's `ratings.csv`."""

    file: str = "ratings.csv"
    """Name inside the archive or folder; leading folders may be left out."""
    user: str = "userId"
    """Column that says who rated."""
    item: str = "movieId"
    """Column that says what was rated."""
    rating: str = "rating"
    """Column with the points."""
    time: str = ""
    """Column with the time of the rating, as seconds since 1970 or as ISO text: for splits by time, and for
    which of two ratings of one thing counts. Empty: none."""


class TitleColumns(Delimited, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The file that says what the rated things are called. The defaults are MovieLens's `movies.csv`."""

    file: str = "movies.csv"
    """Name inside the archive or folder; leading folders may be left out."""
    item: str = "movieId"
    """Column with the identity that ratings use. Two things of one title stay two."""
    title: str = "title"
    """Column with the title."""


class RatingCleaning(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block of a problem whose examples are ratings."""

    range: Annotated[tuple[float, float], Field(strict=False)]
    """Lowest and highest rating that the publisher allows, e.g. `[0.5, 5]`; others are rejected."""
    ratings: RatingColumns = RatingColumns()
    """Where the ratings stand."""
    titles: TitleColumns | None = None
    """Where the titles stand; without them things are shown by their identity."""

    @model_validator(mode="after")
    def _has_width(self) -> Self:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range must be [lowest, highest], not {list(self.range)}")
        return self
