"""Split: the gate stops what leaks and reports what is published; the order of rows does not matter."""

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from data import shards
from tests.jobs import Chain, encode, scene, tar_of


def files(count: int = 20, *, copies: int = 0) -> dict[str, bytes]:
    """`count` pictures of each of two classes, and as JPEG `copies` of the first of each."""
    plain = {
        f"{label}/{number}.png": encode(scene(100 * place + number))
        for place, label in enumerate("ab")
        for number in range(count)
    }
    for label in "ab":
        for number in range(copies):
            image = Image.open(io.BytesIO(plain[f"{label}/{number}.png"]))
            plain[f"{label}/{number}-copy.jpg"] = encode(image, "JPEG", quality=80)
    return plain


def parts_of(chain: Chain) -> dict[str, str]:
    table = pq.read_table(chain.folder("split") / "split.parquet")
    return dict(zip(table["item_id"].to_pylist(), table["part"].to_pylist(), strict=True))


def chain_of(root: Path, content: dict[str, bytes], **block: Any) -> Chain:
    root.mkdir(exist_ok=True)
    chain = Chain(root, {"x.tar": tar_of(content, mode="w")}, **block)
    chain.clean()
    return chain


def test_a_split_without_leak_passes(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, files())
    receipt = chain.split(valid=0.25)
    assert receipt.numbers == {
        "train": 30,
        "valid": 10,
        "test": 0,
        "leaks": 0,
        "small_classes": 0,
        "unseen_classes": 0,
    }
    assert list(parts_of(chain)) == sorted(parts_of(chain))
    record = chain.json("split", "leaks.json")
    assert (record["verdict"], record["parts"]) == ("passed", {"train": 30, "valid": 10, "test": 0})


def test_near_duplicates_stop_a_drawn_split_are_reported_or_kept_together(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, files(copies=10))
    with pytest.raises(
        ValueError, match=r"(?s)parts share .*near: './\d+.*\(train\).*split.duplicates: together"
    ):
        chain.split()
    assert not chain.folder("split").exists()
    assert (tmp_path / ".practicum" / "logs" / "app-leaks.json").exists()
    chain.split(leaks="report")
    record = chain.json("split", "leaks.json")
    assert record["verdict"] == "reported"
    assert record["leaks"]["near"] == len(record["pairs"]) > 0
    assert min(pair["evidence"]["correlation"] for pair in record["pairs"]) >= 0.96
    chain.split(duplicates="together")
    assert chain.json("split", "leaks.json")["verdict"] == "passed"
    parts = parts_of(chain)
    assert all(parts[name] == parts[name.replace("-copy.jpg", ".png")] for name in parts if "copy" in name)


def test_a_published_split_is_reported_and_never_changed(tmp_path: Path) -> None:
    content = {f"train/{name}": image for name, image in files(6).items()}
    content |= {f"valid/{name}": image for name, image in files(8).items() if "5" in name or "6" in name}
    chain = chain_of(tmp_path, content, parts={"train": "train", "valid": "valid"})
    chain.split(method="published")
    record = chain.json("split", "leaks.json")
    assert record["verdict"] == "reported"
    assert record["leaks"] == {"exact": 2, "near": 0, "group": 0, "time": 0}
    assert {name: name.split("/")[0] for name in content} == parts_of(chain)
    with pytest.raises(ValueError, match=r"2 exact"):
        chain.split(method="published", leaks="stop")
    chain.split(method="stratified")  # drawn anew, equal content stays together
    assert chain.json("split", "leaks.json")["verdict"] == "passed"


def test_a_shared_group_stops_the_run(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, files(), group={"pattern": r"/(\d)\d?\.png"})
    with pytest.raises(ValueError, match=r"group: .* group 1, examples 22"):
        chain.split()
    chain.split(method="group")
    assert chain.json("split", "leaks.json")["verdict"] == "passed"


def test_unlabelled_published_images_stay_test(tmp_path: Path) -> None:
    content = files() | {f"test1/{number}.png": encode(scene(500 + number)) for number in range(5)}
    chain = chain_of(tmp_path, content, unlabelled=["test1"])
    for method in ("random", "stratified"):
        chain.split(method=method)
        parts = parts_of(chain)
        assert {name for name, part in parts.items() if part == "test"} == {
            f"test1/{n}.png" for n in range(5)
        }
    with pytest.raises(ValueError, match="published part"):
        chain.split(method="published")


def test_small_classes_are_reported_or_left_out(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, files() | {"rare/1.png": encode(scene(900))})
    chain.split()
    assert parts_of(chain)["rare/1.png"] == "train"
    assert chain.json("split", "leaks.json")["small_classes"] == {
        "examples": {"rare": 1},
        "handling": "train",
    }
    receipt = chain.split(small_classes="reject")
    assert "rare/1.png" not in parts_of(chain)
    assert (receipt.rows, receipt.numbers["left_out"]) == (40, 1)


def test_the_split_does_not_depend_on_the_order_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = files(copies=5)
    answers = []
    for name, names in (("one", sorted(content)), ("two", sorted(content, reverse=True))):
        monkeypatch.setattr(shards.ShardWriter.__init__, "__kwdefaults__", {"shard_bytes": 100_000})
        chain = chain_of(tmp_path / name, {each: content[each] for each in names})
        assert len(shards.shard_paths(chain.folder("clean"))) > 3
        chain.split(duplicates="together", seed=7)
        answers.append(
            [(chain.folder("split") / file).read_bytes() for file in ("split.parquet", "leaks.json")]
        )
    assert answers[0] == answers[1]


def test_the_real_pets_in_a_stratified_split(datasets: Path, tmp_path: Path) -> None:
    labels = {"from": "name", "pattern": r"^(.+)_\d+\.jpg$"}
    chain = Chain(
        tmp_path, {"x.tgz": datasets / "oxford-iiit-pet.tgz"}, images="oxford-iiit-pet/images/", labels=labels
    )
    chain.clean()
    receipt = chain.split(duplicates="together", distance=12)
    assert (receipt.numbers["train"], receipt.numbers["valid"]) == (99, 25)
    record = chain.json("split", "leaks.json")
    assert record["small_classes"]["examples"] == {
        "British_Shorthair": 1,
        "Russian_Blue": 1,
        "Siamese": 1,
        "pug": 1,
    }
    parts = parts_of(chain)
    twins = ("oxford-iiit-pet/images/Abyssinian_56.jpg", "oxford-iiit-pet/images/Abyssinian_80.jpg")
    for seed in range(8):  # two crops of one photograph, as published
        chain.split(duplicates="together", distance=12, seed=seed)
        parts = parts_of(chain)
        assert parts[twins[0]] == parts[twins[1]]
