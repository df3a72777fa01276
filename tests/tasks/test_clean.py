"""Clean: every row has a place or a reason, memory stays bounded, and the same input gives the same bytes."""

import io
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data import shards
from data.chunks import Chunk
from data.examples import Reject
from tasks import clean
from tasks.corrections import Corrections
from tests.jobs import Chain, encode, scene, tar_of, zip_of

ROOT = Path(__file__).resolve().parents[2]


def picture(number: int) -> bytes:
    return encode(scene(number, width=24, height=20))


def rejects_of(chain: Chain) -> list[tuple[str, str, str]]:
    table = pq.read_table(chain.folder("clean") / "rejects.parquet")
    return [tuple(row.values()) for row in table.to_pylist()]


def items_of(chain: Chain) -> dict[str, str | None]:
    paths = shards.shard_paths(chain.folder("clean"))
    rows = [row for path in paths for row in pq.read_table(path, columns=["item_id", "label"]).to_pylist()]
    return {row["item_id"]: row["label"] for row in rows}


def test_pets_as_published(datasets: Path, tmp_path: Path) -> None:
    labels = {"from": "name", "pattern": r"^(.+)_\d+\.jpg$"}
    archive = {"x.tgz": datasets / "oxford-iiit-pet.tgz"}
    chain = Chain(tmp_path, archive, images="oxford-iiit-pet/images/", labels=labels)
    assert chain.clean().rows == 124
    record = chain.json("clean", "provenance.json")
    assert record["labels"]["Bengal"] == 40
    assert len(record["labels"]) == 7
    assert record["rejects"] == {"not an image": 1}
    assert record["ignored"] == {"outside clean.images: oxford-iiit-pet/annotations": 195}
    assert record["rows"] == 124


def test_dogs_and_cats_as_published(datasets: Path, tmp_path: Path) -> None:
    chain = Chain(
        tmp_path,
        {"x.zip": datasets / "dogscats.zip"},
        parts={"train": "train", "valid": "valid"},
        unlabelled=["test1"],
    )
    assert chain.clean().rows == 80
    assert chain.json("clean", "provenance.json")["labels"] == {"cats": 36, "dogs": 36}


def test_every_copy_is_judged(tmp_path: Path) -> None:
    one, two, three, four = (picture(number) for number in range(4))
    files = {
        "train/a/1.png": one,
        "train/a/1-again.png": encode(Image.open(io.BytesIO(one)), "BMP"),  # the pixels decide, not the bytes
        "valid/a/1.png": one,  # another published part: left to the leak gate
        "train/a/2.png": two,
        "train/b/2.png": two,
        "train/a/3.png": three,
        "valid/b/3.png": three,
        "train/b/4.png": four,
        "test1/1.png": one,
    }
    archive = tar_of(files)
    chain = Chain(
        tmp_path, {"x.tgz": archive, "y.zip": zip_of({"train/b/4.png": picture(9)})},
        parts={"train": "train", "valid": "valid"}, unlabelled=["test1"],
    )  # fmt: skip
    chain.clean()
    assert items_of(chain) == {
        "train/a/1.png": "a",
        "valid/a/1.png": "a",
        "train/b/4.png": "b",
        "test1/1.png": None,
    }
    assert rejects_of(chain) == [
        ("train/a/1-again.png", "exact duplicate", "the same content as 'train/a/1.png'"),
        ("train/a/2.png", "two labels", "the same content as 'train/b/2.png': a and b"),
        ("train/b/2.png", "two labels", "the same content as 'train/a/2.png': a and b"),
        ("train/a/3.png", "two labels", "the same content as 'valid/b/3.png': a and b"),
        ("valid/b/3.png", "two labels", "the same content as 'train/a/3.png': a and b"),
        ("train/b/4.png", "duplicate name", "an earlier example has this name"),
    ]
    record = chain.json("clean", "provenance.json")
    assert record["labels"] == {"a": 2, "b": 1}
    assert record["rejects"] == {"exact duplicate": 1, "two labels": 4, "duplicate name": 1}


