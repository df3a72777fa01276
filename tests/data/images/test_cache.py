"""The cache of decoded pixels: exact, whole or absent, and not needed for the same pixels."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data.examples import Items
from data.images import cache
from data.images.cache import Cached, Decoding, open_pixels, pixel_statistics
from data.images.prepare import prepare
from tests.data.images.written import drawn, encoded, mixed, pets, write_items


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    contents = mixed()
    folder = tmp_path_factory.mktemp("items") / "clean"
    parts = ["valid" if number % 3 == 0 else "train" for number in range(len(contents))]
    return write_items(folder, contents, labels=["a"] * len(contents), parts=parts)


def bytes_of(items: Items, parts: list[str]) -> list[bytes]:
    return items.table(parts, ["image"])["image"].to_pylist()


@pytest.mark.parametrize("resize", ["crop", "squish", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_validation_pixels_are_those_of_prepare(
    items: Items, tmp_path: Path, resize: str, channels: int
) -> None:
    found = open_pixels(items, ["valid"], size=32, channels=channels, resize=resize, folder=tmp_path)
    assert isinstance(found, Cached)
    expected = bytes_of(items, ["valid"])
    assert len(found) == len(expected) == 8
    for place, content in enumerate(expected):
        assert np.array_equal(found[place], prepare(content, size=32, channels=channels, resize=resize))


def test_training_pixels_keep_the_aspect_ratio_with_a_margin(items: Items, tmp_path: Path) -> None:
    found = open_pixels(items, ["train"], size=32, margin=1.25, folder=tmp_path)
    sizes = items.table(["train"], ["width", "height"])
    assert found.geometry.side == 40
    for place, (width, height) in enumerate(
        zip(*(column.to_pylist() for column in sizes.columns), strict=True)
    ):
        rows, columns = found.shapes[place]
        assert min(rows, columns) == 40
        ratio = min(max(width / height, 1 / cache.LONGEST), cache.LONGEST)
        assert columns / rows == pytest.approx(ratio, rel=0.02)
        assert found[place].shape == (rows, columns, 3)


def test_images_of_the_size_stay_exact_in_training_too(tmp_path: Path) -> None:
    drawings = [drawn(seed, 28, 28) for seed in range(6)]
    items = write_items(tmp_path / "clean", [encoded(one) for one in drawings], labels=["a"] * 6)
    found = open_pixels(items, ["train"], size=28, margin=1.15, folder=tmp_path / "cache")
    assert all(np.array_equal(found[place], one) for place, one in enumerate(drawings))


@pytest.mark.parametrize("margin", [None, 1.25])
@pytest.mark.parametrize("resize", ["crop", "squish"])
def test_decoding_on_the_fly_gives_the_same_pixels(
    items: Items, tmp_path: Path, margin: float | None, resize: str, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"size": 32, "margin": margin, "resize": resize}
    cached = open_pixels(items, ["train", "valid"], folder=tmp_path / "roomy", **both)
    flying = open_pixels(items, ["train", "valid"], folder=tmp_path / "tight", limit=1000, **both)
    assert isinstance(cached, Cached)
    assert isinstance(flying, Decoding)
    assert "decoding on the fly" in caplog.text
    assert not list((tmp_path / "tight").glob("**/*.u8"))
    assert np.array_equal(cached.shapes, flying.shapes)
    for place in np.random.default_rng(0).permutation(len(cached)):
        assert np.array_equal(cached[place], flying[place])


def test_on_the_fly_few_encoded_images_are_held(items: Items, tmp_path: Path) -> None:
    shapes = open_pixels(items, ["train"], size=32, folder=tmp_path).shapes
    flying = Decoding(items, ["train"], shapes, cache.Geometry(size=32), held=1)
    assert all(flying[place].shape == (32, 32, 3) for place in range(len(flying)))
    assert len(flying._groups) == 1


def test_a_full_disk_leaves_nothing_behind(
    items: Items, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    found = open_pixels(items, ["valid"], size=32, folder=tmp_path)
    assert isinstance(found, Decoding)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_cache_is_reused_and_its_key_holds_all_settings(items: Items, tmp_path: Path) -> None:
    def folder(**settings: object) -> Path:
        found = open_pixels(items, ["train"], folder=tmp_path, **{"size": 32, **settings})  # type: ignore[arg-type]
        assert isinstance(found, Cached)
        return found.folder

    first = folder()
    stamp = (first / "pixels.u8").stat().st_mtime_ns
    assert folder() == first
    assert (first / "pixels.u8").stat().st_mtime_ns == stamp
    variants = [
        folder(**one) for one in ({"size": 33}, {"margin": 1.2}, {"channels": 1}, {"resize": "squish"})
    ]
    assert len({first, *variants}) == 5
    assert open_pixels(items, ["valid"], size=32, folder=tmp_path).folder not in {first, *variants}  # type: ignore[attr-defined]


def test_a_cache_that_was_cut_is_built_anew(items: Items, tmp_path: Path) -> None:
    found = open_pixels(items, ["valid"], size=32, folder=tmp_path)
    assert isinstance(found, Cached)
    before = found[3].copy()
    os.truncate(found.folder / "pixels.u8", 100)
    assert np.array_equal(open_pixels(items, ["valid"], size=32, folder=tmp_path)[3], before)


def test_the_number_of_threads_does_not_change_a_byte(items: Items, tmp_path: Path) -> None:
    files = []
    for workers in (1, 4):
        found = open_pixels(
            items, ["train"], size=32, margin=1.2, folder=tmp_path / str(workers), workers=workers
        )
        assert isinstance(found, Cached)
        files.append((found.folder / "pixels.u8").read_bytes())
    assert files[0] == files[1]


def test_kill_9_in_the_middle_leaves_no_cache_and_the_next_run_builds_it(
    items: Items, tmp_path: Path
) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from data.examples import Items\n"
        "from data.images import cache\n"
        "keep = cache.Geometry.keep\n"
        "def slowly(self, encoded, name):\n"
        "    if name > '010':\n"
        "        print('half', flush=True); time.sleep(60)\n"
        "    return keep(self, encoded, name)\n"
        "cache.Geometry.keep = slowly\n"
        "clean, folder = map(Path, sys.argv[1:])\n"
        "cache.open_pixels(Items(clean, clean), ['valid'], size=32, folder=folder, workers=1)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(items.clean), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".lock", ".partial"]
    found = open_pixels(items, ["valid"], size=32, folder=tmp_path)
    assert isinstance(found, Cached)
    for place, content in enumerate(bytes_of(items, ["valid"])):
        assert np.array_equal(found[place], prepare(content, size=32))
    assert not list(tmp_path.glob("*.partial"))


def test_an_image_that_cannot_be_read_is_named_and_nothing_stays(tmp_path: Path) -> None:
    items = write_items(tmp_path / "clean", mixed(8), labels=["a"] * 8)
    shard = items.shards()[1]
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(shard)
    images = table["image"].to_pylist()
    images[2] = b"rotten"
    place = table.schema.get_field_index("image")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(images, pa.binary())), shard)
    with pytest.raises(ValueError, match="006: not an image that can be read"):
        open_pixels(items, ["train"], size=32, folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("**/*.u8"))


def test_no_image_in_a_part_is_an_error(items: Items, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image belongs to test"):
        open_pixels(items, ["test"], size=32, folder=tmp_path)


def test_statistics_are_exact(items: Items, tmp_path: Path) -> None:
    found = open_pixels(items, ["train"], size=32, margin=1.2, folder=tmp_path)
    everything = np.concatenate([found[place].reshape(-1, 3) for place in range(len(found))]) / 255
    statistics = pixel_statistics(found)
    assert statistics["mean"] == pytest.approx(everything.mean(0), abs=1e-12)
    assert statistics["std"] == pytest.approx(everything.std(0), abs=1e-12)


def test_real_photographs(datasets: Path, tmp_path: Path) -> None:
    contents = pets(datasets)
    items = write_items(tmp_path / "clean", contents, labels=["pet"] * len(contents))
    begin = time.perf_counter()
    found = open_pixels(items, ["train"], size=128, folder=tmp_path / "cache")
    print(f"{len(found) / (time.perf_counter() - begin):.0f} photographs decoded per second")
    assert len(found) == len(contents) >= 100
    for place in range(0, len(contents), 9):
        assert np.array_equal(found[place], prepare(contents[place], size=128))


def test_reading_needs_no_torch() -> None:
    program = "import sys, data.images.cache, data.images.settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
