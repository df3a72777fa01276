"""Single values of nested settings, by their path: `fine_tune.phases.0.rates`."""

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence
from typing import Any

from tasks.parameters import Parameters, nearest


def change(document: MutableMapping[str, Any], path: str, value: Any, *, known: int = 0) -> None:
    """Set the value at a dotted path; a number is a position of a list, from 0.

    A block that is not there is made, except for the first `known` keys of the path. ValueError where the
    path leads through a value, to an unknown key or past a list's end.
    """
    *parents, last = path.split(".")
    here: Any = document
    for depth, key in enumerate(parents):
        where = ".".join(parents[: depth + 1])
        if isinstance(here, MutableMapping) and key not in here:
            if depth < known:
                raise ValueError(f"{path}: params.yaml has no {where}{nearest(key, here)}")
            here[key] = {}
        here = here[_key(here, key, path, where)]
    here[_key(here, last, path, path)] = value


def with_changes(parameters: Parameters, application: str, changes: Mapping[str, Any]) -> Parameters:
    """The same parameters with values of one entry replaced, by paths below it (`split.seed`)."""
    entry = copy.deepcopy(parameters.applications[application])
    for path, value in changes.items():
        block = path.partition(".")[0]
        entry[block] = entry.get(block) or {}
        change(entry, path, value)
    return parameters.model_copy(update={"applications": {**parameters.applications, application: entry}})


def _key(here: Any, key: str, path: str, where: str) -> str | int:
    """How `here` is asked for `key`."""
    if isinstance(here, MutableMapping):
        return key
    if not isinstance(here, MutableSequence):
        raise ValueError(f"{path}: {where.rpartition('.')[0]} is a value, not a block")
    if not key.isdecimal() or int(key) >= len(here):
        raise ValueError(
            f"{path}: {where.rpartition('.')[0]} is a list of {len(here)}; positions count from 0"
        )
    return int(key)
