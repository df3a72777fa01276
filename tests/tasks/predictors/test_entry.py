"""The entry of all exported models: each runs its own code, none the project's, and faults are told apart."""

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from models.export import Program, to_torch_export
from models.settings import ExportSettings
from tasks.export import copy_code, load_model, write_model
from tasks.predictors import find_kind
from tests.data.images.written import encoded
from tests.scratch import ROOT

KINDS = sorted(
    file.stem
    for file in (ROOT / "tasks" / "predictors").glob("*.py")
    if "class Predictor" in file.read_text() and file.stem != "__init__"
)


class Shares(torch.nn.Module):
    """(N, 3, H, W) -> (N, 3): how much of the light is red, green and blue."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)).softmax(1)


class Squares(torch.nn.Module):
    """(N, 4) -> (N, 1, 2, 2)"""

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return noise.sigmoid().reshape(-1, 1, 2, 2)


PROGRAMS = {
    "encoded_images": Program(
        module=Shares().eval(), example={"images": torch.rand(2, 3, 8, 8)}, outputs=("probabilities",),
        preprocess={"kind": "encoded_images", "size": 8, "channels": 3}, labels=("red", "green", "blue"),
    ),
    "seeds": Program(
        module=Squares().eval(), example={"noise": torch.rand(2, 4)}, outputs=("images",),
        preprocess={"kind": "seeds", "noise": 4},
    ),
}  # fmt: skip
RED = pd.DataFrame({"image": [encoded(torch.tensor([[[255, 0, 0]] * 9] * 9, dtype=torch.uint8).numpy())]})


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of two kinds; tests only read them."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in PROGRAMS}
    for kind, program in PROGRAMS.items():
        torch.export.save(to_torch_export(program), folders[kind] / "program.pt2")
        write_model(folders[kind], program, ExportSettings(onnx=False))
    return folders


def changed(folder: Path, target: Path, file: str, old: str, new: str) -> Path:
    """A copy of a model folder with other code."""
    shutil.copytree(folder, target)
    code = (target / file).read_text()
    assert old in code
    (target / file).write_text(code.replace(old, new))
    return target


def test_models_of_two_kinds_answer_in_one_process(exports: dict[str, Path]) -> None:
    images, seeds = (load_model(exports[kind]) for kind in ("encoded_images", "seeds"))
    assert seeds.predict(pd.DataFrame({"seed": [1]}))["image"][0].startswith(b"\x89PNG")
    assert images.predict(RED)["label"].tolist() == ["red"]


@pytest.mark.parametrize("file", ["code/encoded_images.py", "code/classes.py", "code/prepare.py"])
def test_models_of_one_kind_keep_their_own_code(exports: dict[str, Path], tmp_path: Path, file: str) -> None:
    """Its own file, one that kinds share, and one of the project's."""
    changes = {
        "code/encoded_images.py": ("labelled(np.array(table)", "labelled(-np.array(table)"),
        "code/classes.py": ("probabilities.argmax(", "probabilities.argmin("),
        "code/prepare.py": ("\n    return pixels(image.resize(", "\n    return 255 - pixels(image.resize("),
    }
    folder = exports["encoded_images"]
    other = changed(folder, tmp_path / "other", file, *changes[file])
    first, second, third = load_model(folder), load_model(other), load_model(folder)
    assert second.predict(RED)["label"][0] != "red"
    assert first.predict(RED)["label"][0] == third.predict(RED)["label"][0] == "red"


def test_only_what_is_wrong_with_the_question_is_the_asker_s_fault(
    exports: dict[str, Path], tmp_path: Path
) -> None:
    """A server answers the one with 400 and the other with 500."""
    seeds = load_model(exports["seeds"]).unwrap_python_model()
    with pytest.raises(MlflowException, match=r"row 0 of column `seed`.*row 1") as error:
        seeds.predict(None, pd.DataFrame({"seed": [-1, -2]}))
    assert error.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="there is no column `seed`; the columns are seeds"):
        seeds.predict(None, pd.DataFrame({"seeds": [1]}))
    broken = changed(
        exports["seeds"], tmp_path / "broken", "code/seeds.py",
        "        images: list[bytes] = []", '        raise ValueError("a bug")',
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"^a bug$"):
        load_model(broken).unwrap_python_model().predict(None, pd.DataFrame({"seed": [1]}))


def test_loading_leaves_no_byte_code(exports: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    for folder in exports.values():
        before = sorted(folder.rglob("*"))
        load_model(folder)
        assert sorted(folder.rglob("*")) == before


def test_the_code_of_every_kind_runs_without_the_project(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        copy_code(kind, tmp_path / kind)
    code = f"""
        import importlib.util, pathlib, sys
        for kind in {KINDS}:
            path = pathlib.Path(kind).absolute()
            spec = importlib.util.spec_from_file_location("entry_of_" + kind, path / "predictor.py")
            entry = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(entry)
            modules = entry.import_folder(path / "code")
            assert modules[kind].Predictor.USAGE
            for stem, module in modules.items():
                assert module.__file__ == str(path / "code" / (stem + ".py"))
        assert {{"data", "models", "recipes", "tasks"}}.isdisjoint(sys.modules)
    """
    subprocess.run([sys.executable, "-I", "-c", textwrap.dedent(code)], cwd=tmp_path, check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_names_all_that_it_needs(kind: str) -> None:
    """Files that travel with it, and distributions to be installed, also for imports inside functions."""
    module: Any = find_kind(kind)
    packages = importlib.metadata.packages_distributions()
    files = [f"tasks/predictors/{kind}.py", *module.BUNDLE]
    stems = {Path(file).stem for file in files}
    needed = {"mlflow", "pandas", "torch"}  # of the entry
    for file in files:
        for name, level in imports(ROOT / file):
            if level:
                assert name in stems, f"{file} imports .{name}, which is not in BUNDLE"
            elif name not in sys.stdlib_module_names:
                needed.add(name if name in packages[name] else packages[name][0].lower())
    assert needed == {*module.REQUIREMENTS}


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """First names of what a file imports, and whether relatively."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((name.split(".")[0], node.level) for name in names)
