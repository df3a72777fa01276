"""Detection on its generated edition and on real photographs: it learns, and only from what is true."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from data.examples import Items
from data.images.boxes import BoxCleaning, box_schema, clean_boxes
from data.shards import ShardWriter
from models.fit import fit
from recipes.evaluation import boxes
from recipes.object_detection import RECIPE, DetectionTraining
from recipes.recipe import Subject, Trained
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests.jobs import raw_of
from tests.scratch import ROOT, make_project

NAME = "voc_ssd"


def test_the_defaults_are_the_course_s() -> None:
    settings = DetectionTraining()
    assert settings.network.name == "resnet34"
    assert (settings.size, settings.batch_size, settings.dropout) == (224, 64, 0.4)
    assert settings.anchors.grids == (4, 2, 1)
    assert (settings.threshold, settings.alpha, settings.gamma) == (0.5, 0.25, 2.0)
    assert settings.augmentation.rotate == 3


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"network": {"name": "mlp"}}, "mlp knows no places"),
        ({"network": {"name": "resnet18", "widths": [8]}}, "widths has no effect on the network resnet18"),
        ({"phases": [{"epochs": 1, "rates": [0.1], "size": 32}]}, "size must stay away"),
        ({"anchors": {"grids": [2, 4]}}, "from fine to coarse"),
    ],
)
def test_a_setting_that_cannot_be_is_named(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DetectionTraining.model_validate(block)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The committed sample edition, divided."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    entries = {"applications": {NAME: parameters["applications"][NAME]}, "weights": {}}
    workspace = checkout(make_project(tmp_path_factory.mktemp("drawn") / "project", parameters | entries))
    for stage in ("download", "clean", "split"):
        run_stage(stage, NAME, workspace=workspace)
    return workspace


def learned(workspace: Workspace, *, shuffled: bool = False, **changes: Any) -> tuple[Subject, float]:
    """Trained with the committed settings from random weights, and its mAP on the validation part."""
    entry, _ = load_parameters(workspace.root / "params.yaml").application(NAME)
    settings = DetectionTraining.model_validate({**entry.fine_tune.model_dump(exclude_unset=True), **changes})
    torch.set_num_threads(1)
    clean = workspace.folder(NAME, "clean")
    items, cache = Items(clean, clean.with_name("split")), workspace.state / "cache" / NAME
    learning = RECIPE.learn(items, settings, cache)

    def loaders(phase: Any) -> Any:
        train, _ = learning.loaders(phase)
        if shuffled:  # every picture gets the objects of another one
            order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(1))
            train.boxes, train.labels = train.boxes[order], train.labels[order]
        return train, None

    torch.manual_seed(settings.seed)
    network = RECIPE.network(settings, learning.facts)
    fit(
        RECIPE.phases(settings, network, learning, None), loaders, seed=settings.seed, clip=settings.clip,
        channels_last=True,
    )  # fmt: skip
    subject = subject_of(network, items, learning.facts, settings, cache)
    return subject, RECIPE.score(RECIPE.predict(subject), learning.facts)["map_50"]


def subject_of(network: Any, items: Items, facts: Any, settings: Any, cache: Path) -> Subject:
    return Subject(
        network=network.eval(), items=items, facts=facts, settings=settings,
        evaluation=RECIPE.blocks["evaluate"](), cache=cache, judge=None,
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_the_generated_edition_teaches_and_shuffled_objects_do_not(drawn: Workspace) -> None:
    subject, reached = learned(drawn)
    assert reached >= 0.5
    assert constant_answer(subject) < 0.1
    short = [{"epochs": 6, "rates": [0.004]}]
    _, chance = learned(drawn, shuffled=True, phases=short)
    assert chance < 0.15


def constant_answer(subject: Subject) -> float:
    """mAP of the mean box of each class, as a model that never looks would give it."""
    truth = subject.items.table(["train"], ["boxes", "names", "width", "height"]).to_pylist()
    kinds = subject.facts["classes"]
    mean = {
        kind: np.mean(
            [
                np.array(box) / [row["width"], row["height"], row["width"], row["height"]]
                for row in truth
                for box, name in zip(row["boxes"], row["names"], strict=True)
                if name == kind
            ],
            axis=0,
        )
        for kind in kinds
    }
    rows = subject.items.table(
        ["valid"], ["item_id", "width", "height", "boxes", "names", "ignored"]
    ).to_pylist()
    answers = [
        {
            "item_id": row["item_id"], "part": "valid", "width": row["width"], "height": row["height"],
            "boxes": [(mean[kind] * ([row["width"], row["height"]] * 2)).tolist() for kind in kinds],
            "scores": [0.5] * len(kinds), "names": kinds, "true_boxes": row["boxes"], "missed": 0, "wrong": 0,
            "true_names": row["names"], "true_ignored": row["ignored"],
        }
        for row in rows
    ]  # fmt: skip
    return RECIPE.score(pa.Table.from_pylist(answers, schema=boxes.PREDICTIONS), subject.facts)["map_50"]


def test_every_fault_is_planted_and_told(drawn: Workspace) -> None:
    reasons = pq.read_table(drawn.folder(NAME, "clean") / "rejects.parquet")["reason"].to_pylist()
    assert set(reasons) == {
        "not an image", "empty file", "truncated", "above the pixel limit", "exact duplicate",
        "no annotation", "listed, but not in the archive", "no object", "box outside the image",
        "box without area", "unknown class", "annotated at another size", "malformed annotation",
        "ambiguous annotation",
    }  # fmt: skip
    items = pq.read_table(
        drawn.folder(NAME, "clean") / "items-00000.parquet", columns=["clipped", "difficult"]
    )
    assert pc.sum(items["clipped"]).as_py() == 1
    assert any(any(flags) for flags in items["difficult"].to_pylist())


def test_a_correction_that_would_change_nothing_is_refused(drawn: Workspace, tmp_path: Path) -> None:
    clean = drawn.folder(NAME, "clean")
    (tmp_path / "clean").mkdir()
    table = pq.read_table(clean / "items-00000.parquet")
    labelled = table.set_column(1, "label", pa.array(["cat"] + [None] * (table.num_rows - 1), pa.string()))
    pq.write_table(labelled, tmp_path / "clean" / "items-00000.parquet")
    with pytest.raises(ValueError, match="relabel has no effect"):
        RECIPE.learn(Items(tmp_path / "clean", clean.with_name("split")), DetectionTraining(), tmp_path)


def row(answers: Sequence[tuple[str, float, Sequence[float]]], **changes: Any) -> dict[str, Any]:
    """A prediction of one picture with two balls, the second of them to be ignored."""
    return {
        "true_boxes": [[0, 0, 10, 10], [20, 20, 30, 30]], "true_names": ["ball", "ball"],
        "true_ignored": [False, True], "boxes": [box for _, _, box in answers],
        "scores": [score for _, score, _ in answers], "names": [name for name, _, _ in answers],
        **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "missed", "wrong"),
    [
        ([], 1, 0),
        ([("ball", 0.9, [0, 0, 10, 9])], 0, 0),
        ([("ball", 0.1, [0, 0, 10, 9])], 1, 0),
        ([("brick", 0.9, [0, 0, 10, 9])], 1, 1),
        ([("ball", 0.9, [0, 0, 10, 9]), ("ball", 0.8, [0, 0, 9, 10])], 0, 1),
        ([("ball", 0.9, [0, 0, 10, 10]), ("ball", 0.8, [20, 20, 30, 30])], 0, 0),
        ([("ball", 0.9, [40, 40, 50, 50])], 1, 1),
    ],
)  # fmt: skip
def test_mistakes_are_counted_once(answers: Any, missed: int, wrong: int) -> None:
    assert boxes.mistakes(row(answers), floor=0.25) == (missed, wrong)


def test_a_class_that_was_never_trained_on_counts_as_zero() -> None:
    schema = boxes.PREDICTIONS
    common = {"part": "valid", "width": 40, "height": 40, "missed": 0, "wrong": 0}
    found = {"item_id": "a", **row([("ball", 0.9, [0, 0, 10, 10])]), **common}
    unseen = {"item_id": "b", **row([], true_names=["brick", "brick"]), **common}
    facts = {"classes": ["ball"], "objects": {"ball": 3}}
    assert RECIPE.score(pa.Table.from_pylist([found], schema=schema), facts)["map_50"] == pytest.approx(1)
    assert RECIPE.score(pa.Table.from_pylist([found, unseen], schema=schema), facts)[
        "map_50"
    ] == pytest.approx(0.5)
    assert RECIPE.score(schema.empty_table(), facts) == {}


def of_part(folder: Path, part: str, rows: Sequence[dict[str, Any]]) -> Items:
    """These rows, all in one part."""
    items = Items(folder / "clean", folder / part)
    items.clean.mkdir(exist_ok=True)
    items.split.mkdir()
    with ShardWriter(items.clean, box_schema()) as shards:
        shards.write(pa.RecordBatch.from_pylist(rows, schema=box_schema()))
    table = pa.table({"item_id": [each["item_id"] for each in rows], "part": [part] * len(rows)})
    pq.write_table(table, items.split / "split.parquet")
    return items


@pytest.mark.timeout(600)
def test_eight_real_photographs_can_be_learned_by_heart(
    datasets: Path, imagenet_weights: Path, tmp_path: Path
) -> None:
    """The first eight of the archive's test list, from SqueezeNet's published weights."""
    raw = raw_of(tmp_path / "download", {"pascal_2007.tgz": datasets / "pascal_2007.tgz"})
    annotations = {"from": "coco", "file": "test.json"}
    block = BoxCleaning.model_validate({"images": "pascal_2007/test/", "annotations": annotations})
    rows: list[Any] = list(clean_boxes(raw, block))[:8]
    train, valid = (of_part(tmp_path, part, rows) for part in ("train", "valid"))
    settings = DetectionTraining.model_validate(
        {
            "network": {"name": "squeezenet1_0"}, "size": 128, "batch_size": 8, "threads": 1, "width": 128,
            "dropout": 0.0, "alpha": 0.5, "phases": [{"epochs": 45, "rates": [0.001]}],
            "anchors": {"grids": [7, 4, 2], "zooms": [1.0, 1.5]},
            "augmentation": {"flip": "none", "rotate": 0.0, "zoom": 1.0, "warp": 0.0, "lighting": 0.0},
        }
    )  # fmt: skip
    learning = RECIPE.learn(train, settings, tmp_path)
    torch.manual_seed(0)
    network = RECIPE.network(settings, learning.facts)
    start: Callable[..., Any] = RECIPE.start
    start(network, Trained(state=load_file(imagenet_weights), facts={}, settings={}), learning.facts)
    batches = boxes.open_part(train, "train", learning.facts["classes"], settings, tmp_path)
    phases = RECIPE.phases(settings, network, learning, None)
    fit(phases, lambda phase: (batches, None), seed=0, clip=1.0)
    subject = subject_of(network, valid, learning.facts, settings, tmp_path)
    assert RECIPE.score(RECIPE.predict(subject), learning.facts)["map_50"] >= 0.9
