"""A small folder of one's own with boxes: drawn shapes on noise, VOC's XML or COCO's JSON beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

KINDS = ("ball", "brick")

Marked = tuple[str, tuple[int, int, int, int]]
"""Name, and left, top, right, bottom in pixels from 0; the last two are behind the object."""


def draw(number: int, *, width: int = 60, height: int = 48) -> tuple[Image.Image, list[Marked]]:
    """One or two shapes; another picture for each number. The larger one is the first."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(40, 110, (height, width, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    marked: list[Marked] = []
    for place in range(1 + number % 2):
        side = int(rng.integers(18, 24)) - 8 * place
        left = int(rng.integers(1, 8)) + place * (width // 2)
        top = int(rng.integers(1, height - side - 1))
        box = (left, top, left + side, top + side)
        inside = (box[0], box[1], box[2] - 1, box[3] - 1)
        kind = KINDS[int(rng.integers(2))]
        colour = (230, 60, 40) if kind == "ball" else (60, 120, 240)
        (pen.ellipse if kind == "ball" else pen.rectangle)(inside, fill=colour)
        marked.append((kind, box))
    return image, marked


def voc(
    name: str, objects: Sequence[Marked], *, size: tuple[int, int] | None = (60, 48), flags: str = ""
) -> bytes:
    """VOC's XML: corners from 1, both inside of the box. `flags`: further elements of every object."""
    sized = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    marked = "".join(
        f"<object><name>{kind}</name>{flags}<bndbox><xmin>{box[0] + 1}</xmin><ymin>{box[1] + 1}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for kind, box in objects
    )
    return f"<annotation><filename>{name}</filename>{sized}{marked}</annotation>".encode()


def coco(images: dict[str, Sequence[Marked]], kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """COCO's JSON as an object, ids from 1; without sizes, as COCO's own annotations of boxes may be."""
    listed = [{"id": number, "file_name": name} for number, name in enumerate(images, start=1)]
    annotations = [
        {
            "id": 1, "image_id": number, "category_id": kinds.index(kind) + 1,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
        }
        for number, objects in enumerate(images.values(), start=1)
        for kind, box in objects
    ]  # fmt: skip
    categories = [{"id": number, "name": kind} for number, kind in enumerate(kinds, start=1)]
    return {"images": listed, "annotations": annotations, "categories": categories}


def write_voc(folder: Path, *, count: int) -> Path:
    """`photos/N.png` and `marks/N.xml`."""
    (folder / "photos").mkdir(parents=True)
    (folder / "marks").mkdir()
    for number in range(count):
        image, marked = draw(number)
        image.save(folder / "photos" / f"{number:03d}.png")
        (folder / "marks" / f"{number:03d}.xml").write_bytes(voc(f"{number:03d}.png", marked))
    return folder


def write_coco(folder: Path, *, count: int) -> Path:
    """`photos/N.png` and `boxes.json`."""
    (folder / "photos").mkdir(parents=True)
    said: dict[str, Sequence[Marked]] = {}
    for number in range(count):
        image, said[f"photos/{number:03d}.png"] = draw(number)
        image.save(folder / "photos" / f"{number:03d}.png")
    (folder / "boxes.json").write_text(json.dumps(coco(said)))
    return folder


def entry(recipe: str, source: str, **blocks: Any) -> dict[str, Any]:
    """An entry of params.yaml for such a folder: a small network, trained in seconds."""
    fine_tune: dict[str, Any] = {
        "network": {"name": "resnet", "widths": [8, 16, 32]},
        "statistics": "training",
        "size": 48,
        "batch_size": 8,
        "threads": 1,
        "dropout": 0.0,
        "clip": 1.0,
        "phases": [{"epochs": 2, "rates": [0.005]}],
    }
    if recipe == "object_detection":
        fine_tune |= {"anchors": {"grids": [6, 3], "zooms": [1.0, 1.5], "ratios": [[1, 1]]}, "width": 32}
    return {
        "recipe": recipe,
        "family": "vision",
        "source": source,
        "corrections": "sources/none",
        "starts_from": "sources/none",
        "judge": "sources/none",
        "download": {},
        "clean": {},
        "split": {"method": "random", "valid": 0.25},
        "evaluate": {"shown": 4},
        "export": {"onnx": False},
        **blocks,
        "fine_tune": {**fine_tune, **blocks.get("fine_tune", {})},
    }
