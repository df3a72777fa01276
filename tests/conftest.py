"""What tests share: the real files where they lie beside the checkout, and a scratch project."""

import os
import signal
from pathlib import Path

import pytest

from tasks.pipeline import STAGE_NAMES, run_stage
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.scratch import make_project

ROOT = Path(__file__).resolve().parent.parent

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a shell's background job: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are no name for a test: an archive holds its time, and parallel workers would not agree."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start servers and whole commands come first: they wait most, and none shall be left alone at
    the end."""
    items.sort(key=lambda item: item.path.parent not in (ROOT / "tests", ROOT / "tests" / "flows"))


def _beside(name: str) -> Path:
    """A folder of `../shared`, or of the folder that PRACTICUM_SHARED names (clones in other places)."""
    folder = Path(os.environ.get("PRACTICUM_SHARED", ROOT.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"the real files are not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def datasets() -> Path:
    """Folder with real data in official layouts and its MANIFEST.json."""
    return _beside("datasets")


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """Real ImageNet weights of squeezenet1_0 as safetensors."""
    return _beside("weights") / "squeezenet1_0-imagenet.safetensors"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A scratch checkout with one application `shapes` on a folder beside it; nothing has run."""
    pictures.write_folder(tmp_path / "shapes")
    return make_project(tmp_path / "project", pictures.parameters(shapes=pictures.entry()))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same project with all six stages run once; tests only read it."""
    folder = tmp_path_factory.mktemp("trained")
    pictures.write_folder(folder / "shapes")
    root = make_project(folder / "project", pictures.parameters(shapes=pictures.entry()))
    workspace = checkout(root)
    for stage in STAGE_NAMES:
        run_stage(stage, "shapes", workspace=workspace)
    return workspace
