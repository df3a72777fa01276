"""Jobs built by hand: published files in a download folder, and the stages that clean and split them."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.archives import Raw
from data.images.cleaning import ImageCleaning, clean_images, image_schema
from recipes.recipe import Recipe
from tasks import clean, split
from tasks.parameters import Application, DownloadBlock, Parameters, SplitBlock
from tasks.pipeline import Job, Receipt, find_stage
from tasks.workspace import Workspace

NAME = "app"


def image_recipe(*, labelled: bool = True) -> Recipe:
    """A recipe that can clean images, and nothing else; `labelled`: they must have labels."""

    def never(*_: Any) -> Any:
        raise AssertionError("clean and split ask for nothing but rows")

    questions: dict[str, Any] = {field.name: never for field in fields(Recipe)}
    return Recipe(**{**questions, "schema": image_schema, "clean": partial(clean_images, labelled=labelled)})


def publish(folder: Path, files: Mapping[str, bytes | Path]) -> Path:
    """A download folder with these files and their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    manifest = {
        "source": "test", "title": "Test", "extent": "own", "extent_note": "", "licence": "", "citation": "",
        "non_commercial": False,
        "files": [{"name": name, "address": "", "sha256": "", "bytes": 0} for name in files],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def raw_of(folder: Path, files: Mapping[str, bytes | Path]) -> Raw:
    return Raw(publish(folder, files))


class Chain:
    """One application below `root` whose clean and split run as in the project."""

    def __init__(
        self, root: Path, files: Mapping[str, bytes | Path], *, corrections: str = "",
        labelled: bool = True, **block: Any,
    ) -> None:  # fmt: skip
        self.workspace = Workspace(root=root, artifacts=root / "artifacts", state=root / ".practicum")
        publish(self.workspace.folder(NAME, "download"), files)
        (root / "corrections.csv").write_text(corrections)
        self.cleaning = ImageCleaning.model_validate(block)
        self.recipe = image_recipe(labelled=labelled)

    def clean(self) -> Receipt:
        return self._run("clean", SplitBlock())

    def split(self, **block: Any) -> Receipt:
        return self._run("split", SplitBlock(**block))

    def folder(self, stage: str) -> Path:
        return self.workspace.folder(NAME, stage)

    def json(self, stage: str, file: str) -> Any:
        return json.loads((self.folder(stage) / file).read_text())

    def _run(self, stage: str, division: SplitBlock) -> Receipt:
        entry = Application(
            recipe="none", family="none", source="none", corrections="corrections.csv",
            starts_from="sources/none", judge="sources/none",
            download=DownloadBlock(), clean=self.cleaning, split=division, fine_tune=None, evaluate=None,
            export=None,
        )  # fmt: skip
        with self.workspace.writing(self.folder(stage)) as output:
            job = Job(
                stage=find_stage(stage), application=NAME, entry=entry, recipe=self.recipe,
                parameters=Parameters(edition="sample", applications={}), workspace=self.workspace,
                output=output, door="command",
            )  # fmt: skip
            receipt: Receipt = {"clean": clean, "split": split}[stage].run(job)
            return receipt


def tar_of(files: Mapping[str, bytes], *, mode: str = "w:gz") -> bytes:
    """A tar of plain files in the given order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """A deflated zip of plain files in the given order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def scene(number: int, *, width: int = 96, height: int = 80) -> Image.Image:
    """A picture of blobs and stripes, another one for each number."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (7, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    fine = rng.normal(0, 8, (height, width, 3))
    return Image.fromarray((np.asarray(image) + fine).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()
