"""Text to tokens by the rules of the course (fastai v1): regular expressions, and no library beyond Python.

An exported model carries this file and loads it by its path, so it imports nothing of the project.

The order is the course's: `fix_html`, `xxrep n c` for four and more equal characters, `xxwrep n w` for four
and more equal words, spaces around `/` and `#`, collapsed spaces, then the split into words, then `xxup`
before what was in capitals and `xxmaj` before what was capitalised, all in lower case. Words are split like
spaCy's English ones (`do n't`, `it 's`, `well - known`, `U.S.`): marks are taken off a piece before and
behind, known words are left alone, the rest is parted at hyphens and the like. A run of line breaks is one
token, the line break.

What stands between two spaces is worked out once and looked up after that: texts repeat themselves, and no
rule but `fix_html` and `xxwrep` looks beyond a space.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise

VERSION = 2
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
QUOTES = r"'\"”“`‘´’‚„»«「」『』（）【】《》"
SIGNS = rf"[,:;!?¿¡()\[\]{{}}<>_#*&。？！，、；：～·…{QUOTES}]"
SYMBOLS = r"[¦©®°№℗™\u2190-\u2bff\U0001f000-\U0001faff]"
MONEY = r"(?:(?:US|C|A)?\$|[£€¥₹₽฿₴₩])"
UNITS = (
    r"(?:[kdcmnµ]?m[²³]?|ha|yd|in|ft|k?g|[mµ]g|t|lb|oz|m/s|km/h|mph|[hk]?Pa|mbar|mb|[MKkGgTt][Bb]|[TGMK]|%)"
)
"""Of measures: apart from the number before them."""
BEFORE = re.compile(rf"[§%=—–]|\+(?![0-9])|\.\.+|{SIGNS}|{SYMBOLS}|{MONEY}")
BEHIND = re.compile(
    rf"""(?: ['’][sS] | [—–] | \.\.+ | {SIGNS} | {SYMBOLS}
    | (?<=[0-9]) (?:\+|{MONEY}|{UNITS})
    | (?: (?<={SIGNS}) | (?<=[0-9%²+-]) | (?<=[^\W\d_A-Z]) | (?<=[A-Z][A-Z]) ) \.
    )$""",
    re.VERBOSE,
)
"""What is taken off a piece at its beginning and at its end, again and again."""
LONGEST = 6
"""Characters that `BEHIND` takes off at once, at most: runs of more than three dots are `xxrep` by then."""
INSIDE = re.compile(
    rf"""\.\.+ | … | {SYMBOLS}
    | (?<=[0-9]) [+\-*^] (?=[0-9-])
    | (?<=[a-zß-öø-ÿ{QUOTES}]) \. (?=[A-ZÀ-ÖØ-Þ{QUOTES}])
    | (?<=[^\W\d_]) , (?=[^\W\d_])
    | (?<=[^\W_]) (?:---|--|——|[-–—~]) (?=[^\W\d_])
    | (?<=[^\W_]) [:<>=/] (?=[^\W\d_])
    """,
    re.VERBOSE,
)
"""What parts the rest in two."""
ADDRESS = re.compile(r"(?:https?://|www\.)\S+|\w[\w.-]*\.(?:com|org|net|edu|gov|info|tv|uk|de|fr)(?:/\S*)?")
ABBREVIATIONS = frozenset((
    "Adm", "Ak", "Ala", "Apr", "Ariz", "Ark", "Aug", "Bros", "Calif", "Co", "Colo", "Conn", "Corp", "Dec",
    "Del", "Dr", "Feb", "Fla", "Ga", "Gen", "Gov", "Ia", "Id", "Ill", "Inc", "Ind", "Jan", "Jr", "Jul",
    "Jun", "Kan", "Kans", "Ky", "La", "Ltd", "Mar", "Mass", "Md", "Messrs", "Mich", "Minn", "Miss", "Mo",
    "Mont", "Mr", "Mrs", "Ms", "Mt", "Neb", "Nebr", "Nev", "Nov", "Oct", "Okla", "Ore", "Pa", "Ph.D",
    "Prof", "Rep", "Rev", "Sen", "Sep", "Sept", "St", "Tenn", "Va", "Wash", "Wis", "D.C", "N.C", "N.D",
    "N.H", "N.J", "N.M", "N.Y", "S.C", "E.G", "E.g", "I.E", "I.e", "a.m", "co", "e.g", "i.e", "p.m", "v.s",
    "vs",
))  # fmt: skip
"""Words that keep their dot, as a small letter alone does."""
KEPT = frozenset((
    "''", "'em", "'cause", "'cos", "'coz", "'cuz", "'bout", "'nuff", "ol'", "doin'", "goin'", "havin'",
    "lovin'", "nothin'", "nuthin'", "somethin'", "ma'am", "o'clock", "c++", "w/o", "and/or",
))  # fmt: skip
"""Words that keep their marks."""
SMILEY = re.compile(
    r"[:;=][-o'’]{0,2}(?:\){1,3}|\({1,3}|[\[\]{}DPpOoXx|/*>03])|8-?[)D]|[(\[][-o]?[:;=]|\)-?:|\]=|[xX]DD?"
    r"|<(?:3+|/3)|[oO0V^>][._][oO0V^<]"
)
ASKED = r"[Tt]hey|[Ww]e|[Yy]ou|[Tt]hese|[Tt]hose|[Tt]here|[Ww]hat|[Ww]hen|[Ww]here|[Ww]ho|[Ww]hy|[Hh]ow"
NAMED = r"[Ii]t|[Hh]e|[Ss]he|[Tt]his|[Tt]hat"
SHORT = re.compile(
    rf"""({NAMED}|[Tt]here|[Ww]hat|[Ww]hen|[Ww]here|[Ww]ho|[Ww]hy|[Hh]ow) (['’]?s)
    | ([Ii]) (['’]?m)
    | ({ASKED}) (['’]?re)
    | ({ASKED}|[Ii]) (['’]?ve)
    | ({ASKED}|{NAMED}|[Ii]) (['’]?(?:d|ll)) (['’]?ve)?
    | ([Aa]i|[Aa]re|[Cc]a|[Cc]ould|[Dd]are|[Dd]id|[Dd]oes|[Dd]o|[Hh]ad|[Hh]as|[Hh]ave|[Ii]s|[Mm]ay|[Mm]ight
       |[Mm]ust|[Nn]eed|[Oo]ught|[Ss]ha|[Ss]hould|[Ww]as|[Ww]ere|[Ww]o|[Ww]ould) (n['’]?t) (['’]?ve)?
    | ([Cc]ould|[Mm]ight|[Mm]ust|[Ss]hould|[Ww]ould|[Nn]ot) (['’]?ve)
    | (1[0-2]|[1-9]) ([ap]\.?m\.?)
    | ([Cc]an) (not) | ([Gg]on) (na) | ([Gg]ot) (ta) | ([Ll]et) (['’]s) | ([Yy]['’]) (all) | ([Cc]'m) (on)
    """,
    re.VERBOSE,
)
"""Two or three words that are written as one, with an apostrophe or without."""
ALIKE = frozenset((
    "ill", "hell", "shell", "well", "its", "were", "whore", "shed",
))  # fmt: skip
"""Words that only look like these."""
SHORT_ENOUGH = 16
"""Characters of the longest piece that may be one of those above."""


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
    if not (piece.isascii() and piece.isprintable()):
        piece = "".join(each if is_seen(each) else " " for each in piece)
    return tuple(token for part in piece.split() for word in split_words(part) for token in lowered(word))


def split_words(piece: str) -> list[str]:
    """The words and marks of a piece without spaces: first what stands before and behind, mark by mark, then
    what stands inside, unless the rest is known as a whole."""
    before: list[str] = []
    behind: list[str] = []
    start, end = 0, len(piece)
    known: tuple[str, ...] = ()
    while start < end and not (known := whole(piece, start, end)):
        first = BEFORE.match(piece, start, end)
        inner = first.end() if first else start
        if first and (known := whole(piece, inner, end)):
            before.append(piece[start:inner])
            break
        last = BEHIND.search(piece, max(inner, end - LONGEST), end)
        outer = last.start() if last else end
        if last and (known := whole(piece, start, outer)):
            behind.append(piece[outer:end])
            break
        if not first and not last:
            break
        before += [piece[start:inner]] if first else []
        behind += [piece[outer:end]] if last else []
        start, end = inner, outer
    return rejoined([*before, *(known or split_inside(piece[start:end])), *reversed(behind)])


def whole(piece: str, start: int, end: int) -> tuple[str, ...]:
    """The tokens of a part that the dictionaries above know, and nothing for any other."""
    if not 0 < end - start <= SHORT_ENOUGH:
        return ()
    word = piece[start:end]
    if word[-1] == "." and (word[:-1] in ABBREVIATIONS or (len(word) == 2 and word[0].islower())):
        return (word,)
    if word.lower() in KEPT or SMILEY.fullmatch(word):
        return (word,)
    found = SHORT.fullmatch(word)
    return tuple(filter(None, found.groups())) if found and word.lower() not in ALIKE else ()


def split_inside(rest: str) -> list[str]:
    """A word with nothing before or behind it, in its parts."""
    if not rest or rest.isalnum() or rest in SPECIALS or ADDRESS.fullmatch(rest):
        return [rest] if rest else []
    parts: list[str] = []
    start = 0
    for found in INSIDE.finditer(rest):
        parts += [rest[start : found.start()], found[0]]
        start = found.end()
    return [part for part in (*parts, rest[start:]) if part]


def rejoined(tokens: list[str]) -> list[str]:
    """Neighbours that are known as one, but were taken apart: smileys, and abbreviations inside a piece."""
    joints: list[str] = []
    place = 0
    while place < len(tokens):
        count = next((count for count in (3, 2) if belong(tokens[place : place + count], count)), 1)
        joints.append("".join(tokens[place : place + count]))
        place += count
    return joints


def belong(parts: list[str], count: int) -> bool:
    """Whether so many neighbours make one token."""
    joint = "".join(parts)
    if len(joint) == len(parts) == count:
        return joint == "''" or SMILEY.fullmatch(joint) is not None
    return len(parts) == count == 2 and parts[1] == "." and parts[0] in ABBREVIATIONS


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
    """Whether it is neither white space nor invisible; what cp1252 has in place of controls is a mark."""
    if "\x80" <= character <= "\x9f":
        return character != "\x85"  # a line break
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn")


def is_blank(text: str) -> bool:
    """Whether no token but line breaks is left of a text once HTML is undone."""
    return not any(is_seen(each) for each in fix_html(html.unescape(text)))


def sound(text: str) -> str:
    """A text as `clean` stores it: no byte order mark, line ends of one kind."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
