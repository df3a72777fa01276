"""Which annotation belongs to which image, in VOC's XML and COCO's JSON, and what is wrong with either."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from data.examples import Reject
from data.images.boxes import BoxCleaning, box_schema, clean_boxes, clean_largest
from tests import boxed
from tests.jobs import encode, raw_of, tar_of

BALL: boxed.Marked = ("ball", (10, 12, 30, 32))


def picture(number: int = 0, kind: str = "PNG") -> bytes:
    return encode(boxed.draw(number)[0], kind)


def cleaned(
    folder: Path, files: Mapping[str, bytes], **block: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, Reject]]:
    """Rows and rejects by item id."""
    raw = raw_of(folder / "published", {"x.tgz": tar_of(files)})
    answers = list(clean_boxes(raw, BoxCleaning.model_validate(block)))
    rows = {answer["item_id"]: answer for answer in answers if not isinstance(answer, Reject)}
    pa.Table.from_pylist(list(rows.values()), schema=box_schema())  # every row is of the schema
    return rows, {answer.item_id: answer for answer in answers if isinstance(answer, Reject)}


def with_sound(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """One sound pair before what is tested: without any, cleaning stops."""
    return {"sound.png": picture(100), "sound.xml": boxed.voc("sound.png", [BALL]), **files}


def reject_of(folder: Path, annotation: bytes, **block: Any) -> Reject:
    """Of one image with that XML."""
    _, rejects = cleaned(folder, with_sound({"a.png": picture(), "a.xml": annotation}), **block)
    return rejects["a.png"]


def test_both_formats_say_the_same(tmp_path: Path) -> None:
    boxed.write_voc(tmp_path / "voc", count=4)
    boxed.write_coco(tmp_path / "coco", count=4)
    answers = []
    for kind, annotations in (("voc", {"from": "voc"}), ("coco", {"from": "coco", "file": "boxes.json"})):
        folder = tmp_path / kind
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        rows, rejects = cleaned(tmp_path / f"{kind}-read", files, annotations=annotations)
        assert not rejects
        answers.append(rows)
    assert answers[0] == answers[1]
    first = answers[0]["photos/001.png"]
    _, marked = boxed.draw(1)
    assert first["boxes"] == [list(box) for _, box in marked]
    assert first["names"] == [kind for kind, _ in marked]


def test_the_real_archives_agree(datasets: Path, tmp_path: Path) -> None:
    ways: dict[str, dict[str, Any]] = {
        "VOCtrainval_06-Nov-2007.tar": {
            "images": "VOCdevkit/VOC2007/JPEGImages/",
            "lists": {"train": "ImageSets/Main/train.txt", "valid": "ImageSets/Main/val.txt"},
        },
        "pascal_2007.tgz": {
            "annotations": {
                "from": "coco",
                "files": {part: f"{part}.json" for part in ("train", "valid", "test")},
            },
        },
    }  # fmt: skip
    said = []
    for name, block in ways.items():
        raw = raw_of(tmp_path / name, {name: datasets / name})
        rows = list(clean_boxes(raw, BoxCleaning.model_validate(block)))
        assert not [row for row in rows if isinstance(row, Reject)]
        said.append(
            {Path(row["item_id"]).name: (row["digest"], row["boxes"], row["names"]) for row in rows}  # type: ignore[index]
        )
    assert said[0] == said[1]
    assert len(said[0]) == 46
    assert sum(len(boxes) for _, boxes, _ in said[0].values()) == 68


def test_coco_without_sizes_and_an_image_without_objects(datasets: Path, tmp_path: Path) -> None:
    raw = raw_of(tmp_path, {"coco_tiny.tgz": datasets / "coco_tiny.tgz"})
    block = BoxCleaning.model_validate({"annotations": {"from": "coco", "file": "train.json"}})
    answers = list(clean_largest(raw, block))
    rejects = [answer for answer in answers if isinstance(answer, Reject)]
    assert [reject.reason for reject in rejects] == ["no object"]
    labels = Counter(answer["label"] for answer in answers if not isinstance(answer, Reject))
    assert labels == {"bus": 1, "person": 1, "motorcycle": 1, "bear": 1, "bottle": 1}


@pytest.mark.parametrize(
    ("objects", "reason", "detail"),
    [
        ([], "no object", "no object is marked"),
        ([("ball", (70, 2, 80, 20))], "box outside the image", "object 1 .ball. has x 70 to 80.*60 x 48"),
        ([("ball", (40, 2, 80, 20))], "box outside the image", "x 40 to 80"),
        ([BALL, ("brick", (20, 9, 20, 30))], "box without area", "object 2 .brick. has x 20 to 20"),
        ([("ball", (30, 30, 10, 10))], "box without area", "x 30 to 10"),
    ],
)
def test_a_box_that_cannot_be_rejects_its_image(
    objects: list[boxed.Marked], reason: str, detail: str, tmp_path: Path
) -> None:
    reject = reject_of(tmp_path, boxed.voc("a.png", objects))
    assert reject.reason == reason

    assert re.search(detail, reject.detail), reject.detail
    assert reject.detail.startswith("a.xml: ")


def test_a_box_over_the_edge_is_cut_and_counted(tmp_path: Path) -> None:
    over = boxed.voc("a.png", [("ball", (-1, 10, 20, 49)), BALL])
    rows, _ = cleaned(tmp_path, with_sound({"a.png": picture(), "a.xml": over}))
    assert rows["a.png"]["boxes"][0] == [0, 10, 20, 48]
    assert rows["a.png"]["clipped"] == 1
    assert rows["sound.png"]["clipped"] == 0
    strict = reject_of(tmp_path / "strict", over, outside=0.0)
    assert strict.reason == "box outside the image"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (boxed.voc("a.png", [BALL])[:-30], "mismatched tag|no element|unclosed"),
        (b"<html><body/></html>", "its root is <html>"),
        (b"", "no element found"),
        (boxed.voc("a.png", [BALL]).replace(b">11<", b">left<"), "xmin of object 1 .ball. is 'left'"),
        (boxed.voc("a.png", [BALL]).replace(b">11<", b">nan<"), "xmin of object 1 .ball. is 'nan'"),
        (boxed.voc("a.png", [BALL]).replace(b"ymax>", b"ytop>"), "ymax of object 1 .ball. is None"),
        (boxed.voc("a.png", [BALL]).replace(b"bndbox>", b"box>"), "object 1 .ball. has no bndbox"),
        (boxed.voc("a.png", [("", BALL[1])]), "object 1 has no name"),
        (b'<!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>', "declares a document type"),
    ],
)  # fmt: skip
def test_a_malformed_file_rejects_its_image(content: bytes, detail: str, tmp_path: Path) -> None:

    reject = reject_of(tmp_path, content)
    assert reject.reason == "malformed annotation"
    assert re.search(detail, reject.detail), reject.detail


def test_an_annotation_of_another_size_is_not_believed(tmp_path: Path) -> None:
    reject = reject_of(tmp_path, boxed.voc("a.png", [BALL], size=(48, 60)))
    assert reject.reason == "annotated at another size"
    assert reject.detail == "a.xml: 48 x 60, the image has 60 x 48 pixels"


def test_a_name_that_is_not_listed_rejects_its_image(tmp_path: Path) -> None:
    annotation = boxed.voc("a.png", [("unicorn", BALL[1])])
    assert reject_of(tmp_path, annotation, classes=["ball"]).reason == "unknown class"
    rows, _ = cleaned(tmp_path / "any", with_sound({"a.png": picture(), "a.xml": annotation}))
    assert rows["a.png"]["names"] == ["unicorn"]


def test_what_has_no_partner_is_told(tmp_path: Path) -> None:
    files = {"a.png": picture(), "b.xml": boxed.voc("b.png", [BALL]), "broken.png": b"no image"}
    _, rejects = cleaned(tmp_path, with_sound(files))
    assert rejects["a.png"].reason == "no annotation"
    assert rejects["b.png"].reason == "listed, but not in the archive"
    assert rejects["broken.png"].reason == "not an image"


def test_pairs_by_folder_by_stated_name_and_none_where_it_is_unclear(tmp_path: Path) -> None:
    files = {
        "train/1.png": picture(1), "train/1.xml": boxed.voc("1.png", [BALL]),
        "valid/1.png": picture(2), "valid/1.xml": boxed.voc("1.png", [("brick", BALL[1])]),
        "named.png": picture(3), "marks/other.xml": boxed.voc("C:\\photos\\named.png", [BALL]),
        "two.png": picture(4), "x/two.xml": boxed.voc("two.png", [BALL]),
        "y/two.xml": boxed.voc("two.png", [BALL]),
    }  # fmt: skip
    rows, rejects = cleaned(tmp_path, files)
    assert rows["train/1.png"]["names"] == ["ball"]
    assert rows["valid/1.png"]["names"] == ["brick"]
    assert rows["named.png"]["names"] == ["ball"]
    assert rejects["two.png"].reason == "ambiguous annotation"
    assert "x/two.xml and y/two.xml" in rejects["two.png"].detail


def test_one_annotation_for_two_images_is_no_guess(tmp_path: Path) -> None:
    said = json.dumps(boxed.coco({"1.png": [BALL], "2.png": [BALL]})).encode()
    files = {"a/1.png": picture(1), "b/1.png": picture(2), "a/2.png": picture(3), "all.json": said}
    rows, rejects = cleaned(tmp_path, files, annotations={"from": "coco", "file": "all.json"})
    assert list(rows) == ["a/2.png"]
    assert {rejects[name].reason for name in ("a/1.png", "b/1.png")} == {"ambiguous annotation"}


def test_files_of_the_same_names_in_parts_follow_their_folder(tmp_path: Path) -> None:
    files = {
        "train/1.png": picture(1), "test/1.png": picture(2),
        "train.json": json.dumps(boxed.coco({"1.png": [BALL]})).encode(),
        "test.json": json.dumps(boxed.coco({"1.png": [("brick", BALL[1])]})).encode(),
    }  # fmt: skip
    annotations = {"from": "coco", "files": {"train": "train.json", "test": "test.json"}}
    rows, rejects = cleaned(tmp_path, files, annotations=annotations)
    assert not rejects
    assert {name: (row["part"], row["names"]) for name, row in rows.items()} == {
        "train/1.png": ("train", ["ball"]),
        "test/1.png": ("test", ["brick"]),
    }


def test_flags_are_kept_and_what_is_ignored_is_no_object(tmp_path: Path) -> None:
    flags = "<truncated>1</truncated><difficult>1</difficult>"
    rows, _ = cleaned(
        tmp_path, with_sound({"a.png": picture(), "a.xml": boxed.voc("a.png", [BALL], flags=flags)})
    )
    assert (rows["a.png"]["difficult"], rows["a.png"]["truncated"]) == ([True], [True])
    said = boxed.coco({"1.png": [BALL, ("brick", (0, 0, 50, 40))], "2.png": [BALL]})
    said["annotations"][1]["iscrowd"] = 1
    said["annotations"][2]["ignore"] = 1
    files = {"1.png": picture(1), "2.png": picture(2), "a.json": json.dumps(said).encode()}
    raw = raw_of(tmp_path / "coco", {"x.tgz": tar_of(files)})
    block = BoxCleaning.model_validate({"annotations": {"from": "coco", "file": "a.json"}})
    row, reject = clean_largest(raw, block)
    assert isinstance(row, dict)
    assert row["ignored"] == [False, True]
    assert row["label"] == "ball", "the larger brick is to be ignored"
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.detail) == ("no object", "a.json, image 2: 1 objects, all to be ignored")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"category_id": 99}, "unknown class"),
        ({"category_id": None}, "unknown class"),
        ({"bbox": [1, 2, 3]}, "malformed annotation"),
        ({"bbox": [1, 2, "wide", 4]}, "malformed annotation"),
        ({"bbox": [1, 2, float("nan"), 4]}, "malformed annotation"),
        ({"bbox": [1, 2, 0, 4]}, "box without area"),
        ({"bbox": [1, 2, 400, 4]}, "box outside the image"),
    ],
)
def test_a_wrong_entry_of_a_json_rejects_its_image(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    said = boxed.coco({"1.png": [BALL], "2.png": [BALL]})
    said["annotations"][0] |= change
    files = {"1.png": picture(1), "2.png": picture(2), "a.json": json.dumps(said).encode()}
    rows, rejects = cleaned(tmp_path, files, annotations={"from": "coco", "file": "a.json"})
    assert list(rows) == ["2.png"]
    assert rejects["1.png"].reason == reason
    assert rejects["1.png"].detail.startswith("a.json, ")


def test_an_entry_of_no_image_is_told(tmp_path: Path) -> None:
    said = boxed.coco({"1.png": [BALL]})
    said["annotations"].append({**said["annotations"][0], "image_id": 77})
    files = {"1.png": picture(1), "a.json": json.dumps(said).encode()}
    rows, rejects = cleaned(tmp_path, files, annotations={"from": "coco", "file": "a.json"})
    assert list(rows) == ["1.png"]
    assert rejects["a.json, annotation 1"].reason == "unknown image"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [', "a.json is not valid JSON"),
        (b"[]", "a.json holds a list"),
        (b'{"images": [], "annotations": []}', "a.json has no list 'categories'"),
        (b'{"images": [{"id": 1}], "annotations": [], "categories": []}', "entry 0 of 'images' lacks"),
        (
            b'{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": [],'
            b' "categories": []}',
            "the id 1 stands twice in 'images'",
        ),
    ],
)
def test_a_json_that_is_damaged_as_a_whole_stops_the_stage(
    content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        cleaned(
            tmp_path, {"1.png": picture(), "a.json": content}, annotations={"from": "coco", "file": "a.json"}
        )


def test_no_pair_at_all_is_a_mistake_in_the_entry(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 images and 1 annotations, but no pair of both; look at clean"):
        cleaned(tmp_path, {"1.png": picture(), "2.xml": boxed.voc("2.png", [BALL])})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"annotations": {"from": "coco"}}, "needs either `file`, or `files` by part"),
        ({"annotations": {"from": "voc", "file": "a.json"}}, "file has no effect with `from: voc`"),
        ({"annotations": {"from": "coco", "file": "a.json", "folder": "x"}}, "folder has no effect"),
        ({"parts": {"a": "train"}, "lists": {"train": "x.txt"}}, "parts and lists both name published parts"),
    ],
)
def test_a_setting_without_effect_is_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BoxCleaning.model_validate(block)
