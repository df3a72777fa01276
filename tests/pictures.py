"""A small folder of one's own: drawn shapes of three kinds, a subfolder per class."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("cross", "disc", "square")


def draw(kind: str, number: int, *, side: int = 40) -> Image.Image:
    """A shape of random place, size and colour on noise; another one for each number."""
    noise = np.random.default_rng([CLASSES.index(kind), number])
    image = Image.fromarray(noise.integers(60, 120, (side, side, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    radius = int(noise.integers(side // 6, side // 4))
    x, y = (int(value) for value in noise.integers(radius + 1, side - radius - 1, 2))
    colour = tuple(int(value) for value in noise.integers(150, 256, 3))
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "disc":
        pen.ellipse(box, fill=colour)
    elif kind == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.line((x - radius, y, x + radius, y), fill=colour, width=4)
        pen.line((x, y - radius, x, y + radius), fill=colour, width=4)
    return image


def write_folder(folder: Path, *, each: int = 12) -> Path:
    """`each` PNG files below folder/CLASS."""
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for number in range(each):
            draw(kind, number).save(folder / kind / f"{number:03d}.png")
    return folder


def entry(source: str = "../shapes", **blocks: Any) -> dict[str, Any]:
    """An entry of params.yaml for such a folder: a small network, trained in seconds."""
    fine_tune = {
        "network": {"name": "resnet", "widths": [8, 16]},
        "statistics": "training",
        "size": 32,
        "batch_size": 8,
        "threads": 1,
        "phases": [{"epochs": 2, "rates": [0.01]}, {"epochs": 2, "rates": [0.001, 0.005]}],
    }
    return {
        "recipe": "image_classification",
        "family": "vision",
        "source": source,
        "corrections": "sources/none",
        "starts_from": "sources/none",
        "judge": "sources/none",
        "download": {},
        "clean": {},
        "split": {"valid": 0.25},
        "evaluate": {"shown": 4},
        "export": {"onnx": False},
        **blocks,
        "fine_tune": {**fine_tune, **blocks.get("fine_tune", {})},
    }


def parameters(**applications: Any) -> dict[str, Any]:
    """A params.yaml in the generated edition with these applications."""
    return {"edition": "sample", "mirror": "", "weights": {}, "applications": applications}
