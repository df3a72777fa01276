"""The gate finds planted leaks and lets look-alikes pass."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps

from data.images.near import correlation, near_hashes, needed
from data.images.reading import perceptual_hash
from data.leaks import Leak, explain, out_of_order, shared, verdict
from tests.jobs import Chain, encode, raw_of, scene, tar_of


def test_every_pair_of_near_hashes_is_found_once() -> None:
    random = np.random.default_rng(0)
    right = random.integers(0, 2**64, 3000, dtype=np.uint64)
    left = right[random.integers(0, 3000, 500)]
    for _ in range(9):
        left ^= np.uint64(1) << random.integers(0, 64, 500, dtype=np.uint64)
    near = np.bitwise_count(left[:, None] ^ right[None])
    for distance in (0, 4, 8, 10, 13):
        found = [np.stack(block, 1) for block in near_hashes(left, right, distance=distance)]
        pairs = np.concatenate(found) if found else np.empty((0, 2), dtype=int)
        assert sorted(map(tuple, pairs.tolist())) == sorted(
            map(tuple, np.argwhere(near <= distance).tolist())
        )


def tampered(number: int, image: Image.Image) -> Image.Image:
    """One of ten ways in which a copy comes back under another name."""
    width, height = image.size
    cut = 0.01 + 0.003 * (number % 8)
    ways: list[Callable[[], Image.Image]] = [
        lambda: Image.open(io.BytesIO(encode(image, "JPEG", quality=50))),
        lambda: image.resize((width // 2, height // 2), Image.Resampling.BICUBIC),
        lambda: image.resize((224, 224), Image.Resampling.BILINEAR),
        lambda: image.crop((round(cut * width), 0, width, round((1 - cut) * height))),
        lambda: image.crop((round(cut * width), round(cut * height), round((1 - cut) * width), height)),
        lambda: ImageEnhance.Brightness(image).enhance(1.2),
        lambda: ImageEnhance.Contrast(image).enhance(0.8),
        lambda: ImageOps.mirror(image),
        lambda: ImageOps.grayscale(image),
        lambda: ImageEnhance.Brightness(ways[1]()).enhance(0.8),
    ]
    return ways[number % len(ways)]().convert("RGB")


def test_of_100_planted_leaks_at_least_95_are_found(datasets: Path, tmp_path: Path) -> None:
    raw = raw_of(tmp_path / "published", {"pets.tgz": datasets / "oxford-iiit-pet.tgz"})
    photographs = [
        member.read()
        for member in raw.members()
        if member.name.startswith("oxford-iiit-pet/images/") and member.name.endswith("jpg")
    ]
    files = {
        f"train/{'ab'[number % 2]}/{number:03}.jpg": content for number, content in enumerate(photographs)
    }
    for number, content in enumerate(photographs[:100]):
        copy = tampered(number, Image.open(io.BytesIO(content)))
        files[f"valid/{'ab'[number % 2]}/{number:03}.jpg"] = encode(copy, "JPEG", quality=92)
    chain = Chain(tmp_path, {"x.tar": tar_of(files, mode="w")}, parts={"train": "train", "valid": "valid"})
    chain.clean()
    chain.split(method="published")
    pairs = chain.json("split", "leaks.json")["pairs"]
    assert {pair["kind"] for pair in pairs} == {"near"}
    found = {pair["right"][-7:] for pair in pairs if pair["left"][-7:] == pair["right"][-7:]}
    assert len(found) >= 95
    assert (
        len([pair for pair in pairs if pair["left"][-7:] != pair["right"][-7:]]) <= 2
    )  # a pair of the originals is near itself


def test_two_published_pets_are_crops_of_one_photograph(datasets: Path, tmp_path: Path) -> None:
    raw = raw_of(tmp_path, {"pets.tgz": datasets / "oxford-iiit-pet.tgz"})
    names = ("oxford-iiit-pet/images/Abyssinian_56.jpg", "oxford-iiit-pet/images/Abyssinian_80.jpg")
    one, two = (Image.open(io.BytesIO(raw.find(name))).convert("L") for name in names)
    assert one.size != two.size
    assert correlation(one, two) > 0.99


def test_the_official_mnist_sample_passes(datasets: Path, tmp_path: Path) -> None:
    chain = Chain(
        tmp_path, {"x.tgz": datasets / "mnist_sample.tgz"}, parts={"train": "train", "valid": "valid"}
    )
    assert chain.clean().rows == 14434
    chain.split(method="published", leaks="stop")
    record = chain.json("split", "leaks.json")
    assert record["verdict"] == "passed"
    assert record["leaks"] == {"exact": 0, "near": 0, "group": 0, "time": 0}
    assert record["parts"] == {"train": 12396, "valid": 2038, "test": 0}
    assert record["near_candidates"] > 100_000  # a hash alone calls digits copies; the pixels decide


def test_correlation_ignores_light_and_crop_but_not_content() -> None:
    one = scene(1, width=200, height=160).convert("L")
    assert correlation(one, ImageEnhance.Brightness(one).enhance(0.7)) > 0.99
    assert correlation(one, one.crop((6, 3, 195, 158))) > needed(one, one) == 0.96
    assert correlation(one, scene(2, width=200, height=160).convert("L")) < 0.8
    assert correlation(one, Image.new("L", (200, 160), 90)) == 0
    assert abs(perceptual_hash(scene(1)) ^ perceptual_hash(scene(1))) == 0


def index() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "digest": ["1", "1", "2", "3"],
            "group": ["p", None, "p", None],
            "time": pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-02", "2024-01-05"]),
        }
    )


PARTS = np.array(["train", "valid", "test", "test"], dtype=object)


def test_shared_content_groups_and_broken_order_are_leaks() -> None:
    exact = shared(index(), PARTS, kind="exact", column="digest")
    assert [(leak.left, leak.right, leak.left_part, leak.right_part) for leak in exact] == [
        ("a", "b", "train", "valid")
    ]
    groups = shared(index(), PARTS, kind="group", column="group")
    assert [(leak.left, leak.right, leak.evidence["group"]) for leak in groups] == [("a", "c", "p")]
    assert [(leak.left, leak.right) for leak in out_of_order(index(), PARTS)] == [("b", "c")]
    assert shared(index(), np.array(["train"] * 4, dtype=object), kind="exact", column="digest") == []


@pytest.mark.parametrize(("stops", "word"), [(True, "stopped"), (False, "reported")])
def test_the_verdict_counts_and_the_message_shows_the_first(stops: bool, word: str) -> None:
    leaks = [
        Leak(kind="exact", left=f"l{n}", right=f"r{n}", left_part="train", right_part="valid")
        for n in range(2000)
    ]
    record = verdict(leaks, stops=stops, method="random")
    assert record["verdict"] == word
    assert record["leaks"]["exact"] == 2000
    assert len(record["pairs"]) == 1000
    message = explain(leaks)
    assert "exact: 'l0' (train) and 'r0' (valid" in message
    assert "and 1995 more" in message
    assert "split.leaks: report" in message
    assert verdict([], stops=stops)["verdict"] == "passed"
