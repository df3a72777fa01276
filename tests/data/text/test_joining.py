"""Tokens become the text again that a person would have written."""

import pytest

from data.text.joining import join
from data.text.rules import tokenise
from data.text.settings import Tokenizer


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (Tokenizer(name="characters"), "PREFACE\n\nSupposing that?"),
        (Tokenizer(name="characters", lower=True), "preface\n"),
        (Tokenizer(name="split"), "one hundred two"),
        (Tokenizer(name="split", separator=","), "one,two"),
        (Tokenizer(), "You don't like The END, (really)."),
        (Tokenizer(), "One line\nand Another; it's fine!"),
    ],
)
def test_there_and_back(settings: Tokenizer, text: str) -> None:
    assert join(next(tokenise([text], **settings.options())), **settings.options()) == text


def test_repetitions_are_written_out() -> None:
    options = Tokenizer().options()
    assert join(["xxrep", "5", "!", "xxwrep", "3", "ha"], **options).endswith("!!!!! ha ha ha")
    assert join(["xxrep"], **options) == ""


def test_documents_begin_on_lines_of_their_own() -> None:
    options = Tokenizer(name="split", begin=True).options()
    assert join(["one", "xxbos", "two", "three", "xxpad"], **options) == "one\ntwo three"
