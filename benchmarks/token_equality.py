"""How many documents are split into the same words as by spaCy, which the course's library asks.

`PEER/bin/python -m benchmarks.token_equality FOLDER`, with a Python that has spaCy, and a folder of `.txt`.
The rules around the split (entities, repetitions, capitals) are this project's on both sides, in the order
of 2019.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.text import rules


def ours(text: str) -> list[str]:
    """By this project's rules; a run of line breaks is one."""
    seen = "".join(each if rules.is_seen(each) or each in " \n" else " " for each in text)
    pieces = rules.BREAKS.sub(" \n ", seen).split(" ")
    return [word for piece in pieces for word in (["\n"] if piece == "\n" else rules.split_words(piece))]


def theirs(text: str, splitter: Any) -> list[str]:
    """By spaCy; other white space than line breaks is no token here."""
    words = [token.text for token in splitter(text)]
    return [word if word.strip() else "\n" for word in words if word.strip() or "\n" in word]


def documents(folder: Path) -> Iterator[str]:
    """Every `.txt` below a folder, after the rules that come before the split."""
    for path in sorted(folder.rglob("*.txt")):
        text = rules.fix_html(rules.sound(path.read_text()))
        text = rules.SLASHES.sub(r" \1 ", rules.replace_words(rules.replace_characters(text)))
        yield re.sub(" {2,}", " ", text)


def main() -> None:
    """Prints the figures."""
    import spacy
    from spacy.attrs import ORTH

    splitter = spacy.blank("en").tokenizer
    for name in rules.SPECIALS:
        splitter.add_special_case(name, [{ORTH: name}])
    equal = count = words = 0
    for text in documents(Path(sys.argv[1])):
        wanted = theirs(text, splitter)
        count, words, equal = count + 1, words + len(wanted), equal + (ours(text) == wanted)
    print(f"{equal:,} of {count:,} documents ({words:,} words) are split alike: {equal / count:.2%}")


if __name__ == "__main__":
    main()
