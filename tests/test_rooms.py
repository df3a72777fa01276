"""The rooms: imports point down, each library is known to its own rooms, nothing lists applications twice."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "flows": {"flows", "tasks", "recipes", "models", "data"},
    "tasks": {"tasks", "recipes", "models", "data"},
    "recipes": {"recipes", "models", "data"},
    "models": {"models"},
    "data": {"data"},
}
KNOWN_BY = {"prefect": {"flows"}, "dvc": {"flows", "tasks"}, "mlflow": {"flows", "tasks"}, "typer": {"flows"}}
LINES = {"models/fit.py": 300}
"""The loop; every other module may have `MOST`."""
MOST = 400
RECIPE_LINES = 200

MODULES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Dotted names of all imports, also those inside functions and below TYPE_CHECKING."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*above, *([node.module] if node.module else [])])


def room(file: Path) -> str:
    return file.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down_and_libraries_stay_in_their_rooms(file: Path) -> None:
    for name in imports(file):
        top = name.split(".")[0]
        assert top not in ROOMS or top in ROOMS[room(file)], f"{file} imports {name}"
        assert room(file) in KNOWN_BY.get(top, ROOMS), f"{file} imports {name}"


def test_models_know_no_files() -> None:
    for file in (ROOT / "models").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(file)} & {"pyarrow", "pandas"}, file


def test_no_module_is_named_for_nothing() -> None:
    nothing = {"utils", "util", "common", "helpers", "misc", "base", "core"}
    assert not [file for file in MODULES if file.stem in nothing or file.parent.name in nothing]


def test_no_code_holds_the_name_of_an_application_or_a_source() -> None:
    """A name may stand in a docstring, a comment or a sentence; not as a key, a path or a choice."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    names = {*parameters["applications"], *(file.stem for file in (ROOT / "sources").glob("*.yaml"))}
    names -= set(parameters["weights"])  # named like the architectures that torchvision builds
    pattern = re.compile(rf"\b({'|'.join(sorted(map(re.escape, names), key=len, reverse=True))})\b")
    for file in MODULES:
        for text, line in strings(file):
            prose = " " in text.strip()  # one may be an ordinary word
            assert prose or not pattern.search(text), f"{file}:{line} holds {text!r}"


def strings(file: Path) -> Iterator[tuple[str, int]]:
    """String constants that are no docstrings, with their lines."""
    tree = ast.parse(file.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value, node.lineno


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_modules_can_be_read_at_one_sitting(file: Path) -> None:
    name = str(file.relative_to(ROOT))
    most = RECIPE_LINES if file.parent == ROOT / "recipes" else LINES.get(name, MOST)
    assert len(file.read_text().splitlines()) <= most
