"""Drawn archives of objects: the official layouts, and boxes around what is drawn."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.editions.objects import KINDS, Entry, Objects, entries
from tests.data.editions.test_editions import drawn, members, shape_of

SMALL = {
    "file": "a.tar", "layout": "voc", "folder": "x", "parts": {"train": 6}, "side": [48, 56],
    "classes": {"car": {"draw": "thing", "outline": "car"}, "cat": {"draw": "head", "ears": "pointed"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "official"),
    [("pascal_2007", "pascal_2007.tgz"), ("voc_2007", "VOCtrainval_06-Nov-2007.tar")],
)
def test_the_layout_is_the_official_one(name: str, official: str, datasets: Path, tmp_path: Path) -> None:
    (path,) = drawn(name, tmp_path)
    theirs = {shape_of(member) for member in members(datasets / official)}
    ours = {shape_of(member) for member in members(path) if "/again/" not in member}
    assert ours == theirs


def sound() -> Iterator[Entry]:
    return (each for each in entries(Objects.model_validate(SMALL)) if each.number <= 900)


def test_every_picture_has_an_object_within_it() -> None:
    for each in sound():
        assert each.content is not None
        assert Image.open(io.BytesIO(each.content)).size == (each.width, each.height)
        assert 1 <= len(each.objects) <= 3
        for name, (left, top, right, bottom) in each.objects:
            assert name in KINDS
            assert 0 <= left < right <= each.width
            assert 0 <= top < bottom <= each.height


def test_a_box_holds_more_detail_than_what_lies_around_it() -> None:
    """Without any clutter the strongest edges are those of the objects."""
    plain = Objects.model_validate(
        {**SMALL, "clutter": 0, "most": 1, "faults": False, "parts": {"train": 12}}
    )
    inside, outside = [], []
    for each in entries(plain):
        assert each.content is not None
        grey = np.asarray(Image.open(io.BytesIO(each.content)).convert("L"), dtype=float)
        edges = np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
        ((_, (left, top, right, bottom)),) = each.objects
        within = np.zeros(grey.shape, dtype=bool)
        within[top:bottom, left:right] = True
        inside.append(edges[within].mean())
        outside.append(edges[~within].mean())
    assert np.mean(inside) > 1.5 * np.mean(outside)
