"""Pictures written as a clean and a split folder, as the stages would."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data.examples import SPLIT, Items
from data.images.cleaning import image_schema
from data.images.reading import Picture, read_image


def drawn(seed: int, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: a smooth field of colours with a bright corner at the top left."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 200, (4, 5, 3), dtype=np.uint8))
    field = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    field[: height // 8, : width // 8] = 255
    return field


def encoded(values: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    """`values` as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format=form, **options)
    return buffer.getvalue()


def write_items(
    folder: Path,
    contents: Sequence[bytes],
    *,
    labels: Sequence[str | None],
    parts: Sequence[str] | None = None,
) -> Items:
    """Items `000`, `001`, ... of `contents`, in row groups of 5; part train unless `parts` says else."""
    rows = []
    for number, (content, label) in enumerate(zip(contents, labels, strict=True)):
        picture = read_image(content)
        assert isinstance(picture, Picture), picture
        rows.append(
            {
                "item_id": f"{number:03}", "label": label, "digest": picture.digest, "image": picture.encoded,
                "width": picture.width, "height": picture.height, "reencoded": picture.reencoded,
                "phash": picture.phash,
            }
        )  # fmt: skip
    folder.mkdir(parents=True)
    half = len(rows) // 2
    for shard, some in enumerate((rows[:half], rows[half:])):
        table = pa.Table.from_pylist(some, image_schema())
        pq.write_table(table, folder / f"items-{shard:05}.parquet", row_group_size=5)
    named = zip(rows, parts or ["train"] * len(rows), strict=True)
    split = [{"item_id": row["item_id"], "part": part} for row, part in named]
    pq.write_table(pa.Table.from_pylist(split, SPLIT), folder / "split.parquet")
    return Items(folder, folder)


def mixed(count: int = 24) -> list[bytes]:
    """Pictures of many sizes and shapes, some of them JPEG."""
    sizes = [(64, 48), (48, 64), (50, 50), (120, 40), (41, 133), (300, 200)]
    return [
        encoded(drawn(number, *sizes[number % len(sizes)]), "JPEG" if number % 4 == 1 else "PNG")
        for number in range(count)
    ]


def pets(datasets: Path) -> list[bytes]:
    """The real photographs."""
    with tarfile.open(datasets / "oxford-iiit-pet.tgz") as archive:
        members = [member for member in archive if member.name.endswith(".jpg")]
        return [file.read() for member in members if (file := archive.extractfile(member))]
