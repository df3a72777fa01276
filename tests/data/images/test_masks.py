"""Pairs of image and mask: how they find each other, what values mean, why one is left out."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from data.examples import Reject
from data.images.masks import VOID, Legend, MaskCleaning, legend_of
from data.images.masks_cleaning import clean_masks
from data.images.masks_reading import decode_mask, encode_mask, read_mask
from data.images.reading import Fault
from tests.data.images.masked import archive, cleaned, disc
from tests.data.images.written import encoded
from tests.jobs import raw_of, tar_of, zip_of

LEGEND = Legend(classes=("a", "b", "c"), values=(0, 1, 2), void=(3,))


def test_pairs_become_rows(tmp_path: Path) -> None:
    rows, rejects = cleaned(tmp_path, archive(3))
    assert [row["item_id"] for row in rows] == [f"set/photos/{number:03}.png" for number in range(3)]
    assert not rejects
    for number, row in enumerate(rows):
        image, mask = disc(number)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["image"]))), image)
        assert np.array_equal(decode_mask(row["mask"]), np.where(mask == 2, VOID, mask))
        assert legend_of(row["legend"]).classes == ("wall", "disc")
        assert row["label"] is None
    assert len({row["digest"] for row in rows}) == 3


def test_every_other_pair_gets_a_reason(tmp_path: Path) -> None:
    image, mask = disc(50)
    other = disc(51)[1]
    whole, picture = encoded(mask), encoded(image)
    foreign = mask.copy()
    foreign[0, :2] = (9, 200)

    def pair(number: int, photo: bytes | None, truth: bytes | None) -> dict[str, bytes]:
        photos = {} if photo is None else {f"set/photos/{number:03}.png": photo}
        return photos | ({} if truth is None else {f"set/truth/{number:03}_L.png": truth})

    files = (
        archive(2) | pair(10, picture, None) | pair(11, None, whole) | pair(12, picture, encoded(mask[2:]))
    )
    files |= pair(13, picture, encoded(foreign)) | pair(14, picture, whole[: len(whole) // 2])
    files |= (
        pair(15, picture, b"") | pair(16, b"text", whole) | pair(17, picture, encoded(np.full_like(mask, 2)))
    )
    files |= pair(18, picture, encoded(image)) | pair(19, picture[:300], whole)
    files |= pair(20, picture, whole) | pair(21, picture, encoded(other))
    rows, rejects = cleaned(tmp_path, files)
    assert [row["item_id"][-7:-4] for row in rows] == ["000", "001", "020"]
    said = {name.split("/")[-1][:3]: (reject.reason, reject.detail) for name, reject in rejects.items()}
    assert {number: reason for number, (reason, _) in said.items()} == {
        "010": "no mask", "011": "mask without image", "012": "mask of another size", "013": "unknown ids",
        "014": "unreadable mask", "015": "unreadable mask", "016": "not an image",
        "017": "nothing but void", "018": "mask in colour", "019": "truncated", "021": "two masks",
    }  # fmt: skip
    assert "set/truth/010_L.png" in said["010"][1]
    assert "32 x 22 pixels, the upright image 32 x 24" in said["012"][1]
    assert "set/truth/013_L.png: 9 (1 pixels), 200 (1 pixels)" in said["013"][1]
    assert "set/photos/020.png" in said["021"][1]


def test_names_that_no_image_has_are_listed_from_the_publisher_s_list(tmp_path: Path) -> None:
    files = archive(4) | {"set/valid.txt": b"002.png\n003.png\n777.png\n"}
    rows, rejects = cleaned(tmp_path, files, lists={"valid": "valid.txt"})
    assert [row["part"] for row in rows] == ["train", "train", "valid", "valid"]
    assert rejects["777.png"].reason == "listed, but not in the archive"
    assert rejects["777.png"].detail == "valid.txt, row 3"


@pytest.mark.parametrize(
    ("photo", "truth", "block"),
    [
        ("photos/{}.jpg", "masks/{}.png", {"images": "photos", "mask": {"folder": "masks"}}),
        ("a/{}.png", "a/{}_mask.png", {"images": "a", "mask": {"folder": "a", "pattern": "{stem}_mask.*"}}),
        ("{}.jpg", "{}.png", {"images": "*.jpg", "mask": {"folder": "{folder}", "pattern": "{stem}.png"}}),
        ("x/train/{}.png", "x/trainannot/{}.png", {"images": "x/train", "mask": {"folder": "{folder}annot"}}),
        ("img/b/c/{}.png", "ann/b/c/{}.gif", {"images": "img", "mask": {"folder": "ann"}}),
        ("img/b/{}.png", "m/t-{}.png", {"images": "img", "mask": {"folder": "m", "pattern": "t-{stem}.*"}}),
    ],
)  # fmt: skip
def test_layouts_that_are_understood(photo: str, truth: str, block: dict[str, Any], tmp_path: Path) -> None:
    files = {}
    for name in ("one", "two"):
        image, mask = disc(len(files))
        form = "JPEG" if photo.endswith("jpg") else "PNG"
        files[photo.format(name)] = encoded(image, form)
        files[truth.format(name)] = encoded(mask, "GIF" if truth.endswith("gif") else "PNG")
    rows, rejects = cleaned(tmp_path, files, classes={"names": ["wall", "disc"], "void": [2]}, **block)
    assert len(rows) == 2
    assert not rejects


def test_masks_may_lie_in_an_archive_of_their_own(tmp_path: Path) -> None:
    files = archive(3)
    raw = raw_of(
        tmp_path,
        {
            "photos.zip": zip_of({name: data for name, data in files.items() if "photos" in name}),
            "truth.tgz": tar_of({name: data for name, data in files.items() if "photos" not in name}),
        },
    )
    block = {"images": "set/photos", "mask": {"folder": "set/truth", "pattern": "{stem}_L.*"}}
    found = clean_masks(raw, MaskCleaning.model_validate({**block, "classes": {"file": "names.txt"}}))
    assert [isinstance(row, Reject) for row in found] == [False] * 3


def test_threads_change_nothing(tmp_path: Path) -> None:
    raw = raw_of(tmp_path, {"set.tgz": tar_of(archive(9) | {"set/photos/x.png": b"text"})})
    block = MaskCleaning.model_validate(
        {"images": "set/photos", "mask": {"folder": "set/truth", "pattern": "{stem}_L.png"},
         "classes": {"names": ["wall", "disc", "nobody"]}}
    )  # fmt: skip
    assert list(clean_masks(raw, block, workers=1)) == list(clean_masks(raw, block, workers=7))


def stored(values: Any, mode: str | None = None, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.array(values, np.uint8))
    (image.convert(mode) if mode else image).save(buffer, form)
    return buffer.getvalue()


def test_numbers_are_taken_as_they_are_stored() -> None:
    values = [[0, 1], [2, 3]]
    expected = [[0, 1], [2, VOID]]
    palette = Image.fromarray(np.array(values, np.uint8), mode="P")
    palette.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250, 9, 9, 9])
    indexed = io.BytesIO()
    palette.save(indexed, "PNG")
    deep = io.BytesIO()
    Image.fromarray(np.array(values, np.uint16)).save(deep, "PNG")
    for content in (stored(values), indexed.getvalue(), deep.getvalue(), stored(np.stack([values] * 3, -1))):
        assert np.array_equal(read_mask(content, legend=LEGEND), expected)


def test_a_threshold_decides_by_grey_values() -> None:
    legend = Legend(classes=("background", "car"), values=(0, 255), void=())
    for content in (
        stored([[0, 255], [127, 128]]),
        stored([[0, 255], [90, 200]], "1", "GIF"),
        stored([[0, 255], [100, 250]], "RGB"),
    ):
        found = read_mask(content, legend=legend, threshold=128)
        assert np.array_equal(found, [[0, 1], [0, 1]])


def test_colours_and_gaps_between_numbers_are_looked_up() -> None:
    colours = Legend(classes=("sky", "road"), values=((128, 128, 128), (128, 64, 128)), void=((0, 0, 0),))
    picture = stored([[[128, 128, 128], [128, 64, 128]], [[0, 0, 0], [128, 64, 128]]])
    assert np.array_equal(read_mask(picture, legend=colours), [[0, 1], [VOID, 1]])
    other = read_mask(stored([[[1, 2, 3]]]), legend=colours)
    assert isinstance(other, Fault)
    assert other.detail.startswith("#010203 (1 pixels)")
    gaps = Legend(classes=("dry", "wet"), values=(10, 255), void=(0,))
    assert np.array_equal(read_mask(stored([[0, 10, 255]]), legend=gaps), [[VOID, 0, 1]])


def test_a_stored_mask_loses_nothing() -> None:
    places = np.random.default_rng(0).integers(0, 256, (31, 17)).astype(np.uint8)
    assert np.array_equal(decode_mask(encode_mask(places)), places)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": {}}, "either names or file"),
        ({"classes": {"names": ["a", "b"], "values": [0]}}, "1 values for 2 names"),
        ({"classes": {"names": ["a", "b", "c"], "threshold": 128}}, "threshold makes two classes"),
        ({"classes": {"names": ["a", "b"], "threshold": 128, "void": [3]}}, "no effect with threshold"),
        ({"mask": {"folder": "m", "pattern": "mask.png"}}, "must be one file name with"),
        ({"images": "m", "mask": {"folder": "m"}}, "must tell them apart"),
        ({"group": {"column": "car"}}, "give group.pattern"),
    ],
)
def test_a_setting_without_meaning_is_named(changes: dict[str, Any], message: str) -> None:
    whole = {"mask": {"folder": "masks"}, "classes": {"names": ["a", "b"]}}
    with pytest.raises(ValidationError, match=message):
        MaskCleaning.model_validate({**whole, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classes": {"file": "names.txt", "void": ["nobdy"]}},
            "names 'nobdy', which is no class of names.txt",
        ),
        ({"classes": {"names": ["a", "a"]}}, "has the class 'a' twice"),
        ({"classes": {"file": "nams.txt"}}, "did you mean 'set/names.txt'"),
        ({"classes": {"names": ["a", "b"], "void": ["b"]}}, "1 classes that count"),
        ({"mask": {"folder": "set/mask"}}, "none of 2 images has a mask, and there is no mask"),
        ({"images": "set/fotos"}, "none of 0 images has a mask, and there is 2 masks"),
    ],
)
def test_what_does_not_fit_the_archive_is_named(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        cleaned(tmp_path, archive(2), **changes)


STREETS = {"mask": {"pattern": "{stem}_P.png"}, "classes": {"file": "codes.txt", "void": ["Void"]}}


@pytest.mark.parametrize(
    ("name", "count", "lists"), [("camvid_tiny", 100, {}), ("camvid", 50, {"valid": "valid.txt"})]
)
def test_the_course_s_archives_are_whole(
    name: str, count: int, lists: Any, datasets: Path, tmp_path: Path
) -> None:
    block = {
        "images": f"{name}/images", "lists": lists, "classes": STREETS["classes"],
        "mask": {"folder": f"{name}/labels", **STREETS["mask"]},
    }  # fmt: skip
    raw = raw_of(tmp_path, {f"{name}.tgz": datasets / f"{name}.tgz"})
    rows = [
        row for row in clean_masks(raw, MaskCleaning.model_validate(block)) if not isinstance(row, Reject)
    ]
    assert len(rows) == count
    legend = legend_of(rows[0]["legend"])
    assert (len(legend.classes), legend.void, legend.values[-1]) == (31, (30,), 31)
    assert Counter(row["part"] for row in rows)["valid"] == (12 if lists else 0)


def test_kaggle_s_two_archives_are_read_as_one(datasets: Path, tmp_path: Path) -> None:
    files = {
        name: datasets / "carvana" / name for name in ("train.zip", "train_masks.zip", "train_masks.csv.zip")
    }
    block = MaskCleaning.model_validate(
        {"images": "train", "mask": {"folder": "train_masks", "pattern": "{stem}_mask.gif"},
         "classes": {"names": ["background", "car"], "threshold": 128},
         "group": {"pattern": r"([0-9a-f]+)_\d+\.jpg$"}}
    )  # fmt: skip
    rows = [row for row in clean_masks(raw_of(tmp_path, files), block) if not isinstance(row, Reject)]
    assert len(rows) == 60
    assert rows[0]["group"] == "044338cb6762"
    assert set(np.unique(decode_mask(rows[0]["mask"]))) == {0, 1}
