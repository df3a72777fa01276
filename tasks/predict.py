"""Ask an exported model about files: the same code that serves it."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.workspace import Workspace, checkout

if TYPE_CHECKING:
    import pandas as pd

PNG = b"\x89PNG\r\n\x1a\n"
"""How the bytes of a PNG begin."""

CHUNK = 32
"""Files read at once: bounds memory, however large a folder is."""


def predict(application: str, paths: Sequence[Path], workspace: Workspace | None = None) -> pd.DataFrame:
    """Answers for files, and for all fitting files below folders, in the order given and then by name.

    Returns the columns `file`, and those of the exported model. Files that do not fit, or cannot be read, are
    named on stderr and left out. ValueError where nothing was exported, a path does not exist, or nothing
    that could be answered was found.
    """
    import pandas as pd

    from tasks.export import find_predictor, load_model

    folder = (workspace or checkout()).folder(application, "export")
    if not (folder / "MLmodel").is_file():
        raise ValueError(
            f"{application} has no exported model in {folder}; run `dvc repro export@{application}` first"
        )
    kind = json.loads((folder / "signature.json").read_text())["preprocess"]["kind"]
    predictor = find_predictor(kind)
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


def written(table: pd.DataFrame, folder: Path | None = None) -> pd.DataFrame:
    """The answers as text can hold them: bytes become base64, or files of `folder` by row and column."""
    import pandas as pd

    def told(row: int, column: str, value: object) -> object:
        if not isinstance(value, bytes):
            return value
        if folder is None:
            return base64.b64encode(value).decode()
        suffix = ".png" if value.startswith(PNG) else ".bin"
        path = folder / f"{row:06}-{column}{suffix}"
        path.write_bytes(value)
        return str(path)

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    columns = {
        name: [told(row, str(name), value) for row, value in enumerate(values)]
        if values.dtype == object
        else values
        for name, values in table.items()
    }
    return pd.DataFrame(columns, index=table.index)


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


def answer(model: Any, predictor: Any, files: Sequence[Path]) -> Iterator[pd.DataFrame]:
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
