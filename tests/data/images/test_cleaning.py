"""Where examples lie and how they are labelled: by folder, name or table; parts, groups and times."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from data.examples import Reject
from data.images import cleaning
from data.images.cleaning import ImageCleaning, clean_images, image_schema
from data.images.reading import Picture, read_image
from tests.jobs import encode, raw_of, scene, tar_of


def images(*names: str, start: int = 0) -> dict[str, bytes]:
    return {name: encode(scene(start + number, width=24, height=20)) for number, name in enumerate(names)}


def cleaned(
    folder: Path, files: Mapping[str, bytes], beside: Mapping[str, bytes] | None = None, **block: Any
) -> tuple[dict[str, dict[str, Any]], list[Reject], dict[str, int]]:
    """Rows by item id, rejects, and what was ignored."""
    raw = raw_of(folder, {"x.tgz": tar_of(files), **(beside or {})})
    answers = list(clean_images(raw, ImageCleaning.model_validate(block)))
    rows = {answer["item_id"]: answer for answer in answers if not isinstance(answer, Reject)}
    pa.Table.from_pylist(list(rows.values()), schema=image_schema())  # every row is of the schema
    return rows, [answer for answer in answers if isinstance(answer, Reject)], dict(raw.ignored)


def labels_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: row["label"] for name, row in rows.items()}


def test_label_from_the_folder_at_any_depth(tmp_path: Path) -> None:
    files = images("a/b/cat/1.png", "dog/2.png", "3.png")
    rows, rejects, _ = cleaned(tmp_path, files)
    assert labels_of(rows) == {"a/b/cat/1.png": "cat", "dog/2.png": "dog"}
    assert rejects == [Reject("3.png", "no label", "0 folders above it, labels.level is 1")]
    rows, rejects, _ = cleaned(tmp_path, files, labels={"from": "folder", "level": 2})
    assert labels_of(rows) == {"a/b/cat/1.png": "b"}


def test_label_from_the_name_inside_a_folder_of_images(tmp_path: Path) -> None:
    files = images(
        "d/images/Great_Dane_12.jpg", "d/images/pug_3.jpg", "d/images/odd.jpg", "d/masks/pug_3.png"
    )
    files |= {"d/images/pug_4.mat": b"MATLAB 5.0", "d/readme.md": b"read"}
    block = {"images": "d/images/", "labels": {"from": "name", "pattern": r"^(.+)_\d+\.jpg$"}}
    rows, rejects, ignored = cleaned(tmp_path, files, **block)
    assert labels_of(rows) == {"d/images/Great_Dane_12.jpg": "Great_Dane", "d/images/pug_3.jpg": "pug"}
    assert [(each.item_id, each.reason) for each in rejects] == [
        ("d/images/odd.jpg", "no label"),
        ("d/images/pug_4.mat", "not an image"),
    ]
    assert ignored == {"outside clean.images: d/masks": 1, "outside clean.images: d": 1}
    rows, _, _ = cleaned(tmp_path, files, **{**block, "images": "*/images/*3.jpg"})
    assert list(rows) == ["d/images/pug_3.jpg"]


def test_label_from_a_table_in_the_archive_or_beside_it(tmp_path: Path) -> None:
    files = images("d/train/1.png", "d/train/2.png", "d/train/3.png", "d/train/4.png", "d/train/5.png")
    table = b"id,breed\n1,pug\n2, boxer\n2,boxer\n4,\n5,pug\n5,boxer\n9,pug\n"
    block = {"labels": {"from": "csv", "file": "labels.csv", "suffix": ".png"}}
    for inside, beside in (({"d/labels.csv": table}, {}), ({}, {"labels.csv": table})):
        rows, rejects, ignored = cleaned(tmp_path, files | inside, beside, **block)
        assert labels_of(rows) == {"d/train/1.png": "pug", "d/train/2.png": "boxer"}
        assert rejects == [
            Reject("d/train/3.png", "no label", "no label in labels.csv"),
            Reject("d/train/4.png", "no label", "no label in labels.csv"),
            Reject("d/train/5.png", "two labels", "labels.csv says boxer and pug"),
            Reject("9.png", "listed, but not in the archive", "labels.csv, row 7"),
        ]
        assert ignored == {"tables and lists of the clean block": 1}


def test_a_table_may_name_columns_paths_groups_and_times(tmp_path: Path) -> None:
    files = images("d/a/1.png", "d/b/1.png")
    table = b"taken,who,what,path\n2024-05-06 07:08,ann,cat,a/1.png\n,,dog,b/1.png\n"
    block = {
        "labels": {"from": "csv", "file": "t.csv", "name": "path", "label": "what"},
        "group": {"column": "who"},
        "time": "taken",
    }
    rows, rejects, _ = cleaned(tmp_path, files, {"t.csv": table}, **block)
    assert labels_of(rows) == {"d/a/1.png": "cat", "d/b/1.png": "dog"}
    assert [row["group"] for row in rows.values()] == ["ann", None]
    assert [row["time"] for row in rows.values()] == [datetime(2024, 5, 6, 7, 8), None]
    assert rejects == []


@pytest.mark.parametrize(
    ("table", "block", "message"),
    [
        (b"id\n1\n", {}, "has one column"),
        (b"id,label\n", {}, "has no row"),
        (b"", {}, "no table"),
        (b"id,label\n\xff\xfe,x\n", {}, "not UTF-8"),
        (b"id,label\n1,x\n", {"label": "breed"}, "no column 'breed'; it has id, label"),
        (b"id,label\nx,x\n", {}, "no image fits a row of t.csv .first row: 'x'"),
    ],
)
def test_a_table_that_does_not_fit_is_named(
    tmp_path: Path, table: bytes, block: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cleaned(
            tmp_path, images("a/1.png"), {"t.csv": table}, labels={"from": "csv", "file": "t.csv", **block}
        )


def test_a_time_that_is_none_names_its_row(tmp_path: Path) -> None:
    labels = {"from": "csv", "file": "t.csv"}
    with pytest.raises(ValueError, match=r"t.csv, row 2: when 'soon' is no date"):
        cleaned(
            tmp_path, {}, {"t.csv": b"id,label,when\na,b,2020-01-01\nb,b,soon\n"}, labels=labels, time="when"
        )


def test_published_parts_by_folder_and_unlabelled_folders(tmp_path: Path) -> None:
    files = images("d/train/cats/1.png", "d/valid/dogs/2.png", "d/test1/3.png", "d/other/dogs/4.png")
    rows, rejects, _ = cleaned(
        tmp_path, files, parts={"train": "train", "valid": "valid"}, unlabelled=["test1"]
    )
    assert [(row["label"], row["part"]) for row in rows.values()] == [
        ("cats", "train"), ("dogs", "valid"), (None, "test"), ("dogs", None),
    ]  # fmt: skip
    assert rejects == []


def test_published_parts_by_list(tmp_path: Path) -> None:
    files = images("d/images/a_1.png", "d/images/a_2.png", "d/images/b_1.png")
    files |= {"d/valid.txt": b"a_2 1 1 1\nimages/b_1.png\n\nmissing_9\n"}
    block = {"images": "d/images", "labels": {"from": "name", "pattern": "^(.)_"}}
    rows, rejects, _ = cleaned(tmp_path, files, lists={"valid": "valid.txt"}, **block)
    assert [row["part"] for row in rows.values()] == ["train", "valid", "valid"]
    assert [(each.item_id, each.reason) for each in rejects] == [
        ("missing_9", "listed, but not in the archive")
    ]


def test_groups_from_the_path(tmp_path: Path) -> None:
    rows, _, _ = cleaned(tmp_path, images("a/p1_1.png", "b/x.png"), group={"pattern": r"/(p\d)_"})
    assert [row["group"] for row in rows.values()] == ["p1", None]


def test_files_beside_the_images_are_ignored_but_not_among_them(tmp_path: Path) -> None:
    files = images("d/train/a/1.png") | {"d/labels.txt": b"a", "d/train/a/notes.txt": b"?", "d/x.bin": b"?"}
    _, rejects, ignored = cleaned(tmp_path, files)
    assert [(each.item_id, each.reason) for each in rejects] == [
        ("d/train/a/notes.txt", "not an image"), ("d/x.bin", "not an image"),
    ]  # fmt: skip
    assert ignored == {"beside the images: *.txt in d": 1}


def test_order_does_not_depend_on_threads(tmp_path: Path) -> None:
    sizes = [(900, 700), (20, 20), (600, 500)] * 6
    files = {
        f"a/{number}.png": encode(scene(number, width=width, height=height), compress_level=1)
        for number, (width, height) in enumerate(sizes)
    }
    raw = raw_of(tmp_path, {"x.tar": tar_of(files, mode="w")})
    answers = [list(clean_images(raw, ImageCleaning(), workers=workers)) for workers in (1, 5)]
    assert answers[0] == answers[1]
    assert [row["item_id"] for row in answers[0] if not isinstance(row, Reject)] == list(files)


@pytest.mark.parametrize(("handful", "size"), [(1, 10**9), (5, 10**9), (100, 1), (100, 10**9)])
def test_images_are_read_alike_alone_and_by_the_handful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handful: int, size: int
) -> None:
    monkeypatch.setattr(cleaning, "HANDFUL", handful)
    monkeypatch.setattr(cleaning, "HANDFUL_BYTES", size)
    files = images(*(f"a/{number}.png" for number in range(12))) | {"a/cut.png": b"\x89PNG\r\n\x1a\n\0\0"}
    answers = list(clean_images(raw_of(tmp_path, {"x.tgz": tar_of(files)}), ImageCleaning()))
    rows, rejects = answers[:-1], answers[-1:]
    assert [reject.reason for reject in rejects if isinstance(reject, Reject)] == ["truncated"]
    for (name, content), row in zip(files.items(), rows, strict=False):
        alone = read_image(content)
        assert isinstance(alone, Picture)
        assert not isinstance(row, Reject)
        assert (row["item_id"], row["digest"], row["phash"]) == (name, alone.digest, alone.phash)


def test_no_label_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of the 2 images has a label"):
        cleaned(tmp_path, images("t/1.png", "t/2.png"), unlabelled=["t"])


def test_images_that_have_no_label_are_wanted_by_some(tmp_path: Path) -> None:
    files = images("top.png", "a/1.png", "b/c/2.png")
    block = ImageCleaning.model_validate({"labels": {"from": "none"}, "parts": {"a": "valid"}})
    rows = list(clean_images(raw_of(tmp_path, {"x.tgz": tar_of(files)}), block, labelled=False))
    assert [row["label"] for row in rows if not isinstance(row, Reject)] == [None] * 3
    with pytest.raises(ValueError, match="none of the 3 images has a label"):
        cleaned(tmp_path / "wanted", files, labels={"from": "none"})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"labels": {"from": "name", "pattern": "("}}, "is no regular expression"),
        ({"labels": {"from": "name", "pattern": "a"}}, "exactly one group in parentheses, it has 0"),
        ({"labels": {"from": "folder", "pattern": "(a)"}}, "pattern has no effect with `from: folder`"),
        ({"labels": {"from": "csv"}}, "needs `file`"),
        ({"labels": {"from": "moon"}}, "'folder', 'name', 'csv' or 'none'"),
        ({"time": "when"}, "no effect without"),
        ({"group": {}}, "either pattern or column"),
        ({"parts": {"train": "training"}}, "'train', 'valid' or 'test'"),
        ({"max_pixels": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_without_meaning_are_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageCleaning.model_validate(block)