FILES = {
    f"{label}/{number}.png": picture(10 * place + number)
    for place, label in enumerate("ab")
    for number in range(4)
}


def test_relabelling_what_has_no_labels_is_refused(tmp_path: Path) -> None:
    chain = Chain(
        tmp_path, {"x.zip": zip_of(FILES)}, corrections="item_id,action,label\na/1.png,relabel,b\n",
        labelled=False, labels={"from": "none"},
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"relabels 1 examples, but no other example has a label"):
        chain.clean()


def test_corrections_delete_and_relabel_before_copies_are_judged(tmp_path: Path) -> None:
    files = {**FILES, "b/copy.png": FILES["a/0.png"], "a/broken.png": b"?"}
    corrections = (
        "item_id,action,label,loss\na/1.png,delete,,3\na/2.png,relabel,b,2\n"
        "b/copy.png,relabel,a,1\na/broken.png,delete,,\n"
    )
    chain = Chain(tmp_path, {"x.zip": zip_of(files)}, corrections=corrections)
    chain.clean()
    assert items_of(chain)["a/2.png"] == "b"
    assert rejects_of(chain) == [
        ("a/1.png", "deleted by correction", "corrections.csv, line 2"),
        ("a/broken.png", "not an image", "1 bytes beginning '?' (UnidentifiedImageError)"),
        ("b/copy.png", "exact duplicate", "the same content as 'a/0.png'"),
    ]
    assert chain.json("clean", "provenance.json")["corrections"] == {"delete": 1, "relabel": 2}


