"""How time and memory grow with the rows: clean, split and fine_tune as processes, as DVC runs them.

`python -m benchmarks growth` measures; `python -m benchmarks.growth make KIND ROWS FILE` and `decode FILE`
are the processes that draw the data and decode it for comparison.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import yaml

from benchmarks.growth_data import ENTRIES, FILES, make
from benchmarks.race import ROOT

SIZES = {
    "ratings": (100_000, 1_000_000, 10_000_000),
    "tables": (100_000, 1_000_000, 10_000_000),
    "jpegs": (1_000, 10_000, 100_000),
}
STAGES = {
    "ratings": ("clean", "split", "fine_tune"),
    "tables": ("clean", "split", "fine_tune"),
    "jpegs": ("clean", "split"),
}
CODE = ("data", "models", "recipes", "sources", "tasks")

WINDOW = 4096
"""Encoded images that the bare decoder holds at once."""


WATCH = """
import json, os, subprocess, sys, threading, time, psutil
started, ended, together = time.perf_counter(), threading.Event(), [0]
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
def held():
    found = psutil.Process(process.pid)
    for each in [found, *found.children(recursive=True)]:
        try: yield each.memory_info().rss
        except psutil.Error: pass
def look():
    while not ended.wait(0.1):
        try: together.append(sum(held()))
        except psutil.Error: return
watcher = threading.Thread(target=look)
watcher.start()
_, status, usage = os.wait4(process.pid, 0)
ended.set()
watcher.join()
print(json.dumps({
    "seconds": round(time.perf_counter() - started, 2),
    "processor": round(usage.ru_utime + usage.ru_stime, 2),
    "peak_mb": round(max(usage.ru_maxrss * 1024, *together) / 1e6),
}))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a process from a small one: a peak counts the memory of what the process was forked from. Looks ten
times a second at what it and its children hold together."""


def measure(only: str = "", *, largest: int = 10**9, place: Path | None = None) -> Iterator[dict[str, Any]]:
    """Figures of each kind whose name contains `only`, as JSON, at all its sizes up to `largest`.

    Of each stage `seconds` of the whole process, `processor` (its seconds on processors) and `peak_mb` (the
    largest resident memory in 10**6 bytes, that of its child processes added). `place`: where some 10 GB may
    be written meanwhile.
    """
    for kind in (each for each in SIZES if only in each):
        for rows in (each for each in SIZES[kind] if each <= largest):
            with TemporaryDirectory(prefix="growth-", dir=place) as folder:
                yield {"kind": kind, "rows": rows, **_grown(kind, rows, Path(folder))}


def _grown(kind: str, rows: int, folder: Path) -> dict[str, Any]:
    source = folder / FILES[kind]
    watched([sys.executable, "-m", "benchmarks.growth", "make", kind, str(rows), str(source)], ROOT)
    found: dict[str, Any] = {"source_mb": source.stat().st_size / 1e6}
    if kind == "jpegs":
        decode = [sys.executable, "-m", "benchmarks.growth", "decode", str(source)]
        found["bare_decoder"] = watched(decode, ROOT)
    project = _project(folder / "project", kind, source)
    watched([sys.executable, "-m", "tasks", "download", kind], project)
    source.unlink()
    stages = STAGES[kind]
    found["stages"] = {
        stage: watched([sys.executable, "-m", "tasks", stage, kind], project) for stage in stages
    }
    return found


def _project(folder: Path, kind: str, source: Path) -> Path:
    """A checkout with one application."""
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    none = dict.fromkeys(("corrections", "starts_from", "judge"), "sources/none")
    entry = {"source": str(source), **none, "download": {}, **ENTRIES[kind], "evaluate": {}, "export": {}}
    parameters |= {"applications": {kind: entry}}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    return folder


def watched(command: list[str], folder: Path) -> dict[str, float]:
    """Run to the end; RuntimeError with its last lines where it fails."""
    # DVC_STAGE: as DVC calls it, without a record of its own; one thread, as training has it
    environment = {**os.environ, "DVC_STAGE": "growth", "OMP_NUM_THREADS": "1"}
    with TemporaryFile("w+") as messages:
        done = subprocess.run(
            [sys.executable, "-c", WATCH, *command],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=messages, text=True, check=False,
        )  # fmt: skip
        messages.seek(0)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} failed:\n{messages.read()[-2000:]}")
    return dict(json.loads(done.stdout))


def decode(path: Path, *, workers: int | None = None) -> int:
    """Open and convert every file of a tar, on as many threads as `clean` has; how many there are."""
    import io
    import tarfile
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    def pixels(content: bytes) -> None:
        Image.open(io.BytesIO(content)).convert("RGB")

    count = 0
    with tarfile.open(path, "r|") as tar, ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        files = (tar.extractfile(member) for member in tar)
        contents = (file.read() for file in files if file is not None)
        while window := list(islice(contents, WINDOW)):
            count += len(list(pool.map(pixels, window)))
    return count


def table(figures: Iterable[Mapping[str, Any]]) -> str:
    """Markdown: a row for each kind, size and stage; in brackets what it costs for each row."""
    lines = [
        "| data | rows | work | seconds | µs a row | peak memory, MB |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for each in figures:
        bare = {"bare decoder": each["bare_decoder"]} if "bare_decoder" in each else {}
        for work, found in (bare | each["stages"]).items():
            cost = found["seconds"] / each["rows"] * 1e6
            lines.append(
                f"| {each['kind']} | {each['rows']:,} | {work} | {found['seconds']:.1f} | {cost:.1f} |"
                f" {found['peak_mb']:,} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        print(decode(Path(sys.argv[2])))
