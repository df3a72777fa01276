"""Editions of one long text: sentences that agree with themselves over many words, wrapped like a book."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

SEED = 18441015
"""Of the text (Friedrich Nietzsche was born on that day)."""

NOUNS = [
    "philosopher",
    "star",
    "river",
    "mountain",
    "poet",
    "dancer",
    "truth",
    "lantern",
    "mask",
    "shadow",
    "wanderer",
    "riddle",
    "bridge",
    "child",
]
VERBS = ["love", "follow", "forget", "honour", "measure", "seek", "mock", "carry", "praise", "question"]
WAYS = ("quietly", "again", "gladly", "in vain", "at noon", "without a reason", "before dawn", "too often")
ADJECTIVES = ["old", "silent", "proud", "free", "noble", "tired", "subtle", "cruel", "distant", "merry"]
LINKS = ("and therefore", "but", "although", "because", "so that", "while")
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV")


class Prose(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """A book in one file."""

    file: str
    """Name of the file."""
    characters: int = Field(default=60_000, ge=1_000)
    """Characters at least."""
    faults: int = Field(default=0, ge=0)
    """Characters of a passage of the `clean` block: faults that fill whole passages are planted; 0: none."""
    most: int = Field(default=2_000, ge=1)
    """Characters that the `clean` block allows: the line that is too long has more."""
    seed: int = Field(default=SEED, ge=0)
    """Of the text."""


def draw_prose(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """One text file in UTF-8."""
    checked = Prose.model_validate(dict(settings))
    random = np.random.default_rng(checked.seed)
    parts: list[str] = []
    length = 0
    for chapter in _chapters(random):
        parts.append(chapter)
        length += len(chapter)
        if length >= checked.characters:
            break
    if checked.faults:
        parts[len(parts) // 3 : len(parts) // 3] = _planted(checked)
    path = folder / checked.file
    path.write_bytes("".join(parts).encode())
    return [path]


def _chapters(random: np.random.Generator) -> Iterator[str]:
    """Chapters without end, each with a heading and some paragraphs."""
    number = 0
    while True:
        heading = f"CHAPTER {ROMAN[number % len(ROMAN)]}\n\n\n"
        paragraphs = []
        for place in range(1, int(random.integers(3, 7))):
            sentences = " ".join(_sentence(random) for _ in range(int(random.integers(3, 7))))
            paragraphs.append(textwrap.fill(f"{place}. {sentences}", 64) + "\n\n")
        yield heading + "".join(paragraphs) + "\n"
        number += 1


def _sentence(random: np.random.Generator) -> str:
    """One sentence. Verb and pronoun agree with a noun that stands some words before them, and a quotation
    that opens is closed: what the last character alone does not tell."""
    many = bool(random.random() < 0.5)
    subject = _nouns(random, many=many)
    verb = _one(random, VERBS) + ("" if many else "s")
    text = f"{subject} {verb} {_nouns(random, many=bool(random.random() < 0.5))}"
    if random.random() < 0.5:
        own = "their" if many else "its"
        other = _one(random, VERBS) + ("" if many else "s")
        text += f" {_one(random, LINKS)} {other} {own} {_one(random, ADJECTIVES)} {_one(random, NOUNS)}"
    if random.random() < 0.4:
        text += f" {_one(random, WAYS)}"
    text = text[0].upper() + text[1:]
    if random.random() < 0.2:
        return f'"{text}!"'
    return text + ("?" if random.random() < 0.1 else ".")


def _nouns(random: np.random.Generator, *, many: bool) -> str:
    adjective = f" {_one(random, ADJECTIVES)}" if random.random() < 0.5 else ""
    noun = _one(random, NOUNS)
    if many:
        return f"these{adjective} {'children' if noun == 'child' else noun + 's'}"
    return f"this{adjective} {noun}"


def _one(random: np.random.Generator, words: Any) -> str:
    return str(words[int(random.integers(len(words)))])


def _planted(settings: Prose) -> list[str]:
    """Stretches that fill at least one passage each, for every reason for which a passage is left out."""
    length = 3 * settings.faults  # so that a passage lies wholly inside, wherever the cuts fall
    return [
        "\n" * length,  # empty text
        "\x07\x08\n" * (length // 3),  # control characters only
        "<br /> <br />\n" * (length // 14),  # no tokens
        "so on and " * (settings.most // 5) + "\n",  # too long
    ]
