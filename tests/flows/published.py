"""An archive of pictures that somebody publishes, as a source of an application."""

import io
import tarfile
from pathlib import Path
from typing import Any

import yaml

from tests.flows.conftest import draw_pictures, entry


def archive(folder: Path, *, each: int) -> bytes:
    draw_pictures(folder, each=each)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder, arcname=".")
    return packed.getvalue()


def publish(root: Path, name: str, address: str, **facts: Any) -> dict[str, Any]:
    """A source file; returns an application's entry on it."""
    source = {
        "name": name, "title": name, "kind": "archive", "file": f"{name}.tgz", "archive": "tgz",
        "addresses": [address], "licence": "CC0", "non_commercial": False, **facts,
    }  # fmt: skip
    (root / "sources" / f"{name}.yaml").write_text(yaml.safe_dump(source))
    return entry(source=f"sources/{name}.yaml", download={"attempts": 1, "timeout": 5.0})
