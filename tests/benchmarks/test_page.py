"""The page tells what was measured, and what was not."""

import json
from pathlib import Path
from typing import Any

from benchmarks.page import page

RATIO = {"best": 2.5, "paired": 2.4, "least": 2.0, "most": 3.0, "processor": 2.2}


def keep(folder: Path, name: str, **values: Any) -> None:
    figures = {
        "title": f"work {name}", "unit": "rows", "goals": {"fastai": 2, "bare": 0.9}, "note": "",
        "variants": {"practicum": {"best": 12345.6}}, "ratios": {"fastai": RATIO, "bare": RATIO}, **values,
    }  # fmt: skip
    (folder / f"speed-{name}.json").write_text(json.dumps(figures))


def test_ratios_stand_beside_their_goals_with_their_spread(tmp_path: Path) -> None:
    keep(tmp_path, "one", note="Not quite equal.")
    written = page(tmp_path)
    cell = "**2.50** (2.00–3.00; 2.20)"
    assert f"| work one | 12,346 rows | {cell} | 2 | {cell} | 0.9 |" in written
    assert "- work one: Not quite equal." in written


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    keep(tmp_path, "one", ratios={"bare": RATIO})
    keep(tmp_path, "two", ratios={"fastai": RATIO}, goals={"fastai": 2})
    lines = page(tmp_path).splitlines()
    assert any(line.startswith("| work one |") and "| not run | 2 |" in line for line in lines)
    assert any(line.startswith("| work two |") and line.endswith("| – | – |") for line in lines)


def test_machine_and_versions_stand_first(tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text(json.dumps({"accelerators": "none at hand"}))
    keep(tmp_path, "one")
    written = page(tmp_path)
    assert written.index("- accelerators: none at hand") < written.index("| work one |")


def test_the_share_of_the_hardware_s_rate_is_told_with_the_memory(tmp_path: Path) -> None:
    ours = {
        "best": 500.0, "memory": 10**9, "device_memory": 7 * 10**9,
        "bf16": {"operations": 3.5e9, "hardware": 5e12, "share": 0.35},
    }  # fmt: skip
    keep(tmp_path, "one", variants={"practicum": ours})
    assert "| work one | 500 rows | 7,000 MB | 3.50 | 5.000 | 35% |" in page(tmp_path)
