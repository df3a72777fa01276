"""The exported folder stands alone: it loads, serves, and answers as `evaluate` did, or is refused."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file
from torch import nn

from models.export import Program
from models.settings import ExportSettings
from tasks.export import folder_digest, load_model
from tasks.workspace import Workspace, checkout
from tests import colours

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    "MLmodel", "card.md", "code/classes.py", "code/encoded_images.py", "code/images.py", "code/prepare.py",
    "code/questions.py", "example/0.png", "example/1.png", "example/request.json", "example/response.json",
    "example/tensors.safetensors", "metrics.json", "predictor.py", "program.onnx", "program.pt2",
    "python_env.yaml", "requirements.txt", "signature.json", "submission.csv",
]  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a finished export; tests only read it."""
    return colours.finished(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    return colours.pictures()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace in which everything before the export has run."""
    made = checkout(tmp_path)
    colours.write_inputs(made)
    return made


@pytest.fixture(scope="module")
def folder(exported: Workspace) -> Path:
    return exported.folder("colours", "export")


@pytest.fixture(scope="module")
def expected(exported: Workspace) -> pd.DataFrame:
    """What `evaluate` predicted, in the order of the pictures."""
    return pq.read_table(exported.folder("colours", "evaluate") / "predictions.parquet").to_pandas()


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the export in an empty folder, far from the checkout."""
    return Path(shutil.copytree(folder, tmp_path_factory.mktemp("elsewhere") / "model"))


def environment() -> dict[str, str]:
    """Without the checkout on the path, and with pickle refused."""
    kept = {
        key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTEST_CURRENT_TEST"}
    }
    return {**kept, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONDONTWRITEBYTECODE": "1"}


def assert_as_evaluated(answers: list[dict[str, Any]], expected: pd.DataFrame) -> None:
    assert [answer["label"] for answer in answers] == expected["predicted"].to_list()
    for column in ("probability", "probabilities"):
        given = np.array([answer[column] for answer in answers])
        np.testing.assert_allclose(given, np.array(expected[column].to_list()), atol=1e-6)


def test_the_folder_holds_these_files(folder: Path) -> None:
    found = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    assert sorted(found) == sorted(FILES)


def test_the_model_loads_and_answers_from_an_empty_folder(
    alone: Path, tmp_path: Path, pictures: dict[str, bytes], expected: pd.DataFrame
) -> None:
    for number, encoded in enumerate(pictures.values()):
        (tmp_path / f"{number:02}").write_bytes(encoded)
    code = f"""
        import importlib.util, json, pathlib, sys
        assert importlib.util.find_spec("tasks") is None, "the checkout is on the path"
        import mlflow, pandas as pd
        files = sorted(pathlib.Path(".").iterdir())
        model = mlflow.pyfunc.load_model({str(alone)!r})
        answer = model.predict(pd.DataFrame({{"image": [file.read_bytes() for file in files]}}))
        print(json.dumps(answer.to_dict(orient="records")))
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(code)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert_as_evaluated(json.loads(done.stdout), expected)
    assert "WARNING" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def server(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` on a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "models",
        "serve",
        "-m",
        str(alone),
        "--env-manager",
        "local",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    home = tmp_path_factory.mktemp("server")
    with (home / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            cwd=home, stdout=log, stderr=log, start_new_session=True,
            env={**environment(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )  # fmt: skip
        try:
            for _ in range(240):
                assert process.poll() is None, (home / "log.txt").read_text()
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.25)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, 15)
            process.wait(20)


def test_the_server_answers_as_evaluate_did(
    server: str, pictures: dict[str, bytes], expected: pd.DataFrame
) -> None:
    data = [[base64.b64encode(encoded).decode()] for encoded in pictures.values()]
    answer = httpx.post(server, json={"dataframe_split": {"columns": ["image"], "data": data}}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert_as_evaluated(answer.json()["predictions"], expected)


def test_the_stored_request_gets_the_stored_response(server: str, folder: Path) -> None:
    answer = httpx.post(server, json=json.loads((folder / "example/request.json").read_text()), timeout=60)
    stored = json.loads((folder / "example/response.json").read_text())
    assert_as_evaluated(
        answer.json()["predictions"],
        pd.DataFrame(stored["predictions"]).rename(columns={"label": "predicted"}),
    )


def test_the_server_names_the_row_that_is_no_image(server: str, pictures: dict[str, bytes]) -> None:
    good = next(iter(pictures.values()))
    data = [[base64.b64encode(encoded).decode()] for encoded in (good, b"no image", good)]
    answer = httpx.post(server, json={"dataframe_split": {"columns": ["image"], "data": data}}, timeout=60)
    assert answer.status_code == 400
    assert "row 1 of column `image`: not an image that can be read (8 bytes)" in answer.json()["message"]


def test_every_faulty_row_is_named(folder: Path, pictures: dict[str, bytes]) -> None:
    good = next(iter(pictures.values()))
    rows = pd.DataFrame({"image": [good[:60], good, b""]})
    with pytest.raises(MlflowException, match=r"(?s)row 0 of column `image`.*row 2 of column `image`"):
        load_model(folder).predict(rows)


def test_more_rows_than_go_through_at_once(folder: Path, pictures: dict[str, bytes]) -> None:
    encoded = next(iter(pictures.values()))
    answer = load_model(folder).predict(pd.DataFrame({"image": [encoded] * 70}))
    table = np.array(answer["probabilities"].to_list())
    assert table.shape == (70, 3)
    np.testing.assert_allclose(table, table[:1].repeat(70, 0), atol=1e-6)
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-5)


def test_the_stored_tensors_are_the_programs_in_and_out(folder: Path) -> None:
    stored = load_file(folder / "example/tensors.safetensors")
    program = torch.export.load(folder / "program.pt2").module()
    torch.testing.assert_close(program(stored["images"]), stored["probabilities"])


def test_the_same_inputs_give_the_same_bytes_in_another_folder(folder: Path, tmp_path: Path) -> None:
    workspace = checkout(tmp_path / "deeper" / "down")
    colours.write_inputs(workspace)
    receipt = colours.run_export(workspace, ExportSettings.model_validate({"submission": {"label": "red"}}))
    again = workspace.folder("colours", "export")
    for name in FILES:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name
    assert receipt.digest == folder_digest(again) == folder_digest(folder)


def test_no_file_tells_of_this_machine(folder: Path) -> None:
    traces = [
        str(ROOT),
        str(folder.parents[2]),
        "site-packages",
        "http",
        "utc_time",
        "run_id",
    ]
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix not in {".py", ".png"}:
            content = file.read_bytes()
            assert [trace for trace in traces if trace.encode() in content] == [], file.name


def test_byte_code_left_by_a_server_does_not_change_the_digest(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    for place in (other, other / "code"):
        (place / "__pycache__").mkdir()
        (place / "__pycache__" / "any.cpython-311.pyc").write_bytes(b"any")
    assert folder_digest(other) == folder_digest(folder)


def test_onnx_is_left_out_on_demand(workspace: Workspace) -> None:
    colours.run_export(workspace, ExportSettings(onnx=False))
    folder = workspace.folder("colours", "export")
    assert not (folder / "program.onnx").exists()
    assert json.loads((folder / "signature.json").read_text())["program"]["files"] == ["program.pt2"]
    assert "onnxruntime" not in (folder / "card.md").read_text()


def test_a_program_that_differs_fails_the_stage_and_changes_nothing(workspace: Workspace) -> None:
    """A network that behaves otherwise under export: traced on whether it is being compiled."""

    class Deceiver(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.inner(images)
            return output * 0.9 if torch.compiler.is_exporting() else output

    def deceiving(module: nn.Module, *rest: Any) -> Program:
        program = colours.signature(module, *rest)
        return Program(**{**vars(program), "module": Deceiver(module).eval()})

    folder = workspace.folder("colours", "export")
    folder.mkdir()
    (folder / "before.txt").write_text("kept")
    with pytest.raises(
        ValueError, match=r"torch\.export differs from the network by 0\.0\d+ on the stored example"
    ):
        colours.run_export(workspace, ExportSettings(onnx=False), signature=deceiving)
    assert [file.name for file in folder.iterdir()] == ["before.txt"]


def test_weights_of_another_network_are_refused(workspace: Workspace) -> None:
    def wider(settings: Any, facts: dict[str, Any]) -> nn.Module:
        return colours.network(settings.model_copy(update={"width": 9}), facts)

    with pytest.raises(RuntimeError, match="size mismatch"):
        colours.run_export(workspace, ExportSettings(), network=wider)


def test_a_submission_holds_the_probability_of_the_class_by_number(
    folder: Path, expected: pd.DataFrame
) -> None:
    table = pd.read_csv(folder / "submission.csv")
    assert table.columns.to_list() == ["id", "label"]
    assert table["id"].to_list() == [9, 10, 11, 12]
    red = [row[2] for row in expected["probabilities"][expected["part"] == "test"]]
    np.testing.assert_allclose(table["label"], red, atol=1e-6)
