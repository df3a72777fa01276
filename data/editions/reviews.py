"""Editions of review data sets: opinions by a small grammar in which the order of the words decides."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from data.editions.archives import write_archive

SEED = 20181112
"""Of every text (the day on which lesson 4 of the 2019 course was taught)."""

ASPECTS = (
    "plot", "story", "acting", "music", "ending", "dialogue", "cast", "camera work", "first half", "script",
    "direction", "pace",
)  # fmt: skip
GOOD = ("wonderful", "moving", "clever", "funny", "gripping", "charming", "brilliant", "fresh")
BAD = ("boring", "dull", "silly", "weak", "awful", "predictable", "clumsy", "tiresome")
HOW = ("", "", "", "really ", "quite ", "very ", "rather ")
NOT = ("was not {}", "wasn't {}", "was never {}", "was anything but {}", "was hardly {}")
PRAISE = ("I loved it", "I would watch it again", "Go and see it", "Well worth the money")
BLAME = ("I hated it", "I left early", "Stay away from it", "A waste of an evening")
PLAIN = (
    "I saw it with my sister on a rainy Sunday.",
    "It runs for about {number} minutes.",
    "The film is set in a small town in {year}.",
    "<br /><br />My neighbour had lent me the DVD/video.",
    'The poster says "{number} weeks in the cinema" &amp; a lot more.',
    "There were {number} people in the room.",
    "A friend of mine knows the book (published in {year}).",
    "It was on TV last night, at 10:30 I think...",
)


class Reviews(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Reviews: how many, how plain, under which names."""

    file: str
    """Name of the archive."""
    path: str = ""
    """Name of a review inside, with `{part}`, `{label}`, `{number}` and `{rating}`; empty: a table."""
    table: str = ""
    """Name of a table `label,text,is_valid` inside, in the place of single files."""
    parts: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Reviews of each class by the folder that stands for `{part}`; of a table `train` and `valid`."""
    labels: Annotated[tuple[str, str], Field(strict=False)] = ("pos", "neg")
    """Names of praise and blame."""
    unlabelled: str = ""
    """Name of a review of either kind without a label, with `{number}`."""
    unlabelled_count: int = Field(default=0, ge=0)
    """How many of those."""
    negated: float = Field(default=0.3, ge=0, le=1)
    """Share of the opinions that are said by denying the opposite: at 0.5 single words tell nothing."""
    sure: float = Field(default=0.85, ge=0.5, le=1)
    """Share of the opinions that agree with the review's label."""
    faults: str = ""
    """Part in which faults are planted; empty: none."""
    seed: int = Field(default=SEED, ge=0)
    """Of the texts."""


def opinion(good: bool, settings: Reviews, rng: np.random.Generator) -> str:
    """One sentence about one aspect."""
    denied = rng.random() < settings.negated
    word = _one(rng, GOOD if good != denied else BAD)
    said = _one(rng, NOT).format(word) if denied else f"was {_one(rng, HOW)}{word}"
    return f"The {_one(rng, ASPECTS)} {said}"


def review(good: bool, settings: Reviews, rng: np.random.Generator) -> str:
    """Three to six sentences of opinion with something plain between them, and here and there a verdict."""
    sentences = []
    for _ in range(int(rng.integers(3, 7))):
        agrees = good if rng.random() < settings.sure else not good
        sentence = opinion(agrees, settings, rng)
        if rng.random() < 0.2:  # what stands after `but` is another opinion of either kind
            sentence += ", but " + opinion(good, settings, rng).replace("The ", "the ", 1)
        sentences.append(sentence + _one(rng, (".", ".", ".", "!", "!!!!!")))
        if rng.random() < 0.4:
            numbers = {"number": int(rng.integers(60, 200)), "year": int(rng.integers(1930, 2010))}
            sentences.append(_one(rng, PLAIN).format(**numbers))
    if rng.random() < 0.15:
        verdict = _one(rng, PRAISE if good else BLAME)
        sentences.append((verdict.upper() if rng.random() < 0.3 else verdict) + ".")
    return " ".join(sentences)


