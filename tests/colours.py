"""A tiny application whose folders before the export are written by hand: which colour prevails?"""

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import nn

from data.images.prepare import prepare
from models.export import Program
from models.settings import ExportSettings
from tasks import export
from tasks.parameters import Application, DownloadBlock, Parameters, SplitBlock
from tasks.pipeline import Job, Receipt, find_stage
from tasks.workspace import Workspace, checkout

CLASSES = ("blue", "green", "red")
SIZE = 16
LEAKS = {
    "verdict": "passed",
    "leaks": {"group": 0},
    "method": "stratified",
    "near_candidates": 3,
    "unseen_classes": ["grey"],
}


class Settings(BaseModel, frozen=True, extra="forbid", strict=True):
    """The fine_tune block of the application."""

    threads: int = 1
    width: int = 8


def network(settings: Settings, facts: dict[str, Any]) -> nn.Module:
    """Convolution, batch norm, head."""
    return nn.Sequential(
        nn.Conv2d(3, settings.width, 3), nn.BatchNorm2d(settings.width), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(settings.width, len(facts["classes"])), nn.Softmax(1),
    )  # fmt: skip


def signature(module: nn.Module, facts: dict[str, Any], settings: Settings, block: ExportSettings) -> Program:
    generator = torch.Generator().manual_seed(0)
    return Program(
        module=module, example={"images": torch.rand(2, 3, SIZE, SIZE, generator=generator)},
        outputs=("probabilities",), preprocess={"kind": "encoded_images", "size": SIZE, "channels": 3},
        labels=tuple(facts["classes"]),
    )  # fmt: skip


RECIPE = SimpleNamespace(
    title="Which colour prevails", lesson="no lesson", family="vision", metrics=("accuracy", "error_rate"),
    higher_is_better=True, blocks={"fine_tune": Settings, "export": ExportSettings}, network=network,
    signature=signature, limits=("It knows three colours.",),
)  # fmt: skip


def pictures() -> dict[str, bytes]:
    """Twelve noisy pictures of several shapes, as JPEG and PNG, the last four unlabelled, by item id."""
    noise = np.random.default_rng(0)
    found = {}
    for number in range(1, 13):
        pixels = noise.integers(0, 120, (20 + 3 * number, 50 - 2 * number, 3), dtype=np.uint8)
        pixels[..., number % 3] += 100
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG" if number % 2 else "JPEG")
        folder = "test1" if number > 8 else CLASSES[2 - number % 3]
        found[f"{folder}/{number}.{'png' if number % 2 else 'jpg'}"] = buffer.getvalue()
    return found


def write_inputs(workspace: Workspace, *, seed: int = 0, accuracy: float | None = None) -> None:
    """What `clean`, `split`, `fine_tune` and `evaluate` would leave; `accuracy` replaces the measured."""
    torch.manual_seed(seed)
    facts, settings = {"classes": list(CLASSES)}, Settings()
    module = network(settings, facts).eval()
    folders = [workspace.folder("colours", stage) for stage in ("clean", "split", "fine_tune", "evaluate")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    clean, split, tuned, evaluated = folders
    save_file(dict(module.state_dict()), tuned / "weights.safetensors")
    (tuned / "facts.json").write_text(json.dumps(facts))
    (tuned / "settings.json").write_text(settings.model_dump_json())

    found = pictures()
    pixels = np.stack([prepare(encoded, size=SIZE) for encoded in found.values()])
    with torch.no_grad():
        table = module(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    labels = [item.split("/")[0] if item.split("/")[0] in CLASSES else None for item in found]
    parts = ["test" if label is None else "valid" for label in labels]
    predicted = [CLASSES[index] for index in table.argmax(1)]
    if accuracy is None:
        kept = [each == label for each, label in zip(predicted, labels, strict=True) if label]
        accuracy = sum(kept) / len(kept)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("item_id", "part", "label", "predicted")),
            ("probability", pa.float32()),
            ("probabilities", pa.list_(pa.float32())),
        ]
    )
    predictions = {
        "item_id": list(found), "part": parts, "label": labels, "predicted": predicted,
        "probability": table.max(1).values.tolist(), "probabilities": table.tolist(),
    }  # fmt: skip
    pq.write_table(pa.table(predictions, schema), evaluated / "predictions.parquet")
    digests = [f"{index:064x}" for index in range(len(found))]
    items = {"item_id": list(found), "label": labels, "digest": digests}
    pq.write_table(pa.table(items), clean / "items-00000.parquet")
    pq.write_table(pa.table({"item_id": list(found), "part": parts}), split / "split.parquet")
    valid = {"accuracy": accuracy, "error_rate": 1 - accuracy, "examples": 8}
    (evaluated / "metrics.json").write_text(json.dumps({"data": "generated", "valid": valid}))
    (evaluated / "tables").mkdir(exist_ok=True)
    (evaluated / "tables" / "card.json").write_text("[]")
    for folder in (clean, evaluated):
        (folder / "provenance.json").write_text(json.dumps(provenance()))


def provenance() -> dict[str, Any]:
    """`evaluate/provenance.json`."""
    return {
        "source": "colours", "title": "Drawn colours | twelve", "extent": "generated", "extent_note": "",
        "licence": "CC0", "citation": "Nobody, 2026.", "non_commercial": False, "rows": 12,
        "rejects": {"truncated": 2}, "ignored": {}, "labels": {"blue": 3, "green": 3, "red": 2},
        "content": "ab" * 32,
        "files": [{"name": "colours.tgz", "address": "generated", "sha256": "cd" * 32, "bytes": 1234}],
        "split": {"parts": {"valid": 8, "test": 4}, "leaks": LEAKS},
    }  # fmt: skip


def entry(block: ExportSettings) -> Application:
    blocks: dict[str, Any] = dict.fromkeys(("clean", "fine_tune", "evaluate"))
    return Application(
        recipe="colours", family="vision", source="sources/colours.yaml", download=DownloadBlock(),
        corrections="sources/none", starts_from="sources/none", judge="sources/none",
        split=SplitBlock(), export=block, **blocks,
    )  # fmt: skip


def run_export(workspace: Workspace, block: ExportSettings, **changes: Any) -> Receipt:
    """The export stage as `run_stage` runs it; `changes` replace fields of the recipe."""
    recipe: Any = SimpleNamespace(**{**vars(RECIPE), **changes})
    job = Job(
        stage=find_stage("export"), application="colours", entry=entry(block), recipe=recipe,
        parameters=Parameters(edition="sample", applications={}), workspace=workspace, output=Path(),
        door="command",
    )  # fmt: skip
    with workspace.writing(workspace.folder("colours", "export")) as output:
        return export.run(dataclasses.replace(job, output=output))


def finished(folder: Path) -> Workspace:
    """A workspace below `folder` in which every stage has run, with a submission."""
    workspace = checkout(folder)
    write_inputs(workspace)
    run_export(workspace, ExportSettings.model_validate({"submission": {"label": "red"}}))
    return workspace
