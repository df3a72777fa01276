"""`params.yaml` in another edition, or with single values changed; comments stay where they are."""

import copy
import io
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.changes import change
from tasks.parameters import load_parameters, nearest


def editions(root: Path) -> dict[str, Path]:
    """Files of `editions/` by name."""
    return {file.stem: file for file in sorted((root / "editions").glob("*.yaml"))}


def apply(
    root: Path, name: str | None = None, *, mirror: str | None = None, settings: list[str] | None = None
) -> list[str]:
    """Write an edition's values, a mirror and `path.to.key=value` settings into `params.yaml`.

    Returns one line per value that changed. ValueError, with nothing written, for an unknown edition, path or
    value: the result is checked as a whole first.
    """
    path = root / "params.yaml"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run this from the project's root")
    document = _read(path)
    before = copy.deepcopy(document)
    if name is not None:
        known = editions(root)
        if name not in known:
            raise ValueError(f"there is no edition {name!r}{nearest(name, known)}")
        document["edition"] = name
        merge(document, _read(known[name]), known[name].name)
    if mirror is not None:
        document["mirror"] = mirror
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: write it as path.to.key=value")
        try:
            change(document, key.strip(), _yaml().load(value), known=2)
        except ValueError as error:
            raise ValueError(f"--set {error}") from None
    text = io.StringIO()
    _yaml().dump(document, text)
    check(text.getvalue())
    partial = path.with_name(".params.yaml.partial")
    partial.write_text(text.getvalue())
    partial.replace(path)
    return differences(before, document)


def merge(
    document: MutableMapping[str, Any], other: Mapping[str, Any] | None, where: str, *, depth: int = 0
) -> None:
    """Put the values of `other` into `document`; a stage's block is replaced as a whole.

    A merged block could keep a setting of the other edition that has no effect in this one.
    ValueError where an application is named that `document` does not have: an edition changes entries and
    makes none.
    """
    for key, value in (other or {}).items():
        if depth < 2 and isinstance(value, Mapping) and isinstance(document.get(key), MutableMapping):
            if key in ("applications", "weights"):
                for entry in value:
                    if entry not in document[key]:
                        raise ValueError(
                            f"{where}: params.yaml has no {key}.{entry}{nearest(entry, document[key])}"
                        )
            merge(document[key], value, where, depth=depth + 1)
        elif document.get(key) != value:  # what is equal keeps its comments
            document[key] = value


def check(text: str) -> None:
    """ValueError unless it is a valid `params.yaml`, every application included."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "params.yaml"
        file.write_text(text)
        parameters = load_parameters(file)
    for name in parameters.applications:
        parameters.application(name)


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """`path: old -> new` for every value that differs."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            line
            for key in dict.fromkeys([*before, *after])
            for line in differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if before == after else [f"{path}: {before} -> {after}"]


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every single value with its path; blocks in a list by their position, from 0."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        value = {str(position): inner for position, inner in enumerate(value)}
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    else:
        yield path, value


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _read(path: Path) -> Any:
    try:
        document = _yaml().load(path.read_text())
    except YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from None
    if document is not None and not isinstance(document, MutableMapping):
        raise ValueError(f"{path.name} must hold a mapping")
    return document