def written(settings: Reviews) -> Iterator[tuple[str, str, int, str]]:
    """Part, label, number and text of every sound review."""
    for place, (part, count) in enumerate(settings.parts.items()):
        for index, label in enumerate(settings.labels):
            for number in range(count):
                rng = np.random.default_rng([settings.seed, place, index, number])
                yield part, label, number, review(index == 0, settings, rng)


def files(settings: Reviews) -> Iterator[tuple[str, bytes]]:
    """Every file of the edition by its name, faults included."""
    if settings.table:
        yield settings.table, table(settings)
        return
    good, _ = settings.labels
    for part, label, number, text in written(settings):
        rng = np.random.default_rng([settings.seed, 1000, number])
        rating = int(rng.integers(7, 11) if label == good else rng.integers(1, 5))
        name = settings.path.format(part=part, label=label, number=number, rating=rating)
        yield name, text.encode()
    for number in range(settings.unlabelled_count):
        rng = np.random.default_rng([settings.seed, 2000, number])
        text = review(bool(rng.random() < 0.5), settings, rng)
        yield settings.unlabelled.format(number=number), text.encode()
    if settings.faults:
        yield from planted(settings)


def planted(settings: Reviews) -> Iterator[tuple[str, bytes]]:
    """Broken texts, copies and a text beside the classes, numbered from 90001."""
    good, bad = settings.labels
    part = settings.faults
    others = [name for name in settings.parts if name != part]

    def text(number: int) -> bytes:
        return review(True, settings, np.random.default_rng([settings.seed, 3000, number])).encode()

    def named(label: str, number: int, part: str = part) -> str:
        return settings.path.format(part=part, label=label, number=number, rating=9)

    contents = [
        (good, b""),
        (good, b" \n\t \n"),
        (good, b"\x00\x01\x02\x07\x1b"),
        (good, b"<br /><br />&nbsp;<br />"),
        (good, "Un film très drôle, vu à Orléans.".encode("latin-1")),
        (good, b"So long that nobody reads it. " * 2000),
        (good, text(0)),
        (good, text(0)),  # the same once more
        (good, text(1)),
        (bad, text(1)),  # the same under another label
        (good, text(2)),
    ]
    for number, (label, content) in enumerate(contents, start=90001):
        yield named(label, number), content
    for other in others:
        yield named(good, 90012, other), text(2)  # in two parts
    inside = Path(named(good, 90013))
    yield (inside.parent.parent / inside.name).as_posix(), text(3)  # in no class's folder
    yield (inside.parent.parent / "labeledBow.feat").as_posix(), b"9 0:9 1:1 2:4\n"
    yield f"{inside.parts[0]}/README", b"Reviews by a grammar, in the folders of a published data set.\n"


def table(settings: Reviews) -> bytes:
    """All reviews as `label,text,is_valid`, with a row for each fault that a table can have."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["label", "text", "is_valid"])
    rows = [(label, text, str(part == "valid")) for part, label, _, text in written(settings)]
    order = np.random.default_rng([settings.seed, 4000]).permutation(len(rows))
    writer.writerows(rows[place] for place in order.tolist())
    if settings.faults:
        good, bad = settings.labels
        writer.writerows(
            [
                (good, "", "False"),
                (good, "\x01\x02", "False"),
                (good, "<br />", "False"),
                (good, "So long that nobody reads it. " * 2000, "False"),
                ("", "The plot was clever.", "False"),
                (good, "The plot was clever.", "perhaps"),
                (good, "The cast was fresh.", "False"),
                (good, "The cast was fresh.", "False"),
                (good, "The music was quite fine.", "False"),
                (bad, "The music was quite fine.", "False"),
                (good, "One field too many", "False", "here"),
            ]
        )
    content = buffer.getvalue().encode()
    return content + (b"pos,Tr\xe8s dr\xf4le,False\n" if settings.faults else b"")


def draw_reviews(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive of reviews."""
    checked = Reviews.model_validate(dict(settings))
    return [write_archive(folder / checked.file, files(checked))]


def _one(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]
