"""Whole columns give the texts and digests that the standard library gives row by row."""

import json
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest

from data.digests import content_of, joined, json_of, repr_of, sha256_of

TEXTS = [
    "plain",
    "",
    None,
    "stra\u00dfe \u4e2d",
    'a "quote"',
    "back\\slash",
    "line\nand\ttab",
    "\x00\x1f\x7f",
]


@pytest.mark.parametrize("texts", [TEXTS, ["a", None, "\u00e9"], [None], []])
def test_json_as_the_standard_library_writes_it(texts: list[str | None]) -> None:
    expected = [json.dumps(text, ensure_ascii=False) for text in texts]
    assert json_of(pa.array(texts, pa.string())).to_pylist() == expected


def test_numbers_as_python_writes_them() -> None:
    numbers = [0.0, -0.0, 1.0, 0.1, 1e16, 1e-7, 123456789.123, 1 / 3, -2.5, 1.0]
    assert repr_of(np.array(numbers)).to_pylist() == [repr(number) for number in numbers]
    assert repr_of(np.array([np.nan, 2.0])).to_pylist() == [None, "2.0"]


def test_each_digest_is_that_of_its_text() -> None:
    texts = ["", "a", "stra\u00dfe"]
    expected = [sha256(text.encode()).hexdigest() for text in texts]
    assert sha256_of(pa.array(texts, pa.string())).to_pylist() == expected


def test_the_content_of_a_slice_is_that_of_its_rows() -> None:
    texts = pa.array(["one", "", "stra\u00dfe", "four"])
    assert bytes(content_of(texts.slice(1, 2))) == "stra\u00dfe".encode()
    assert bytes(content_of(texts)) == "onestra\u00dfefour".encode()
    assert bytes(content_of(texts.slice(0, 0))) == bytes(content_of(pa.array([], pa.string()))) == b""


def test_joined_texts_stand_one_behind_the_other() -> None:
    assert joined("[", pa.array(["a", "b"]), "]").to_pylist() == ["[a]", "[b]"]
    assert joined(pa.array(["a"]), pa.array(["b"]), between=", ").to_pylist() == ["a, b"]
