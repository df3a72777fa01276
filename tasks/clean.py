"""Clean: the published files to verified examples in shards, and a reason for everything left out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data.archives import Raw
from data.chunks import chunks
from data.copies import Index, Late
from data.digests import content_of, joined, json_of
from data.examples import REJECTS, Reject
from data.shards import ShardWriter, drop_rows, shard_paths
from tasks.corrections import Corrections, read_corrections
from tasks.pipeline import Job, Receipt


def run(job: Job) -> Receipt:
    """Write `items-*.parquet`, `rejects.parquet` and `provenance.json`.

    Corrections come first, then what needs all rows: a second item of one name, the same content under two
    labels (all copies go), exact duplicates within one published part (the first stays). Copies in
    different published parts stay for the leak gate. ValueError where no example is left, where all that
    are left are of one class, and where a correction is wrong.
    """
    raw = Raw(job.read("download"))
    schema = job.recipe.schema()
    corrections = read_corrections(job.workspace.resolve(job.entry.corrections))
    index = Index()
    rejects: Counter[str] = Counter()
    with pq.ParquetWriter(job.output / "rejects.parquet", REJECTS, compression="zstd") as writer:
        book = _Book(writer, rejects)
        bar = tqdm(desc="clean", unit=" rows", disable=None)
        with ShardWriter(job.output, schema) as shards, bar:
            for found in chunks(job.recipe.clean(raw, job.block), schema):
                chunk = corrections.apply(found)
                for _, reject in chunk.rejects:
                    book.add(reject)
                index.add(chunk.rows)
                shards.write(chunk.rows)
                bar.update(chunk.rows.num_rows)
                del found, chunk  # before the next one is gathered
        corrections.all_used()
        late = index.late()
        for reject in _late_rejects(job.output, late):
            book.add(reject)
        book.flush()
    labels = index.labels(without=late)
    rows_left = len(index) - len(late)
    relabelled = corrections.counts()["relabel"]
    if relabelled and labels.total() <= relabelled < rows_left:
        raise ValueError(
            f"{corrections.file} relabels {relabelled} examples, but no other example has a label: what is"
            " learned here stands elsewhere; `delete` is the only action that has an effect"
        )
    _check(rows_left, labels, rejects)
    drop_rows(job.output, late.rows())
    content = content_digest(job.output)
    _write_provenance(job, raw, rows_left, rejects, labels, corrections, content)
    size = sum(path.stat().st_size for path in shard_paths(job.output))
    numbers = {"rejects": rejects.total(), "ignored": raw.ignored.total(), "labels": len(labels)}
    return Receipt(rows=rows_left, bytes=size, digest=content, numbers=numbers)


def content_digest(folder: Path) -> str:
    """sha256 over (item_id, label, digest) of all rows in order, one JSON list a line."""
    digest = hashlib.sha256()
    for path in shard_paths(folder):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["item_id", "label", "digest"]):
                cells = joined(*(json_of(column) for column in batch.columns), between=", ")
                digest.update(content_of(joined("[", cells, "]\n")))
    return digest.hexdigest()


class _Book:
    """The list of rejects, written in batches."""

    def __init__(self, writer: Any, counts: Counter[str]) -> None:
        self.writer, self.counts = writer, counts
        self.rows: list[dict[str, str]] = []

    def add(self, reject: Reject) -> None:
        self.counts[reject.reason] += 1
        self.rows.append({"item_id": reject.item_id, "reason": reject.reason, "detail": reject.detail})
        if len(self.rows) >= 4096:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=REJECTS))
            self.rows = []


def _late_rejects(folder: Path, late: Late) -> Iterator[Reject]:
    """The rejects that only the comparison of all rows finds, in the order of the rows."""
    names = _names(folder, late.mentioned())
    for row, reason, other, labels in late:
        if reason == "two labels":
            detail = f"the same content as {names[other]!r}: {' and '.join(labels)}"
        elif reason == "duplicate name":
            detail = "an earlier example has this name"
        else:
            detail = f"the same content as {names[other]!r}"
        yield Reject(names[row], reason, detail)


def _names(folder: Path, rows: set[int]) -> dict[int, str]:
    """Item ids of a few rows, by number of the row over all shards."""
    found: dict[int, str] = {}
    start = 0
    for path in shard_paths(folder) if rows else []:
        ids = pq.read_table(path, columns=["item_id"])["item_id"]
        found |= {row: ids[row - start].as_py() for row in rows if start <= row < start + len(ids)}
        start += len(ids)
    return found


def _check(rows: int, labels: Counter[str], rejects: Counter[str]) -> None:
    reasons = (
        ", ".join(f"{count} {reason}" for reason, count in rejects.most_common()) or "nothing was rejected"
    )
    if not rows:
        raise ValueError(f"no example is left ({reasons}); look at the clean block and at the source's files")
    if len(labels) == 1:
        raise ValueError(
            f"all {rows} examples are of one class, {next(iter(labels))!r} ({reasons});"
            " a classifier needs two: look at clean.labels"
        )


def _write_provenance(
    job: Job,
    raw: Raw,
    rows: int,
    rejects: Counter[str],
    labels: Counter[str],
    corrections: Corrections,
    content: str,
) -> None:
    copied = ("source", "title", "extent", "extent_note", "licence", "citation", "non_commercial", "files")
    record = {
        **{key: raw.manifest[key] for key in copied if key in raw.manifest},
        "rows": rows,
        "rejects": dict(rejects),
        "ignored": dict(raw.ignored),
        "labels": dict(labels),
        "corrections": corrections.counts(),
        "content": content,
    }
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False)
    (job.output / "provenance.json").write_text(text + "\n")
