"""Split: which example is held out, and the gate that looks for what the parts share."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.copies import shared_digests
from data.examples import INDEX, PARTS, SPLIT
from data.leaks import Leak, across, explain, out_of_order, shared, verdict
from data.shards import shard_paths
from data.splits import OUT, Division, divide
from tasks.pipeline import Job, Receipt

IMAGE_COLUMNS = ("image", "phash")
"""Columns by which near duplicates can be found."""


def run(job: Job) -> Receipt:
    """Write `split.parquet` (sorted by item id) and `leaks.json`.

    ValueError where a part would be empty, and where the gate finds a leak in a split of our own, unless
    the block says `leaks: report`; then a published split is reported and never changed.
    """
    block = job.block
    folder = job.read("clean")
    index = read_index(folder)
    images = set(IMAGE_COLUMNS) <= set(pq.read_schema(shard_paths(folder)[0]).names)
    together = block.duplicates == "together" and images and block.method != "published"
    pairs, candidates = _near(folder, index, None, block.distance) if together else ([], 0)
    division = divide(
        index, method=block.method, valid=block.valid, test=block.test, seed=block.seed,
        small_classes=block.small_classes, ties=[(pair.left, pair.right) for pair in pairs],
        folds=block.folds, fold=block.fold,
    )  # fmt: skip
    if images and not together:
        pairs, candidates = _near(folder, index, division, block.distance)
    leaks = [*_leaks(index, division, block.method), *_near_leaks(index, division, pairs)]
    stops = (block.leaks or ("report" if block.method == "published" else "stop")) == "stop"
    facts = {
        "method": block.method,
        "parts": _counts(division),
        "near_candidates": candidates,
        "small_classes": {"handling": block.small_classes, "examples": division.small_classes},
        "unseen_classes": division.unseen_classes,
    }
    record = verdict(leaks, stops=stops, **facts)
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if leaks and stops:
        log = job.workspace.state / "logs" / f"{job.application}-leaks.json"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
        raise ValueError(explain(leaks))
    (job.output / "leaks.json").write_text(text)
    kept = division.parts != OUT
    columns = [pa.array(index["item_id"][kept], pa.string()), pa.array(division.parts[kept], pa.string())]
    table = pa.Table.from_arrays(columns, schema=SPLIT)
    pq.write_table(table, job.output / "split.parquet", compression="zstd")
    numbers = {
        **facts["parts"],
        "leaks": len(leaks),
        "small_classes": len(division.small_classes),
        "unseen_classes": len(division.unseen_classes),
    }
    return Receipt(rows=int(kept.sum()), numbers=numbers)


def read_index(folder: Path) -> pd.DataFrame:
    """The index columns (and the perceptual hash, where there is one) of all examples, sorted by item id.

    Column `row` is the number of the example over all shards. Column `digest` is empty where no other
    example can have the same content.
    """
    paths = shard_paths(folder)
    if not paths:
        raise ValueError(f"{folder} has no items; run the clean stage again")
    wanted = {*INDEX.names, "phash"} - {"digest"}
    columns = [name for name in pq.read_schema(paths[0]).names if name in wanted]
    # label, part and group as categories: four bytes a row, however long the names
    named = [name for name in ("label", "part", "group") if name in columns]
    tables = [pq.read_table(path, columns=columns, read_dictionary=named) for path in paths]
    table = pa.concat_tables(tables).append_column("digest", shared_digests(paths).dictionary_encode())
    table = table.unify_dictionaries()
    names = table["item_id"]
    rows = np.arange(len(names))
    if not pc.all(pc.less(names[:-1], names[1:])).as_py():
        rows = pc.sort_indices(names).to_numpy().astype(np.int64)
        table = table.take(pa.array(rows))
    index: pd.DataFrame = table.to_pandas().assign(row=rows)
    del table, tables, names
    pa.default_memory_pool().release_unused()
    return index


def _near(
    folder: Path, index: pd.DataFrame, division: Division | None, distance: int
) -> tuple[list[Any], int]:
    """Confirmed near duplicates across parts, or among all examples; rows are those of the index."""
    from dataclasses import replace

    from data.images.near import near_duplicates

    row = index["row"].to_numpy()
    back = np.argsort(row)
    hashes = index["phash"].to_numpy(dtype=np.int64)[back].view(np.uint64)
    everything = np.arange(len(index))
    sides = [(everything, everything)] if division is None else across(division.parts)
    if division is not None:
        sides = [(row[left], row[right]) for left, right in sides]
    pairs, candidates = near_duplicates(folder, hashes, sides, distance=distance)
    return [
        replace(pair, left=int(back[pair.left]), right=int(back[pair.right])) for pair in pairs
    ], candidates


def _leaks(index: pd.DataFrame, division: Division, method: str) -> list[Leak]:
    leaks = shared(index, division.parts, kind="exact", column="digest")
    leaks += shared(index, division.parts, kind="group", column="group")
    if method in ("time", "published"):
        leaks += out_of_order(index, division.parts)
    return leaks


def _near_leaks(index: pd.DataFrame, division: Division, pairs: list[Any]) -> list[Leak]:
    leaks = []
    for pair in pairs:
        left, right = sorted((pair.left, pair.right), key=lambda row: (_rank(division.parts[row]), row))
        parts = division.parts[left], division.parts[right]
        if OUT in parts or parts[0] == parts[1] or index["digest"][left] == index["digest"][right]:
            continue
        evidence = {"correlation": pair.correlation, "hash_bits": pair.bits, "mirrored": pair.mirrored}
        leaks.append(
            Leak(
                kind="near", left=index["item_id"][left], right=index["item_id"][right], left_part=parts[0],
                right_part=parts[1], evidence=evidence,
            )
        )  # fmt: skip
    return leaks


def _rank(part: Any) -> int:
    return PARTS.index(part) if part in PARTS else len(PARTS)


def _counts(division: Division) -> dict[str, int]:
    counts = Counter(division.parts.tolist())
    return {part: counts[part] for part in PARTS} | ({"left_out": counts[OUT]} if counts[OUT] else {})
