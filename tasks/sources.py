"""What is published where? `sources/NAME.yaml` as typed, frozen facts, and how a file is known."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from tasks.parameters import nearest

MIB = 2**20


class Digest(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One published digest of a file, hexadecimal. Exactly one field is given."""

    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the whole file."""
    sha256_prefix: str | None = Field(default=None, pattern=r"^[0-9a-f]{8,63}$")
    """The first digits of the same, as torchvision puts them into its file names."""
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    """Of the whole file, where nothing better was ever published."""
    md5_first_mib: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    """Of the first 2^20 bytes, as fastai checks it (course facts 0.2); counts together with the size."""

    @model_validator(mode="after")
    def _one(self) -> "Digest":
        if len(self.model_fields_set) != 1:
            raise ValueError("give one of sha256, sha256_prefix, md5, md5_first_mib")
        return self

    def __str__(self) -> str:
        (kind,) = self.model_fields_set
        return f"{kind} {getattr(self, kind)}"


class Further(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One more file of a source that is published as several. Fields as in `Source`."""

    file: str = Field(pattern=r"^[^/\\]+$")
    also: Annotated[tuple[str, ...], Field(strict=False)] = ()
    addresses: Annotated[tuple[str, ...], Field(strict=False)] = ()
    bytes: int | None = Field(default=None, gt=0)
    digest: Digest | None = None


class Source(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One published source: where its bytes are, how to know them, and on which terms."""

    name: str
    """The file's name without `.yaml`."""
    title: str
    """One line for lists and cards."""
    kind: Literal["archive", "url_lists", "weights"]
    """`archive`: one file of examples; `url_lists`: a zip with one list of addresses per class; `weights`: a
    state dict to start from. An archive without addresses is drawn in every edition."""
    file: str = Field(pattern=r"^[^/\\]+$")
    """Name under which the file is stored, and looked up in a mirror."""
    also: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Other names under which a mirror may hold the same content."""
    addresses: Annotated[tuple[str, ...], Field(strict=False)]
    """Where it is published, official first; the next one is tried when one fails."""
    bytes: int | None = Field(default=None, gt=0)
    """Size of the file: to check free disk before, and part of the check by `md5_first_mib`."""
    digest: Digest | None = None
    """How to know the file: it pins the source, other bytes at its addresses are an error."""
    follow: bool = False
    """In the place of a digest: whatever stands at the addresses is the source. A scheduled run looks whether
    it has changed, and fetches it anew."""
    more: Annotated[tuple[Further, ...], Field(strict=False)] = ()
    """Further files that belong to it; all are stored side by side and read as one."""
    login: str = ""
    """Where a person who has signed in gets the files (the page of a competition). Nothing is fetched from
    there: a mirror has them, or a folder of one's own."""
    archive: Literal["tgz", "tar", "tar.bz2", "tar.xz", "zip"] | None = None
    """Kind of archive."""
    examples: int | None = Field(default=None, gt=0)
    """Published number of examples, for the forecast only."""
    licence: str
    """Terms of use in a line."""
    non_commercial: bool
    """True asks for a recorded consent before the first byte is fetched."""
    citation: str = ""
    """Whom to cite."""
    homepage: str = ""
    """Where the publisher describes it."""
    generated: dict[str, Any] | None = None
    """`generator: NAME` of `data/editions` and its settings: what the sample edition draws instead."""
    completed: dict[str, Any] | None = None
    """For an archive without addresses of which a mirror may hold a part: `setting: NAME` of the generator
    that takes the part, and other settings in the place of `generated`'s. What is drawn around it is a
    stand-in."""

    @model_validator(mode="after")
    def _consistent(self) -> "Source":
        for address in self.addresses:
            if not address.startswith(("http://", "https://", "file://")):
                raise ValueError(f"addresses: {address!r} must begin with http://, https:// or file://")
        if self.follow and not (self.addresses and self.kind == "archive"):
            raise ValueError("follow: true needs addresses, and the kind archive")
        if self.follow and (self.digest or any(each.digest for each in self.more)):
            raise ValueError("a digest pins the source and follow: true does not; give one of the two")
        if self.addresses and self.digest is None and not self.follow:
            raise ValueError(
                "addresses need a digest (sha256, sha256_prefix, md5 or md5_first_mib), or follow: true"
            )
        if self.digest and self.digest.md5_first_mib and self.bytes is None:
            raise ValueError("md5_first_mib knows only the first MiB, so bytes must be given as well")
        if self.generated is not None and not isinstance(self.generated.get("generator"), str):
            raise ValueError("generated.generator is missing")
        if self.completed is not None and not (
            self.drawn_only and isinstance(self.completed.get("setting"), str)
        ):
            raise ValueError("completed needs `setting: NAME`, and an archive without addresses")
        if self.kind == "archive" and not (self.addresses or self.login or self.generated):
            raise ValueError("an archive needs addresses, or generated, or login")
        if self.more and self.kind != "archive":
            raise ValueError(f"more has no effect on the kind {self.kind}")
        return self

    @property
    def files(self) -> tuple["Source", ...]:
        """Itself, then one source for each further file, on the same terms."""
        further = (self.model_copy(update={**dict(each), "more": ()}) for each in self.more)
        return (self, *further)

    @property
    def drawn_only(self) -> bool:
        """Published nowhere and drawn in every edition."""
        return self.kind == "archive" and not self.addresses and not self.login


def load_source(path: Path) -> Source:
    """Read one `sources/NAME.yaml`. ValueError names the file, the field and the nearest valid name."""
    if not path.is_file():
        known = [each.stem for each in sorted(path.parent.glob("*.yaml"))] if path.parent.is_dir() else []
        raise ValueError(f"there is no source file {path}{nearest(path.stem, known)}")
    try:
        raw = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must be a mapping, not {type(raw).__name__}")
    try:
        source = Source.model_validate(raw)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(each, path) for each in error.errors())) from None
    if source.name != path.stem:
        raise ValueError(f"{path}: name is {source.name!r}, but must be the file's own, {path.stem!r}")
    return source


