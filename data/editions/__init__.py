"""Generated editions: small data sets in official layouts, drawn offline, the same bytes every time."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

GENERATORS = {
    "pictures": "pictures",
    "address_lists": "pictures",
    "people": "people",
    "shops": "shops",
    "ratings": "ratings",
    "prose": "prose",
    "numerals": "numerals",
    "reviews": "reviews",
    "scenes": "scenes",
    "cars": "cars",
    "objects": "objects",
}
"""Module that holds `draw_NAME`, by the name of the generator; a stage imports only the one that it uses."""


def generate(generator: str, settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw one edition into `folder`; returns what was written.

    ValueError names the generator or setting that is not known.
    """
    if generator not in GENERATORS:
        close = difflib.get_close_matches(generator, GENERATORS, n=1) or sorted(GENERATORS)
        raise ValueError(f"generated.generator: there is no {generator!r}; valid: {', '.join(close)}")
    draw = getattr(importlib.import_module(f"data.editions.{GENERATORS[generator]}"), f"draw_{generator}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        written: list[Path] = draw(settings, folder)
        return written
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["generated", *map(str, first["loc"])])
        said = "" if isinstance(first["input"], Mapping) else f" is {first['input']!r}"
        raise ValueError(f"{path}{said}: {first['msg']}") from None
