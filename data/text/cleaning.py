"""Published texts to rows: a file each, a table, a line each, or one long file in passages."""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import BaseModel, Field, model_validator

from data.archives import Member, Raw
from data.examples import INDEX, Reject
from data.text.rules import is_blank, sound, visible

Part = Literal["train", "valid", "test"]

USED = {
    "documents": {"files", "parts", "labels", "level", "unlabelled"},
    "table": {"files", "table", "text", "label", "id", "validity"},
    "lines": {"files", "parts"},
    "passages": {"files", "parts", "passage"},
}
"""Settings that only some layouts look at."""

TRUE, FALSE = {"true", "1", "yes", "valid"}, {"false", "0", "no", "train"}
"""What a column of validity says, in any case."""

SIDECARS = ("readme", "license", "licence")
"""Beginnings of names of files that a publisher puts beside the documents."""


class TextCleaning(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The `clean` block of a problem whose examples are texts."""

    layout: Literal["documents", "table", "lines", "passages"] = "documents"
    """`documents`: one file each; `table`: a row each of a CSV; `lines`: a line each; `passages`: one long
    file, cut at line ends."""
    files: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Folders (`reviews/train/`) or globs (`*.text`; `*` also crosses folders) that are read; the others are
    ignored and counted. Empty: everything. Of a folder, documents are its `.txt` files."""
    parts: dict[str, Part] = {}
    """Published parts by folder at any depth or by file name, e.g. `{train: train, test: valid}`."""
    labels: Literal["folder", "none"] = "folder"
    """documents: the label is the name of a folder, or there is none (language models)."""
    level: int = Field(default=1, ge=1)
    """documents: 1 is the folder that holds the file, 2 the one above, and so on."""
    unlabelled: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """documents: folders whose texts carry no label (`unsup`); without a part of their own they become the
    test part."""
    table: str = ""
    """table: the CSV (or TSV), inside the archive or beside it; leading folders may be left out. Empty: the
    only one there is."""
    text: str = "text"
    """table: column of the text."""
    label: str = "label"
    """table: column of the label; empty: there is none (language models)."""
    id: str = ""
    """table: column of the example's name; empty: the number of the row."""
    validity: str = ""
    """table: column that says whether a row belongs to the validation part (`is_valid`: True or False)."""
    passage: int = Field(default=2_000, ge=1)
    """passages: characters at least before the next line end cuts."""
    encoding: str = "utf-8"
    """How characters are written, e.g. latin-1."""
    most: int = Field(default=200_000, ge=1)
    """Characters above which a text is rejected (the longest review of the course's has 13,704)."""

    @model_validator(mode="after")
    def _only_what_has_an_effect(self) -> Self:
        special = set().union(*USED.values())
        for setting in sorted(self.model_fields_set & special - USED[self.layout]):
            raise ValueError(f"{setting} has no effect with `layout: {self.layout}`")
        if self.labels == "none" and (self.unlabelled or "level" in self.model_fields_set):
            raise ValueError("unlabelled and level have no effect with `labels: none`")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding: Python knows no {self.encoding!r}") from None
        return self


def text_schema() -> pa.Schema:
    """Columns of a text example."""
    return pa.schema([*INDEX, pa.field("text", pa.string(), nullable=False)])


def clean_texts(raw: Raw, block: TextCleaning) -> Iterator[dict[str, Any] | Reject]:
    """Rows of `text_schema` and rejects, in the order of the archive.

    Reasons: `empty text`, `control characters only`, `no tokens` (nothing that can be seen), `too long`,
    `not in the encoding`, `no label`, `wrong number of fields` (a row with more or fewer than the header) and
    `unknown validity`. Line ends become `\\n`. ValueError where no text is found, or none with a label
    where labels are wanted.
    """
    found = labelled = 0
    readers = {"documents": _documents, "table": _table, "lines": _lines, "passages": _passages}
    for row in readers[block.layout](raw, block):
        if isinstance(row, dict):
            found += 1
            labelled += row["label"] is not None
        yield row
    wanted = bool(block.label) if block.layout == "table" else block.labels == "folder"
    if found and not labelled and wanted and block.layout in ("documents", "table"):
        raise ValueError(f"none of the {found} texts has a label; look at clean.labels and clean.unlabelled")


def row_of(
    item_id: str, content: bytes | str, block: TextCleaning, *, label: str | None, part: str | None,
    place: bool = False,
) -> dict[str, Any] | Reject:  # fmt: skip
    """One text as a row, or why it is left out. `place`: where it stands is part of what it is, so that a
    text that repeats itself is not cut (passages of a book)."""
    if isinstance(content, bytes):
        try:
            content = content.decode(block.encoding)
        except UnicodeDecodeError as error:
            detail = f"{error.reason} at byte {error.start}; clean.encoding is {block.encoding}"
            return Reject(item_id, "not in the encoding", detail)
    text = sound(content)
    if not is_sound_unicode(text):
        return Reject(item_id, "not in the encoding", f"clean.encoding is {block.encoding}")
    if not text.strip():
        return Reject(item_id, "empty text", f"{len(text)} characters, none but white space")
    if len(text) > block.most:
        return Reject(item_id, "too long", f"{len(text):,} characters, clean.most is {block.most:,}")
    if not visible(text):
        return Reject(
            item_id, "control characters only", f"{len(text)} characters, e.g. {text.strip()[:5]!r}"
        )
    if is_blank(text):
        return Reject(item_id, "no tokens", f"nothing is left of {text.strip()[:40]!r} without its HTML")
    made_of = f"{item_id}\n{text}" if place else text
    return {
        "item_id": item_id, "label": label, "part": part, "group": None, "time": None,
        "digest": hashlib.sha256(made_of.encode()).hexdigest(), "text": text,
    }  # fmt: skip


def is_sound_unicode(text: str) -> bool:
    """Whether all of it can be stored: halves of characters stand for bytes that were in no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _chosen(raw: Raw, block: TextCleaning, *, suffix: str = "") -> Iterator[Member]:
    """The files that are read; the others are counted."""
    found = 0
    for member in raw.members():
        path = PurePosixPath(member.name)
        if block.files and not any(_fits(member.name, each) for each in block.files):
            raw.ignore(f"outside clean.files: {'/'.join(path.parts[:2][: len(path.parts) - 1]) or path.name}")
        elif suffix and path.suffix.lower() != suffix and not any(map(_is_glob, block.files)):
            raw.ignore(f"no {suffix} file: *{path.suffix.lower()}")
        elif not block.files and path.name.lower().startswith(SIDECARS):
            raw.ignore("beside the texts: read me and licence")
        else:
            found += 1
            yield member
    if not found:
        raise ValueError(f"no file fits clean.files {list(block.files)} among {raw.ignored.total()} files")


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _fits(name: str, pattern: str) -> bool:
    if _is_glob(pattern):
        return fnmatchcase(name, pattern)
    wanted = pattern.strip("/")
    return f"/{wanted}/" in f"/{name}/"


def _part(name: str, block: TextCleaning) -> Part | None:
    places = [(f"/{name}/".find(f"/{key.strip('/')}/"), part) for key, part in block.parts.items()]
    found = [place for place in places if place[0] >= 0]
    return min(found)[1] if found else None


def _documents(raw: Raw, block: TextCleaning) -> Iterator[dict[str, Any] | Reject]:
    for member in _chosen(raw, block, suffix=".txt"):
        folders = PurePosixPath(member.name).parent.parts
        part: Part | None = _part(member.name, block)
        label: str | None = None
        if any(_fits(member.name, folder) for folder in block.unlabelled):
            part = part or "test"
        elif block.labels == "folder":
            if len(folders) < block.level:
                detail = f"{len(folders)} folders above it, clean.level is {block.level}"
                yield Reject(member.name, "no label", detail)
                continue
            label = folders[-block.level]
            if any(label == PurePosixPath(key).name for key in block.parts):
                yield Reject(member.name, "no label", f"the folder {label!r} is a part, not a class")
                continue
        if member.size > 4 * block.most + 4:  # no encoding takes more bytes a character
            detail = f"{member.size:,} bytes, clean.most is {block.most:,} characters"
            yield Reject(member.name, "too long", detail)
            continue
        yield row_of(member.name, member.read(), block, label=label, part=part)


def _table(raw: Raw, block: TextCleaning) -> Iterator[dict[str, Any] | Reject]:
    file = block.table
    if not file:
        names = [each.name for each in raw.members() if each.name.lower().endswith((".csv", ".tsv"))]
        if len(names) != 1:
            raise ValueError(f"clean.table: name the table; there are {', '.join(sorted(names)) or 'none'}")
        file = names[0]
    content = raw.find(file)
    csv.field_size_limit(sys.maxsize)  # a text of any length is read, and rejected with its reason
    text = content.decode(block.encoding, "surrogateescape").removeprefix("\ufeff")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="\t" if file.lower().endswith(".tsv") else ","
    )
    header = next(reader, [])
    columns = {name: place for place, name in enumerate(header)}
    for setting in ("text", "label", "id", "validity"):
        if (name := getattr(block, setting)) and name not in columns:
            raise ValueError(
                f"{file} has no column {name!r} (clean.{setting}); it has {', '.join(header) or 'none'}"
            )
    digits = len(str(text.count("\n")))
    for number, fields in enumerate(reader, start=1):
        item_id = f"{PurePosixPath(file).name}:{number:0{digits}}"
        if not fields:
            continue
        if len(fields) != len(header):
            detail = f"{file}, row {number}: {len(fields)} fields, the header has {len(header)}"
            yield Reject(item_id, "wrong number of fields", detail)
            continue
        yield _table_row(item_id, {name: fields[place] for name, place in columns.items()}, block)


def _table_row(item_id: str, fields: dict[str, str], block: TextCleaning) -> dict[str, Any] | Reject:
    item_id = _sound(fields[block.id].strip()) or item_id if block.id else item_id
    part: Part | None = None
    if block.validity:
        said = fields[block.validity].strip().lower()
        if said not in TRUE | FALSE:
            detail = f"{block.validity} is {_sound(said)!r}, neither True nor False"
            return Reject(item_id, "unknown validity", detail)
        part = "valid" if said in TRUE else "train"
    label = _sound(fields[block.label].strip()) if block.label else None
    if label == "":
        return Reject(item_id, "no label", f"the column {block.label!r} is empty")
    return row_of(item_id, fields[block.text], block, label=label, part=part)


def _lines(raw: Raw, block: TextCleaning) -> Iterator[dict[str, Any] | Reject]:
    for member in _chosen(raw, block):
        lines: list[Any] = (
            member.read().split(b"\n") if _is_ascii_based(block) else _decoded(member, block).split("\n")
        )
        if lines and not lines[-1]:
            lines = lines[:-1]  # what follows the last line end is no line
        digits = len(str(len(lines)))
        for number, line in enumerate(lines, start=1):
            item_id = f"{member.name}:{number:0{digits}}"
            line = line.removesuffix(b"\r" if isinstance(line, bytes) else "\r")
            yield row_of(item_id, line, block, label=None, part=_part(member.name, block))


def _passages(raw: Raw, block: TextCleaning) -> Iterator[dict[str, Any] | Reject]:
    for member in _chosen(raw, block):
        text = _decoded(member, block)
        cuts = list(_cuts(text, block.passage))
        digits = len(str(len(cuts)))
        for number, (start, end) in enumerate(cuts, start=1):
            item_id = f"{member.name}:{number:0{digits}}"
            part = _part(member.name, block)
            yield row_of(item_id, text[start:end], block, label=None, part=part, place=True)


def _cuts(text: str, characters: int) -> Iterator[tuple[int, int]]:
    """Runs of at least so many characters that end with a line, together the whole text."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + characters - 1) + 1 or len(text)
        yield start, end
        start = end


def _decoded(member: Member, block: TextCleaning) -> str:
    """The whole file as text. ValueError where it is not in the encoding: passages have no bytes."""
    try:
        text = member.read().decode(block.encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{member.name}: {error.reason} at byte {error.start}; clean.encoding is {block.encoding}"
        ) from None
    return sound(text)


def _is_ascii_based(block: TextCleaning) -> bool:
    """Whether a line end is the one byte that it is in ASCII."""
    return "\n".encode(block.encoding) == b"\n"


def _sound(text: str) -> str:
    """Without what Arrow could not store."""
    return text.encode("utf-8", "replace").decode()
