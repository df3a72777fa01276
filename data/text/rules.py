"""Text to tokens by the rules of the course (fastai v1): regular expressions, and no library beyond Python.

An exported model carries this file and loads it by its path, so it imports nothing of the project.

The order is the course's: `fix_html`, `xxrep n c` for four and more equal characters, `xxwrep n w` for four
and more equal words, spaces around `/` and `#`, collapsed spaces, then the split into words, then `xxup`
before what was in capitals and `xxmaj` before what was capitalised, all in lower case. Words are split like
spaCy's English ones in all that is common (`do n't`, `it 's`, `well - known`, `U.S.`), by one expression in
its place. A run of line breaks is one token, the line break.

What stands between two spaces is worked out once and looked up after that: texts repeat themselves, and no
rule but `fix_html` and `xxwrep` looks beyond a space.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise

VERSION = 1
"""Raised when the same text gives other tokens than before."""

UNK, PAD, BOS, EOS, FLD = "xxunk", "xxpad", "xxbos", "xxeos", "xxfld"
MAJ, UP, REP, WREP = "xxmaj", "xxup", "xxrep", "xxwrep"
SPECIALS = (UNK, PAD, BOS, EOS, FLD, MAJ, UP, REP, WREP)
"""The special tokens in the order in which they open every vocabulary (fastai v1)."""

KNOWN = 1 << 18
"""Pieces between spaces that are remembered at most: some 60 MB."""

ENTITIES = (
    ("#39;", "'"), ("amp;", "&"), ("#146;", "'"), ("nbsp;", " "), ("#36;", "$"), ("\\n", "\n"),
    ("quot;", "'"), ("<br />", "\n"), ('\\"', '"'), ("<unk>", UNK), (" @.@ ", "."), (" @-@ ", "-"),
    (" @,@ ", ","), ("\\", " \\ "),
)  # fmt: skip
"""What the course repairs before it unescapes HTML, in this order."""

BREAKS = re.compile(r"\s*\n\s*")
REPEATED = re.compile(r"(\S)(\1{3,})")
REPEATED_WORD = re.compile(r"(\b\w+\W+)(\1{3,})")
SLASHES = re.compile(r"([/#])")
MARKS = re.compile(r"[^\w\s]")
APART = re.compile(
    r"""
    xx(?:unk|pad|bos|eos|fld|maj|up|rep|wrep)\b            # the special tokens themselves
    | https?://\S+ | www\.\S+                              # addresses
    | (?:[A-Za-z]\.){2,}                                   # U.S., a.m., e.g.
    | (?:[Mm]rs?|[Mm]s|[Dd]r|[Ss]t|[Jj]r|[Ss]r|[Pp]rof|[Gg]en)\.
    | (?:[Cc]apt|[Ll]t|[Ss]gt|[Rr]ev|[Vv]s|[Ee]tc|[Cc]o)\.
    | [:;=8][-^o']?[()\[\]DPp|3](?!\w)                     # smileys
    | \d+(?:[.,:]\d+)+ | \d+                               # 1,000.50 and 10:30; 10pm is two
    | \b(?:[Cc]an(?=not\b)|[Gg]on(?=na\b)|[Gg]ot(?=ta\b)) # can not, gon na
    | \w+?(?=[Nn]['’][Tt]\b) | [Nn]['’][Tt]\b              # do n't
    | ['’](?:[Ss]|[Mm]|[Dd]|[Rr][Ee]|[Vv][Ee]|[Ll][Ll])\b  # it 's
    | \w+
    | \.{2,} | -{2,}                                       # dots and dashes of any length
    | [^\w\s]
    """,
    re.VERBOSE,
)
"""One word or mark of a piece between spaces."""


def tokenise(
    texts: Iterable[str],
    *,
    tokenizer: str = "words",
    separator: str = "",
    begin: bool = True,
    lower: bool = False,
) -> Iterator[list[str]]:
    """The tokens of each text, in order. `tokenizer`: words, characters or split (`settings.Tokenizer`)."""
    first = [BOS] if begin else []
    if tokenizer == "words":
        known: dict[str, tuple[str, ...]] = {"": ()}
        for text in texts:
            yield first + words(text, known)
            if len(known) > KNOWN:
                known = {"": ()}
    elif tokenizer == "characters":
        for text in texts:
            yield first + list(text.lower() if lower else text)
    elif tokenizer == "split":
        for text in texts:
            found = (text.lower() if lower else text).split(separator or None)
            yield first + [each for each in found if each]
    else:
        raise ValueError(f"tokenizer {tokenizer!r}: there are words, characters and split")


def words(text: str, known: dict[str, tuple[str, ...]]) -> list[str]:
    """The tokens of one text by the course's rules; `known` remembers those of pieces between spaces."""
    text = fix_html(text)
    if "\n" in text:
        text = BREAKS.sub(" \n ", text.strip())
    pieces = text.split(" ")
    if may_repeat(pieces):
        pieces = replace_words(replace_characters(text)).split(" ")
    tokens: list[str] = []
    extend, find = tokens.extend, known.get
    for piece in pieces:
        found = find(piece)
        if found is None:
            found = known[piece] = split_piece(piece)
        extend(found)
    return tokens


def may_repeat(pieces: list[str]) -> bool:
    """Whether `xxwrep` has anything to look at: four equal words with spaces between them make two equal
    pieces side by side, or three with a mark or another space between each two."""
    if any(left == right and left for left, right in pairwise(pieces)):
        return True
    return any(
        one == two == three and one for one, two, three in zip(pieces, pieces[2:], pieces[4:], strict=False)
    )


def fix_html(text: str) -> str:
    """Entities and marks of HTML and of old corpora as the characters that they stand for."""
    for mark, character in ENTITIES:
        if mark in text:
            text = text.replace(mark, character)
    return html.unescape(text) if "&" in text else text


def replace_characters(text: str) -> str:
    """`cccc` as `xxrep 4 c`."""
    return REPEATED.sub(lambda found: f" {REP} {len(found[2]) + 1} {found[1]} ", text)


def replace_words(text: str) -> str:
    """`word word word word ` as `xxwrep 4 word`."""
    return REPEATED_WORD.sub(lambda found: f" {WREP} {len(found[2]) // len(found[1]) + 1} {found[1]} ", text)


def split_piece(piece: str) -> tuple[str, ...]:
    """The tokens of what stands between two spaces."""
    if piece == "\n":
        return ("\n",)
    piece = SLASHES.sub(r" \1 ", replace_words(replace_characters(piece)))
    return tuple(token for word in APART.findall(piece) if visible(word) for token in lowered(word))


def lowered(word: str) -> tuple[str, ...]:
    """The word in lower case, after the token that says how it was written."""
    if len(word) > 1:
        if word.isupper():
            return UP, word.lower()
        if word[0].isupper() and word[1:].islower():
            return MAJ, word.lower()
    return (word.lower(),)


def visible(text: str) -> bool:
    """Whether anything in it can be seen: neither control nor format characters."""
    return (text.isascii() and text.isprintable()) or any(is_seen(each) for each in text)


def is_seen(character: str) -> bool:
    """Whether it is neither white space nor invisible."""
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn")


def is_blank(text: str) -> bool:
    """Whether no token but line breaks is left of a text once HTML is undone."""
    return not any(is_seen(each) for each in fix_html(html.unescape(text)))


def sound(text: str) -> str:
    """A text as `clean` stores it: no byte order mark, line ends of one kind."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
