"""export: weights and evaluation -> a folder that runs anywhere: programs, an MLflow model, a card.

The folder is an MLflow model as it lies: `mlflow models serve -m artifacts/APP/export --env-manager local`.
Its `predictor.py` is the same for all; `code/` has the kind of input and the project's files that it needs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import yaml

from recipes.recipe import FOLDER
from tasks.checkpoint import FACTS, WEIGHTS
from tasks.evaluate import read_settings
from tasks.fine_tune import write_json
from tasks.pipeline import Job, Receipt
from tasks.predictors import Predictor, find_kind, find_predictor

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

    from models.export import Program
    from models.settings import ExportSettings

PROJECT = FOLDER.parent
"""The checkout whose code runs: bundled files are taken from it."""

PREDICTORS = PROJECT / "tasks" / "predictors"

ARTIFACTS = {"code": "code", "program": "program.pt2", "signature": "signature.json"}
"""What `predictor.py` reads, by MLflow's name for it."""


def run(job: Job) -> Receipt:
    """Write the programs, read them back, compare all forms with the network, and write the card.

    ValueError where any form differs from the network by more than the tolerance.
    """
    import torch
    from safetensors.torch import load_file

    from models.export import to_onnx, to_torch_export, tolerance_of
    from tasks.card import card, listings

    tuned, evaluated = job.read("fine_tune"), job.read("evaluate")
    settings, block = read_settings(job, tuned), job.block
    facts = json.loads((tuned / FACTS).read_text())
    metrics = json.loads((evaluated / "metrics.json").read_text())
    provenance = json.loads((evaluated / "provenance.json").read_text())
    torch.set_num_threads(settings.threads)
    network = job.recipe.network(settings, facts)
    network.load_state_dict(load_file(tuned / WEIGHTS))
    program = job.recipe.signature(network.eval(), facts, settings, block)

    exported = to_torch_export(program)
    torch.export.save(exported, job.output / "program.pt2")
    if block.onnx:
        to_onnx(program, exported).save(job.output / "program.onnx")
    predictor = write_model(job.output, program, block)
    found = check(job.output, program, predictor, tolerance=tolerance_of(program, block))
    if block.submission is not None:
        from tasks.submission import write_submission

        write_submission(
            evaluated / "predictions.parquet", program.labels, block.submission, job.output / "submission.csv"
        )
    text = card(
        job.application, job.entry, job.recipe, program, edition=job.parameters.edition,
        settings=settings.model_dump(mode="json"), metrics=metrics, provenance=provenance,
        sections=listings(evaluated / "tables"), differences=found, tolerance=tolerance_of(program, block),
        usage=predictor.USAGE,
    )  # fmt: skip
    (job.output / "card.md").write_text(text)
    shutil.copyfile(evaluated / "metrics.json", job.output / "metrics.json")
    size = sum(file.stat().st_size for file in job.output.rglob("*") if file.is_file())
    return Receipt(rows=2, bytes=size, digest=folder_digest(job.output), numbers=found)


def write_model(folder: Path, program: Program, settings: ExportSettings) -> Predictor:
    """Make `folder`, which holds the programs, an MLflow model with an example; returns its predictor.

    Nothing that is written holds a time, an identifier or an address, so equal programs give equal bytes.
    """
    from models.export import run_eager

    kind = copy_code(program.preprocess["kind"], folder)
    pins = [f"{name}=={pinned(name)}" for name in sorted(kind.REQUIREMENTS)]
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins))
    # the patch release stays out of it: it changes no answer, and would change the folder's digest
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    write_yaml(folder / "python_env.yaml", {"python": python, "dependencies": ["-r requirements.txt"]})
    described: dict[str, Any] = {
        "program": {
            "inputs": [shape_of(name, each, program) for name, each in program.example.items()],
            "outputs": [
                shape_of(name, each, program) for name, each in run_eager(program, program.example).items()
            ],
            "files": ["program.pt2", *(["program.onnx"] if settings.onnx else [])],
        },
        "preprocess": dict(program.preprocess),
        "labels": list(program.labels),
    }
    predictor = find_predictor(described)
    signature = predictor.signature().to_dict()
    flavor = {
        "artifacts": {name: {"path": path} for name, path in ARTIFACTS.items()},
        "env": {"virtualenv": "python_env.yaml"},
        "loader_module": "mlflow.pyfunc.model",
        "model_code_path": "predictor.py",
        "python_version": python,
        "streamable": False,
    }
    model = {
        "flavors": {"python_function": flavor},
        "metadata": {"labels": list(program.labels)},
        "mlflow_version": pinned("mlflow"),
        "signature": signature,
    }
    write_yaml(folder / "MLmodel", model)
    described["model"] = {name: json.loads(text) for name, text in signature.items() if text}
    described["versions"] = dict(pin.split("==") for pin in pins)
    write_json(folder / "signature.json", described)
    return predictor


