"""What tests share: the real files where they lie beside the checkout, and a scratch project."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
