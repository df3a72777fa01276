"""Documents to tokens by the course's rules, in one process."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import OURS, PEER, Case, Round
from benchmarks.worker import SEED

DOCUMENTS = 10_000

CASES = [
    Case(
        name="tokens", title="documents to tokens", unit="documents", work=DOCUMENTS, rounds=3,
        sizes={"documents": DOCUMENTS, "words": 120, "vocabulary": 20_000}, goals={PEER: 5},
        note="The check counts the tokens and sums them up: equal checks are equal tokens.",
    )
]  # fmt: skip

SYLLABLES = (
    "an", "be", "co", "de", "er", "fi", "gra", "ho", "in", "ja", "kin", "lo", "me", "no", "or", "pre", "qui",
    "re", "sta", "th", "un", "ver", "wo", "ing", "tion", "ly", "ed",
)  # fmt: skip
FREQUENT = ("the", "of", "and", "to", "a", "in", "is", "it", "that", "was", "I", "don't", "it's")


def make(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Sentences of words by Zipf's law, with capitals, numbers, commas and hyphens.

    No word comes twice running and no mark follows a single letter: there the rules of 2019, which are this
    project's, and those of fastai 2 differ.
    """
    draw = np.random.default_rng(SEED)
    made = {"".join(draw.choice(SYLLABLES, draw.integers(1, 4))) for _ in range(sizes["vocabulary"])}
    made -= {"thered", "colo"}  # to spaCy, there'd without its apostrophe, and Colorado before a dot
    words = [*FREQUENT, *draw.permutation(sorted(made)).tolist()]
    texts = []
    for length in draw.integers(sizes["words"] // 2, sizes["words"] * 3 // 2, sizes["documents"]).tolist():
        drawn = [words[place] for place in (draw.zipf(1.25, length) % len(words)).tolist()]
        kept = [word for last, word in pairwise(["", *drawn]) if word != last]
        texts.append(" ".join(_written(kept, draw)))
    (folder / "texts.json").write_text(json.dumps(texts))


def _written(words: Sequence[str], draw: np.random.Generator) -> Iterator[str]:
    """Words as they stand in a text."""
    opens = True
    for word, look, mark in zip(words, *draw.random((2, len(words))).tolist(), strict=True):
        if look < 0.01:
            yield str(int(look * 1e4))
        elif len(word) == 1 or not word.isalpha():
            yield word
        elif look < 0.02:
            yield word.upper()
        else:
            ends = "." if mark < 0.07 else "," if mark < 0.12 else "-like" if mark > 0.995 else ""
            yield (word.capitalize() if opens else word) + ends
            opens = ends == "."


def _load(folder: Path) -> list[str]:
    return list(json.loads((folder / "texts.json").read_text()))


def _sum_up(documents: Iterable[Iterable[str]]) -> str:
    """The number of tokens and a sum over them."""
    count, total = 0, 0
    for tokens in documents:
        held = list(tokens)
        count, total = count + len(held), zlib.crc32("\0".join(held).encode(), total)
    return f"{count:,} tokens, {total:08x}"


def ours(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The rules of the recipes."""
    from data.text.rules import tokenise

    texts = _load(folder)
    return lambda: lambda: _sum_up(tokenise(texts))


def fastai(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Its default rules around spaCy's splitter."""
    from fastai.text.core import WordTokenizer, parallel_tokenize

    texts, splitter = _load(folder), WordTokenizer()
    return lambda: lambda: _sum_up(tokens for _, tokens in parallel_tokenize(texts, splitter, n_workers=0))


VARIANTS = {OURS: ours, PEER: fastai}
