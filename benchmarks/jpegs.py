"""Drawn JPEG files, as a folder per class and as the cleaned and split items of this project."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import SEED

WIDTH, HEIGHT = 320, 240


def write_jpegs(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Noisy colour fields of `sizes["classes"]` classes: `sizes["train"]` of them, then `sizes["valid"]`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data.examples import SPLIT
    from data.images.cleaning import image_schema
    from data.images.reading import Picture, read_image

    rows, split = [], []
    for number in range(sizes["train"] + sizes["valid"]):
        label = number % sizes["classes"]
        name = f"class_{label}/{number:05d}.jpg"
        part = "train" if number < sizes["train"] else "valid"
        content = _drawn(number, label)
        path = folder / "jpegs" / part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        picture = read_image(content)
        assert isinstance(picture, Picture)
        rows.append(
            {
                "item_id": name, "label": f"class_{label}", "digest": picture.digest,
                "image": picture.encoded, "width": picture.width, "height": picture.height,
                "reencoded": picture.reencoded, "phash": picture.phash,
            }
        )  # fmt: skip
        split.append({"item_id": name, "part": part})
    for stage, file, table in (
        ("clean", "items-00000.parquet", pa.Table.from_pylist(rows, image_schema())),
        ("split", "split.parquet", pa.Table.from_pylist(split, SPLIT)),
    ):
        (folder / stage).mkdir()
        pq.write_table(table, folder / stage / file, row_group_size=64)


def _drawn(number: int, label: int) -> bytes:
    """A smooth field of colours, brighter in the channels that the label's bits name, with noise."""
    from PIL import Image

    draw = np.random.default_rng([SEED, number])
    bright = 70 * np.array([label & 1, label >> 1 & 1, label >> 2 & 1])
    coarse = (draw.integers(0, 256, (30, 40, 3)) * 0.7 + bright).clip(0, 255).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    noisy = (smooth.astype(np.int16) + draw.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def fastai_loaders(folder: Path, sizes: Mapping[str, Any], *, augmented: bool) -> Any:
    """fastai's own, without worker processes; `augmented`: RandomResizedCrop and aug_transforms, its default,
    otherwise the centre."""
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        GrandparentSplitter,
        ImageBlock,
        Normalize,
        RandomResizedCrop,
        Resize,
        aug_transforms,
        get_image_files,
        imagenet_stats,
        parent_label,
    )

    size = sizes["size"]
    block = DataBlock(
        (ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label,
        splitter=GrandparentSplitter("train", "valid"),
        item_tfms=RandomResizedCrop(size, min_scale=0.35) if augmented else Resize(size),
        batch_tfms=[*(aug_transforms() if augmented else []), Normalize.from_stats(*imagenet_stats)],
    )  # fmt: skip
    return block.dataloaders(folder / "jpegs", bs=sizes["batch_size"], num_workers=0)


def recipe(folder: Path, cache: Path, **settings: Any) -> tuple[Any, Any, Any]:
    """(learning, network, phases) as the stage asks the recipe for them; the weights are random."""
    import torch

    from data.examples import Items
    from models.hardware import keep_freed_memory
    from recipes.image_classification import RECIPE, ImageTraining

    keep_freed_memory()
    block = ImageTraining.model_validate({"network": {"name": "resnet18"}, "threads": 1, **settings})
    learning = RECIPE.learn(Items(folder / "clean", folder / "split"), block, cache)
    torch.manual_seed(SEED)
    network = RECIPE.network(block, learning.facts)
    return learning, network, RECIPE.phases(block, network, learning, None)
