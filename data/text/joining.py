"""Tokens back to text that a person would write.

An exported model carries this file and loads it by its path, so it imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Iterable

HIDDEN = ("xxpad", "xxeos", "xxfld")
CLOSING = frozenset(".,;:!?)]}%") | {"n't", "'s", "'m", "'d", "'re", "'ve", "'ll", "..", "..."}
OPENING = frozenset("([{$#")


def join(tokens: Iterable[str], *, tokenizer: str, separator: str = "", **others: object) -> str:
    """The text of some tokens; the options are those of `rules.tokenise`. A document's beginning becomes a
    line end; what cannot be undone (`xxunk`) stays as it is."""
    kept = [token for token in tokens if token not in HIDDEN]
    if tokenizer == "characters":
        return "".join("\n" if token == "xxbos" else token for token in kept)
    if tokenizer == "split":
        lines: list[list[str]] = [[]]
        for token in kept:
            if token == "xxbos":
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join((separator or " ").join(line) for line in lines)
    return _prose(kept)


def _prose(tokens: list[str]) -> str:
    """Words with their capitals, repetitions and spaces."""
    text, held, glue = "", "", True
    waiting = iter(tokens)
    for token in waiting:
        if token in ("xxmaj", "xxup"):
            held = token
            continue
        if token == "xxbos":
            text, glue = text + "\n\n", True
            continue
        if token in ("xxrep", "xxwrep"):
            count, what = next(waiting, ""), next(waiting, "")
            times = min(int(count), 99) if count.isdecimal() else 1
            token = what * times if token == "xxrep" else " ".join([what] * times)
        if held:
            token = token.upper() if held == "xxup" else token[:1].upper() + token[1:]
            held = ""
        attached = glue or token.lower() in CLOSING or token == "\n"
        text += token if attached else f" {token}"
        glue = token in OPENING or token == "\n"
    return text.strip("\n")
