"""How text becomes tokens, as typed settings; reading parameters needs no torch."""

from __future__ import annotations

from typing import Literal, Self, TypedDict

from pydantic import BaseModel, Field, model_validator


class Options(TypedDict):
    """The keyword arguments of `rules.tokenise`."""

    tokenizer: str
    separator: str
    begin: bool
    lower: bool


class Tokenizer(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """What a token is. The default is the course's: words, by fastai v1's rules."""

    name: Literal["words", "characters", "split"] = "words"
    """`words`: the course's rules and special tokens; `characters`: each character as it is (Nietzsche);
    `split`: what stands between separators, as it is (human numbers)."""
    separator: str = ""
    """With `split`: the separator; empty: any run of white space."""
    begin: bool | None = None
    """Whether every document opens with `xxbos` (default: with `words`; fastai: always)."""

    lower: bool = False
    """characters and split: everything in lower case (course: Nietzsche); `words` always is."""

    @model_validator(mode="after")
    def _only_what_has_an_effect(self) -> Self:
        if self.lower and self.name == "words":
            raise ValueError("lower has no effect with `name: words`, which always are")
        if self.separator and self.name != "split":
            raise ValueError(f"separator has no effect with `name: {self.name}`")
        return self

    def options(self) -> Options:
        """The keyword arguments of `rules.tokenise`, also as JSON in an exported model."""
        begin = self.name == "words" if self.begin is None else self.begin
        return {"tokenizer": self.name, "separator": self.separator, "begin": begin, "lower": self.lower}


class Vocabulary(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Which tokens a network knows; all others are `xxunk`."""

    minimum: int = Field(default=2, ge=1)
    """Occurrences in the training part that a token needs (course: 2)."""
    most: int = Field(default=60_000, ge=1)
    """Tokens at most, the special ones apart (course: 60,000)."""
