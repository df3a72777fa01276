"""Generated editions: small data sets in official layouts, drawn offline, the same bytes every time."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError


def generate(generator: str, settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw one edition into `folder`; returns what was written.

    ValueError names the generator or setting that is not known.
    """
    from data.editions.pictures import draw_address_lists, draw_pictures

    generators: dict[str, Callable[[Mapping[str, Any], Path], list[Path]]] = {
        "pictures": draw_pictures,
        "address_lists": draw_address_lists,
    }
    if generator not in generators:
        close = difflib.get_close_matches(generator, generators, n=1) or sorted(generators)
        raise ValueError(f"generated.generator: there is no {generator!r}; valid: {', '.join(close)}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return generators[generator](settings, folder)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["generated", *map(str, first["loc"])])
        said = "" if isinstance(first["input"], Mapping) else f" is {first['input']!r}"
        raise ValueError(f"{path}{said}: {first['msg']}") from None