def copy_code(name: str, folder: Path) -> ModuleType:
    """Put the code that serves a kind into `folder`: `predictor.py`, the same for all, and `code/`; returns
    the kind."""
    kind = find_kind(name)
    files = [PREDICTORS / f"{name}.py", *(PROJECT / file for file in kind.BUNDLE)]
    assert len({file.name for file in files}) == len(files), "one folder holds all of them"
    shutil.copyfile(PREDICTORS / "entry.py", folder / "predictor.py")
    (folder / "code").mkdir()
    for file in files:
        shutil.copyfile(file, folder / "code" / file.name)
    return kind


def check(folder: Path, program: Program, predictor: Predictor, *, tolerance: float) -> dict[str, float]:
    """Read back what `folder` holds, compare every form with the network, and store the example in and out.

    Returns the largest difference by form. ValueError above the tolerance.
    """
    import torch
    from safetensors.torch import save

    from models.export import Form, difference, differences, onnx_runner, run_eager, torch_runner

    forms: dict[str, Form] = {}
    forms["torch.export"] = torch_runner(program, torch.export.load(folder / "program.pt2"))
    if (folder / "program.onnx").exists():
        forms["ONNX"] = onnx_runner(str(folder / "program.onnx"))
    found = differences(program, forms, tolerance=tolerance)

    rows, received, files = predictor.example(program.example)
    answered = run_eager(program, received)
    answer = load_model(folder).predict(rows)
    given, expected = predictor.compare(answer, answered)
    found["pyfunc"] = difference("the pyfunc", "the stored example", given, expected, tolerance=tolerance)

    example = folder / "example"
    example.mkdir()
    for name, data in files.items():
        (example / name).write_bytes(data)
    tensors = {name: tensor.contiguous() for name, tensor in {**received, **answered}.items()}
    (example / "tensors.safetensors").write_bytes(save(tensors))
    write_json(example / "request.json", as_request(rows))
    write_json(example / "response.json", {"predictions": as_json(answer)})
    return found


def as_request(rows: DataFrame) -> dict[str, Any]:
    """The body of an HTTP request for these rows: bytes as base64 text, nothing for what is missing."""
    data = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    encoded = [
        [base64.b64encode(value).decode() if isinstance(value, bytes) else value for value in row]
        for row in data
    ]
    return {"dataframe_split": {"columns": list(rows.columns), "data": encoded}}


def as_json(answer: DataFrame) -> list[dict[str, Any]]:
    """The rows of an answer as MLflow's server sends them: bytes as base64 text in lines."""
    records: list[dict[Any, Any]] = answer.to_dict(orient="records")
    return [
        {
            name: base64.encodebytes(value).decode() if isinstance(value, bytes) else value
            for name, value in record.items()
        }
        for record in records
    ]


def load_model(folder: Path) -> Any:
    """The exported model as MLflow would serve it; no byte code is written beside its files."""
    import mlflow

    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        return mlflow.pyfunc.load_model(str(folder))
    finally:
        sys.dont_write_bytecode = before


def shape_of(name: str, tensor: Tensor, program: Program) -> dict[str, Any]:
    """Name, type and shape of one tensor of the program; null is what varies. Of an answer, every dimension
    but the batch is the example's."""
    varying = {0, *program.dynamic.get(name, {})}
    shape = [None if place in varying else size for place, size in enumerate(tensor.shape)]
    return {"name": name, "type": str(tensor.dtype).removeprefix("torch."), "shape": shape}


def pinned(distribution: str) -> str:
    """The installed version, without the build's local part: that is the machine's, no index has it."""
    return version(distribution).split("+")[0]


def folder_digest(folder: Path) -> str:
    """sha256 over the names and sha256 of all files below, in order: equal digests are equal exports.

    Byte code does not count: a server that loads the model from here leaves some.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.parent.name == "__pycache__":
            continue
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{content}  {file.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    """Sorted, in block style."""
    path.write_text(yaml.safe_dump(dict(value), sort_keys=True, allow_unicode=True))