@pytest.mark.parametrize(
    ("corrections", "message"),
    [
        ("item_id,action\na,delete\n", "corrections.csv has no column 'label'"),
        ("item_id,action,label\na/0.png,drop,\n", "line 2: action 'drop' is neither delete nor relabel"),
        ("item_id,action,label\na/0.png,relabel,\n", "line 2: relabel of 'a/0.png' needs a label"),
        ("item_id,action,label\n\na/0.png,delete,\na/0.png,delete,\n", "line 4: 'a/0.png' stands in line 3"),
        ("item_id,action,label\nz/0.png,delete,\n", "line 2: there is no item 'z/0.png'"),
        ("item_id,action,label\n,delete,\n", "line 2: item_id is empty"),
    ],
)
def test_a_wrong_correction_names_its_line_and_leaves_nothing(
    tmp_path: Path, corrections: str, message: str
) -> None:
    chain = Chain(tmp_path, {"x.zip": zip_of(FILES)}, corrections=corrections)
    with pytest.raises(ValueError, match=message):
        chain.clean()
    assert not chain.folder("clean").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/1.png": b"<html>", "a/2.png": b""}, r"no example is left \(1 not an image, 1 empty file\)"),
        ({}, "no example is left .nothing was rejected."),
        ({"a/1.png": picture(1), "a/2.png": picture(2)}, "all 2 examples are of one class, 'a'"),
        ({"a/1.png": picture(1), "b/1.png": picture(1)}, r"no example is left \(2 two labels\)"),
    ],
)
def test_what_cannot_be_learned_from_is_an_error(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Chain(tmp_path, {"x.zip": zip_of(files)}).clean()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    files = {**FILES, "b/copy.png": FILES["b/0.png"], "a/cut.png": FILES["a/0.png"][:50]}
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        chain = Chain(tmp_path / name, {"x.tgz": tar_of(files)})
        chain.clean()
        folders.append(contents(chain.folder("clean")))
    assert folders[0] == folders[1]
    assert sorted(folders[0]) == ["items-00000.parquet", "provenance.json", "rejects.parquet"]


def test_the_content_is_told_by_names_labels_and_digests_line_by_line(tmp_path: Path) -> None:
    names = ["plain", 'with "quotes"', "stra\u00dfe", "tab\t"]
    table = pa.table({"item_id": names, "label": ["a", None, "b", "a"], "digest": ["00", "11", "22", "33"]})
    pq.write_table(table.slice(0, 3), tmp_path / "items-00000.parquet")
    pq.write_table(table.slice(3), tmp_path / "items-00001.parquet")
    lines = [
        json.dumps([row["item_id"], row["label"], row["digest"]], ensure_ascii=False) + "\n"
        for row in table.to_pylist()
    ]
    assert clean.content_digest(tmp_path) == sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_corrections_keep_the_order_of_rejects_in_a_chunk(at_once: int) -> None:
    rows = pa.RecordBatch.from_pylist([{"item_id": name, "label": "a"} for name in "abcdef"])
    rejects = [(0, Reject("before a", "")), (3, Reject("before d", "")), (6, Reject("behind f", ""))]
    wanted = {"c": (2, "delete", ""), "d": (3, "delete", ""), "e": (4, "relabel", "b")}
    corrections = Corrections(wanted, file="c.csv")
    kept, left_out = [], []
    for start in range(0, 6, at_once):
        stop = min(start + at_once, 6)
        here = tuple(
            (place - start, reject)
            for place, reject in rejects
            if start <= place < stop or place == stop == 6
        )
        done = corrections.apply(Chunk(rows=rows.slice(start, stop - start), rejects=here))
        kept += [tuple(row.values()) for row in done.rows.to_pylist()]
        left_out += [reject.item_id for _, reject in done.rejects]
    assert kept == [("a", "a"), ("b", "a"), ("e", "b"), ("f", "a")]
    assert left_out == ["before a", "c", "before d", "d", "behind f"]
    assert corrections.counts() == {"delete": 2, "relabel": 1}
    corrections.all_used()


def rows(folder: Path) -> list[Mapping[str, int]]:
    return [row for path in shards.shard_paths(folder) for row in pq.read_table(path).to_pylist()]


def test_only_shards_with_late_rejects_are_rewritten(tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int64()), ("b", pa.binary())])
    with shards.ShardWriter(tmp_path, schema, shard_bytes=10_000) as writer:
        columns = {"n": [*range(100)], "b": [bytes(936)] * 100}
        writer.write(pa.RecordBatch.from_pydict(columns, schema=schema))
    before = contents(tmp_path)
    assert len(before) == 10
    shards.drop_rows(tmp_path, np.array([*range(10, 20), 35, 99]))
    after = contents(tmp_path)
    assert [row["n"] for row in rows(tmp_path)] == [*range(10), *range(20, 35), *range(36, 99)]
    assert len(after) == 9  # the second shard is empty and gone, the others moved up
    assert after["items-00003.parquet"] == before["items-00004.parquet"]
    assert not list(tmp_path.glob("*.partial"))


PEAK = """
import sys
from pathlib import Path
from tests.jobs import Chain
print(Chain(Path(sys.argv[1]), {"x.tar": Path(sys.argv[2])}).clean().rows)
# Not getrusage: its peak includes what the parent held when it forked.
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        image = Image.frombytes("RGB", (60, 60), random.Random(count).randbytes(10_800))
        files = {}
        for number in range(count):
            image.putpixel((0, 0), (number % 256, number // 256, 0))
            files[f"{'ab'[number % 2]}/{number}.png"] = encode(image, compress_level=0)
        archive = tmp_path / f"{count}.tar"
        archive.write_bytes(tar_of(files, mode="w"))
        folder = tmp_path / str(count)
        folder.mkdir()
        command = [sys.executable, "-c", PEAK, str(folder), str(archive)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        rows, megabytes = map(int, done.stdout.split())
        assert rows == count
        return megabytes

    few, many = peak(1000), peak(4000)  # 11 and 44 MB of images
    assert many - few < 12, (few, many)
