"""Editions of counting: numbers in English words, a line each, as the course's data set has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from data.editions.archives import write_archive

SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

Span = Annotated[tuple[int, int], Field(strict=False)]


class Numerals(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Files of numbers in words, in order."""

    file: str
    """Name of the archive."""
    files: Annotated[dict[str, Span], Field(min_length=1)]
    """First and last number by the name of the file inside."""
    faults: str = ""
    """File in which faults are planted; empty: none."""
    most: int = Field(default=2_000, ge=1)
    """Characters that the `clean` block allows: the line that is too long has more."""

    @model_validator(mode="after")
    def _can_be_said(self) -> Numerals:
        for name, (first, last) in self.files.items():
            if not 1 <= first <= last <= 999_999:
                raise ValueError(f"files.{name}: from 1 to 999999, the first not above the last")
        if self.faults and self.faults not in self.files:
            raise ValueError(f"faults are planted in a file: {', '.join(self.files)}; not in {self.faults!r}")
        return self


def in_words(number: int) -> str:
    """A number from 1 to 999,999 without `and` and without hyphens."""
    if number >= 1000:
        rest = number % 1000
        return f"{in_words(number // 1000)} thousand" + (f" {in_words(rest)}" if rest else "")
    if number >= 100:
        rest = number % 100
        return f"{SMALL[number // 100]} hundred" + (f" {in_words(rest)}" if rest else "")
    if number >= 20:
        return TENS[number // 10 - 2] + (f" {SMALL[number % 10]}" if number % 10 else "")
    return SMALL[number]


def draw_numerals(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive of counting; every line ends with a blank, as published."""
    checked = Numerals.model_validate(dict(settings))
    return [write_archive(folder / checked.file, _files(checked))]


def _files(settings: Numerals) -> Iterator[tuple[str, bytes]]:
    for name, (first, last) in settings.files.items():
        lines = [f"{in_words(number)} ".encode() for number in range(first, last + 1)]
        if name == settings.faults:
            for place, line in enumerate(_planted(settings), start=1):
                lines.insert(place * len(lines) // 8, line)
        yield name, b"".join(line + b"\n" for line in lines)


def _planted(settings: Numerals) -> list[bytes]:
    """A line for every reason for which one is left out."""
    return [
        b"",  # empty text
        b"\x07\x08\x0e",  # control characters only
        b"<br /> <br />",  # no tokens
        b"one " * (settings.most // 4 + 1),  # too long
        "quarante-deux, façon latin-1".encode("latin-1"),  # not in the encoding
        f"{in_words(1)} ".encode(),  # a duplicate
    ]
