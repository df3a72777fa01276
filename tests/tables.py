"""A small table of one's own: flats with a district, a size, a date and a rent, and whether they were let."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data.archives import Raw
from data.chunks import Chunk
from data.examples import Reject
from data.tables.cleaning import clean_classes, clean_numbers
from data.tables.settings import ClassCleaning, NumberCleaning
from tests.jobs import raw_of

DISTRICTS = ("Altstadt", "Hafen", "Nordend")


def flats(count: int = 240, *, seed: int = 1) -> str:
    """Columns that no source of the project has, between semicolons, with gaps."""
    rng = np.random.default_rng(seed)
    lines = ["flat;district;square metres;listed on;let;rent"]
    for number in range(count):
        district = int(rng.integers(3))
        size = float(rng.uniform(20, 120))
        rent = round(size * (9 + 4 * district) * float(rng.uniform(0.95, 1.05)))
        let = "yes" if (size < 60) == (district != 1) else "no"
        shown = "" if number % 17 == 5 else f"{size:.1f}"
        day = f"{1 + number % 28:02d}.{1 + number % 12:02d}.2024"
        lines.append(f"F{number:04d};{DISTRICTS[district]};{shown};{day};{let};{rent}")
    return "\n".join(lines) + "\n"


def classes(folder: Path, table: str | bytes, **block: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Rows and rejects of one table whose target is a name."""
    return _cleaned(clean_classes(_raw(folder, table), ClassCleaning.model_validate(block)))


def numbers(folder: Path, table: str | bytes, **block: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Rows and rejects of one table whose target is a quantity."""
    return _cleaned(clean_numbers(_raw(folder, table), NumberCleaning.model_validate(block)))


def _raw(folder: Path, table: str | bytes) -> Raw:
    return raw_of(folder, {"table.csv": table.encode() if isinstance(table, str) else table})


def _cleaned(found: Iterable[Chunk]) -> tuple[list[dict[str, Any]], list[Reject]]:
    each = [*found]
    rows = [row for chunk in each for row in chunk.rows.to_pylist()]
    return rows, [reject for chunk in each for _, reject in chunk.rejects]
