"""Small images with a mask each, and the archives and items that hold them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.examples import SPLIT, Items, Reject
from data.images.masks import MaskCleaning
from data.images.masks_cleaning import clean_masks, mask_schema
from data.shards import ShardWriter
from tests.data.images.written import encoded
from tests.jobs import raw_of, tar_of

NAMES = ["wall", "disc", "nobody"]
"""Classes of the drawn masks; the last one is void."""


def disc(seed: int, *, height: int = 24, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) and (H, W): a bright disc on a dark wall, and a strip at the right that is nobody's."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    y, x, r = rng.uniform(8, height - 8), rng.uniform(8, width - 10), rng.uniform(4, 7)
    inside = (rows - y) ** 2 + (columns - x) ** 2 < r**2
    image = rng.integers(0, 90, (height, width, 3))
    image[inside] += rng.integers(120, 160, 3)
    mask = inside.astype(np.uint8)
    mask[:, -3:] = 2
    return image.astype(np.uint8), mask


def archive(count: int = 12, **others: bytes) -> dict[str, bytes]:
    """`set/photos/007.png` with `set/truth/007_L.png`, and the names in `set/names.txt`."""
    files: dict[str, bytes] = {}
    for number in range(count):
        image, mask = disc(number)
        files[f"set/photos/{number:03}.png"] = encoded(image)
        files[f"set/truth/{number:03}_L.png"] = encoded(mask)
    return {**files, "set/names.txt": "\n".join(NAMES).encode(), **others}


BLOCK: dict[str, Any] = {
    "images": "set/photos",
    "mask": {"folder": "set/truth", "pattern": "{stem}_L.png"},
    "classes": {"file": "names.txt", "void": ["nobody"]},
}


def cleaned(
    folder: Path, files: Mapping[str, bytes], **changes: Any
) -> tuple[list[dict[str, Any]], dict[str, Reject]]:
    """Rows, and rejects by item id, of an archive with these files."""
    raw = raw_of(folder, {"set.tgz": tar_of(files)})
    results = list(clean_masks(raw, MaskCleaning.model_validate({**BLOCK, **changes})))
    rows = [result for result in results if not isinstance(result, Reject)]
    return rows, {result.item_id: result for result in results if isinstance(result, Reject)}


def write_pairs(folder: Path, *, count: int = 12, valid: int = 4) -> Items:
    """Items of drawn discs; the last `valid` are for validation."""
    rows, _ = cleaned(folder / "download", archive(count))
    with ShardWriter(folder, mask_schema()) as shards:
        shards.write(pa.RecordBatch.from_pylist(rows, schema=mask_schema()))
    split = [
        {"item_id": row["item_id"], "part": "train" if place < count - valid else "valid"}
        for place, row in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(split, SPLIT), folder / "split.parquet")
    return Items(folder, folder)
