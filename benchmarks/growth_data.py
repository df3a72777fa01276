"""Generated tables, ratings and photographs of any number, with faults and copies among them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SEED = 7
PIECE = 1_000_000
"""Rows that are drawn at once."""

LEARNING = {"threads": 1, "batch_size": 4096, "phases": [{"epochs": 1, "rates": [0.005]}]}

ENTRIES: Mapping[str, Mapping[str, Any]] = {
    "ratings": {
        "recipe": "collaborative_filtering",
        "family": "ratings",
        "clean": {"range": [0.5, 5], "ratings": {"file": "ratings.csv", "time": "timestamp"}},
        "split": {"method": "random"},
        "fine_tune": {"network": {"name": "dot_bias", "factors": 50}, **LEARNING},
    },
    "tables": {
        "recipe": "tabular_classification",
        "family": "tabular",
        "clean": {"table": "tables.csv", "target": "outcome"},
        "split": {"method": "stratified"},
        "fine_tune": LEARNING,
    },
    "jpegs": {
        "recipe": "image_classification",
        "family": "vision",
        "clean": {},
        "split": {"duplicates": "together"},
        "fine_tune": {},
    },
}
"""What an application of each kind has in `params.yaml`."""

FILES = {"ratings": "ratings.csv", "tables": "tables.csv", "jpegs": "jpegs.tar"}


def make(kind: str, rows: int, path: Path) -> None:
    """Write the file of one kind."""
    {"ratings": _ratings, "tables": _tables, "jpegs": _jpegs}[kind](rows, path)


def _ratings(rows: int, path: Path) -> None:
    """A hundred ratings a user and a thousand a film; some users rate a film twice, a few rate it 9."""
    _write(
        path,
        rows,
        lambda draw, count, _: {
            "userId": draw.integers(1, rows // 100 + 2, count),
            "movieId": draw.integers(1, rows // 1000 + 2, count),
            "rating": np.where(draw.random(count) < 1e-4, 9.0, draw.integers(1, 11, count) / 2),
            "timestamp": draw.integers(800_000_000, 1_500_000_000, count),
        },
    )


def _tables(rows: int, path: Path) -> None:
    """Eight names and six numbers, one of them with gaps; the outcome hangs on two of them."""

    def piece(draw: np.random.Generator, count: int, start: int) -> dict[str, Any]:
        places = [draw.integers(0, 4 << each, count) for each in range(8)]
        columns: dict[str, Any] = {
            f"name {each}": np.array([f"n{place}" for place in range(4 << each)])[codes]
            for each, codes in enumerate(places)
        }
        columns |= {f"count {each}": draw.integers(0, 10 ** (each + 1), count) for each in range(3)}
        columns |= {f"share {each}": draw.random(count).round(each + 2) for each in range(3)}
        sum_of = columns["share 2"] + (places[0] == 1) + draw.normal(0, 0.3, count)
        columns["share 0"] = np.where(draw.random(count) < 0.01, np.nan, columns["share 0"])
        return columns | {"outcome": np.where(sum_of > 0.7, "yes", "no")}

    _write(path, rows, piece)


def _write(path: Path, rows: int, piece: Any) -> None:
    import pyarrow as pa
    from pyarrow import csv

    draw, writer = np.random.default_rng(SEED), None
    for start in range(0, rows, PIECE):
        columns = piece(draw, min(PIECE, rows - start), start)
        table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
        plain = csv.WriteOptions(quoting_style="none")
        writer = writer or csv.CSVWriter(path, table.schema, write_options=plain)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _jpegs(count: int, path: Path) -> None:
    """Pictures of 128 by 112 pixels in two folders; one in a hundred is the one before, cut and encoded
    anew."""
    from PIL import Image

    draw = np.random.default_rng(SEED)
    grain = draw.normal(0, 10, (256, 256, 1))
    last: Image.Image | None = None
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            if last is not None and number % 100 == 99:
                image, quality = last.crop((2, 2, 124, 110)), 60
            else:
                coarse = draw.integers(0, 256, (7, 8, 3), dtype=np.uint8)
                smooth = np.asarray(Image.fromarray(coarse).resize((128, 112), Image.Resampling.BICUBIC))
                top, left = draw.integers(0, 128, 2)
                noisy = smooth + grain[top : top + 112, left : left + 128]
                image, quality = Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), 85
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            info = tarfile.TarInfo(f"{'ab'[number % 2]}/{number:07}.jpg")
            info.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(info, buffer)
            last = image
