"""Pictures without labels: any folder, no folder at all, and what is too small to learn from."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from data.examples import Reject
from data.images.cleaning import image_schema
from data.images.unlabelled import PictureCleaning, clean_pictures
from tests.jobs import encode, raw_of, scene, tar_of


def cleaned(folder: Path, files: dict[str, bytes], **block: Any) -> tuple[dict[str, Any], list[Reject]]:
    raw = raw_of(folder, {"photos.tgz": tar_of(files)})
    answers = list(clean_pictures(raw, PictureCleaning.model_validate(block)))
    rows = {each["item_id"]: each for each in answers if not isinstance(each, Reject)}
    pa.Table.from_pylist(list(rows.values()), schema=image_schema())  # every row is of the schema
    return rows, [each for each in answers if isinstance(each, Reject)]


def photo(number: int, side: int = 32) -> bytes:
    return encode(scene(number, width=side, height=side + 8))


def test_folders_say_nothing_and_are_not_needed(tmp_path: Path) -> None:
    files = {"top.png": photo(1), "holiday/2.png": photo(2), "holiday/sea/3.png": photo(3)}
    rows, rejects = cleaned(tmp_path, files)
    assert list(rows) == list(files)
    assert {row["label"] for row in rows.values()} == {None}
    assert not rejects


def test_what_is_too_small_is_rejected_with_its_size(tmp_path: Path) -> None:
    rows, rejects = cleaned(tmp_path, {"a.png": photo(1, 32), "b.png": photo(2, 31)}, shortest=32)
    assert list(rows) == ["a.png"]
    assert rejects == [Reject("b.png", "too small", "31 x 39 pixels; clean.shortest asks for 32 a side")]


def test_files_that_are_no_pictures_have_their_reasons(tmp_path: Path) -> None:
    files = {"x/a.png": photo(1), "x/cut.png": photo(2)[:200], "x/note.jpg": b"a text", "x/none.png": b""}
    _, rejects = cleaned(tmp_path, files)
    assert {each.item_id: each.reason for each in rejects} == {
        "x/cut.png": "truncated", "x/note.jpg": "not an image", "x/none.png": "empty file",
    }  # fmt: skip


def test_published_parts_are_kept(tmp_path: Path) -> None:
    files = {"d/training/1.png": photo(1), "d/testing/2.png": photo(2)}
    rows, _ = cleaned(tmp_path, files, parts={"training": "train", "testing": "valid"})
    assert [row["part"] for row in rows.values()] == ["train", "valid"]


@pytest.mark.parametrize("block", [{"labels": {"from": "folder"}}, {"shortest": 0}, {"unlabelled": ["a"]}])
def test_settings_without_meaning_are_refused(block: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PictureCleaning.model_validate(block)
