"""Ask an exported model about files: the same code that serves it."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.workspace import Workspace, checkout

if TYPE_CHECKING:
    import pandas as pd

    from tasks.predictors import Predictor

CHUNK = 32
"""Files read at once: bounds memory, however large a folder is."""


def predict(application: str, paths: Sequence[Path], workspace: Workspace | None = None) -> pd.DataFrame:
    """Answers for files, and for all fitting files below folders, in the order given and then by name.

    Returns the columns `file`, and those of the exported model. Files that do not fit, or cannot be read, are
    named on stderr and left out. ValueError where nothing was exported, a path does not exist, or nothing
    that could be answered was found.
    """
    import pandas as pd

    from tasks.export import load_model
    from tasks.predictors import find_predictor

    folder = (workspace or checkout()).folder(application, "export")
    if not (folder / "MLmodel").is_file():
        raise ValueError(
            f"{application} has no exported model in {folder}; run `dvc repro export@{application}` first"
        )
    predictor = find_predictor(json.loads((folder / "signature.json").read_text()))
    files = list(dict.fromkeys(find_files(paths, predictor.SUFFIXES)))
    if not files:
        raise ValueError(
            f"no file to predict in {', '.join(str(path) for path in paths) or 'nothing'};"
            f" looked for {', '.join(sorted(predictor.SUFFIXES))}"
        )
    model = load_model(folder)
    tables = [
        table
        for start in range(0, len(files), CHUNK)
        for table in answer(model, predictor, files[start : start + CHUNK])
    ]
    if not tables:
        raise ValueError(f"none of {len(files)} files could be read; see the messages above")
    return pd.concat(tables, ignore_index=True)


def without_bytes(table: pd.DataFrame, folder: Path | None = None) -> pd.DataFrame:
    """The table with answers that are files as base64 text.

    Where a folder is given they are written there instead, as `COLUMN-STEM.png` (numbered where a name is
    taken), and the table has their paths.
    """
    written = table.copy()
    for column in table.columns:
        if not len(table) or not all(isinstance(value, bytes) for value in table[column]):
            continue
        if folder is None:
            written[column] = [base64.b64encode(value).decode() for value in table[column]]
            continue
        folder.mkdir(parents=True, exist_ok=True)
        paths: dict[Path, None] = {}
        for file, value in zip(table["file"], table[column], strict=True):
            stem = f"{column}-{Path(file).stem}"
            path = folder / f"{stem}{ending(value)}"
            for number in count(2):
                if path not in paths:
                    break
                path = folder / f"{stem}-{number}{ending(value)}"
            path.write_bytes(value)
            paths[path] = None
        written[column] = list(map(str, paths))
    return written


def ending(content: bytes) -> str:
    """Of a file with this content."""
    return ".png" if content.startswith(b"\x89PNG") else ".bin"


def find_files(paths: Sequence[Path], suffixes: frozenset[str]) -> Iterator[Path]:
    """Named files as they are, and of folders those with one of the suffixes, recursively, by name."""
    for path in paths:
        if path.is_file():
            yield path
        elif path.is_dir():
            for file in sorted(each for each in path.rglob("*") if each.is_file()):
                if file.suffix.lower() in suffixes:
                    yield file
                else:
                    print(
                        f"{file}: left out, {file.suffix or 'a name without suffix'} does not fit",
                        file=sys.stderr,
                    )
        else:
            raise ValueError(f"{path} does not exist")


def answer(model: Any, predictor: Predictor, files: Sequence[Path]) -> Iterator[pd.DataFrame]:
    """One table for all files, or, where one of them cannot be read, one for each of the others."""
    from mlflow.exceptions import MlflowException

    try:
        rows, origin = predictor.rows_of(files)
        table = model.predict(rows)
    except (MlflowException, OSError, ValueError) as error:
        if len(files) > 1:
            for file in files:
                yield from answer(model, predictor, [file])
        else:
            reason = str(error).removeprefix("INVALID_PARAMETER_VALUE: ")
            print(f"{files[0]}: left out, {reason}", file=sys.stderr)
        return
    table.insert(0, "file", [str(file) for file in origin])
    yield table