def _explain(error: Any, path: Path) -> str:
    *above, last = [*map(str, error["loc"])] or [""]
    where = f"{path}: {'.'.join([*above, last])}".removesuffix(": ")
    if error["type"] == "extra_forbidden":
        return f"{where} is no field{nearest(last, [*(Digest if above else Source).model_fields])}"
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    if error["type"] == "literal_error":
        valid = [word.strip(" '") for word in error["ctx"]["expected"].replace(" or ", ",").split(",")]
        return f"{where} is {error['input']!r}{nearest(str(error['input']), valid)}"
    return f"{where} is {error['input']!r}: {error['msg'].lower()}"


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """Hexadecimal md5 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def first_mib_of(path: Path) -> str:
    """Hexadecimal md5 of a file's first 2^20 bytes."""
    with path.open("rb") as file:
        return hashlib.md5(file.read(MIB), usedforsecurity=False).hexdigest()


def check(path: Path, name: str, digest: Digest | None, size: int | None) -> str:
    """The file's sha256, after it was held to `digest`; ValueError names expected and got otherwise."""
    found = sha256_of(path)
    other = difference(path, digest, size, sha256=found)
    if other is not None:
        kind, expected, got = other
        raise ValueError(f"{name} is not the published file: {kind} expected {expected}, got {got}")
    return found


def difference(
    path: Path, digest: Digest | None, size: int | None, *, sha256: str
) -> tuple[str, str | int, str | int] | None:
    """What tells a file of that sha256 from the pinned one: kind, expected and measured; None for nothing.

    `size` counts only with `md5_first_mib`, which does not see the rest of the file.
    """
    if digest is None:
        return None
    tests: list[tuple[str, str | int | None, Callable[[], str | int]]] = [
        ("sha256", digest.sha256, lambda: sha256),
        ("sha256_prefix", digest.sha256_prefix, lambda: sha256[: len(digest.sha256_prefix or "")]),
        ("md5", digest.md5, lambda: md5_of(path)),
        ("md5_first_mib", digest.md5_first_mib, lambda: first_mib_of(path)),
        ("bytes", size if digest.md5_first_mib else None, lambda: path.stat().st_size),
    ]
    for kind, expected, measure in tests:
        if expected is not None and expected != (got := measure()):
            return kind, expected, got
    return None
