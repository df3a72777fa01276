"""Data that grows, and what is told about it."""

import sys
from pathlib import Path

import pytest

from benchmarks.growth import SIZES, STAGES, decode, table, watched
from benchmarks.growth_data import ENTRIES, FILES, make
from tasks.pipeline import STAGE_NAMES


def test_every_kind_has_sizes_of_1_10_and_100_times_and_stages_of_the_chain() -> None:
    assert SIZES.keys() == STAGES.keys() == ENTRIES.keys() == FILES.keys()
    for kind, (small, middle, large) in SIZES.items():
        assert (middle, large) == (10 * small, 100 * small)
        assert set(STAGES[kind]) <= set(STAGE_NAMES)


@pytest.mark.parametrize("kind", ["ratings", "tables", "jpegs"])
def test_data_has_so_many_rows_and_is_the_same_every_time(tmp_path: Path, kind: str) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        make(kind, 300, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    count = decode(paths[0]) if kind == "jpegs" else len(paths[0].read_text().splitlines()) - 1
    assert count == 300


def test_a_process_is_watched_and_its_end_is_told(tmp_path: Path) -> None:
    hold = [sys.executable, "-c", "held = bytearray(200_000_000)"]
    light = [sys.executable, "-c", "pass"]
    assert watched(hold, tmp_path)["peak_mb"] - watched(light, tmp_path)["peak_mb"] > 150
    with pytest.raises(RuntimeError, match=r"(?s)failed.*no such thing"):
        watched([sys.executable, "-c", "raise ValueError('no such thing')"], tmp_path)


def test_a_table_has_a_row_for_each_stage() -> None:
    stage = {"seconds": 2.0, "processor": 1.0, "peak_mb": 300}
    figures = {"kind": "jpegs", "rows": 1000, "bare_decoder": stage, "stages": {"clean": stage}}
    assert table([figures]).splitlines()[2:] == [
        "| jpegs | 1,000 | bare decoder | 2.0 | 2000.0 | 300 |",
        "| jpegs | 1,000 | clean | 2.0 | 2000.0 | 300 |",
    ]
