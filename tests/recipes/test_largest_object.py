"""Class and box of the largest object: the generated edition teaches both, and shuffled answers neither."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from data.examples import Items
from data.images.boxes import largest
from models.fit import fit
from recipes.largest_object import RECIPE, LargestTraining
from recipes.recipe import Subject, Trained
from tasks.parameters import load_parameters
from tasks.pipeline import run_stage
from tasks.workspace import Workspace, checkout
from tests.scratch import ROOT, make_project

NAME, START = "voc_largest", "shapes"


def test_the_defaults_are_the_course_s() -> None:
    settings = LargestTraining()
    assert (settings.network.name, settings.size, settings.batch_size) == ("resnet34", 224, 64)
    assert (settings.hidden, settings.dropout, settings.class_weight) == (256, 0.5, 20.0)
    assert settings.phases[0].freeze == "body"


def test_the_largest_counts_and_the_first_of_equals() -> None:
    boxes = [[0, 0, 4, 4], [0, 0, 9, 9], [0, 0, 5, 4], [0, 0, 4, 5]]
    assert largest({"boxes": boxes, "ignored": [False, True, False, False]}) == 2


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The committed sample edition, divided, with the network of the drawn shapes that it starts from."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    chosen = {name: parameters["applications"][name] for name in (START, NAME)}
    entries = {"applications": chosen, "weights": {}}
    workspace = checkout(make_project(tmp_path_factory.mktemp("drawn") / "project", parameters | entries))
    for name in chosen:
        for stage in ("download", "clean", "split"):
            run_stage(stage, name, workspace=workspace)
    run_stage("fine_tune", START, workspace=workspace)
    return workspace


def learned(workspace: Workspace, *, shuffled: bool = False, **changes: Any) -> dict[str, float]:
    """Metrics on the validation part after training with the committed settings."""
    entry, _ = load_parameters(workspace.root / "params.yaml").application(NAME)
    block = {**entry.fine_tune.model_dump(exclude_unset=True), **changes}
    settings = LargestTraining.model_validate(block)
    torch.set_num_threads(1)
    clean = workspace.folder(NAME, "clean")
    items, cache = Items(clean, clean.with_name("split")), workspace.state / "cache" / NAME
    learning = RECIPE.learn(items, settings, cache)

    def loaders(phase: Any) -> Any:
        train, _ = learning.loaders(phase)
        if shuffled:  # every picture gets the class and the box of another one
            order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(1))
            train.boxes, train.labels = train.boxes[order], train.labels[order]
        return train, None

    torch.manual_seed(settings.seed)
    network = RECIPE.network(settings, learning.facts)
    shapes = load_file(workspace.folder(START, "fine_tune") / "weights.safetensors")
    RECIPE.start(network, Trained(state=shapes, facts={}, settings={}), learning.facts)
    phases = RECIPE.phases(settings, network, learning, None)
    fit(phases, loaders, seed=settings.seed, clip=settings.clip, channels_last=True)
    subject = Subject(
        network=network.eval(), items=items, facts=learning.facts, settings=settings,
        evaluation=RECIPE.blocks["evaluate"](), cache=cache, judge=None,
    )  # fmt: skip
    return RECIPE.score(RECIPE.predict(subject), learning.facts)


def pixels_and_answers(workspace: Workspace, part: str) -> tuple[Any, list[str], Any]:
    """Pictures of 16 pixels a side, classes, and boxes in pixels of 224."""
    import io

    from PIL import Image

    clean = workspace.folder(NAME, "clean")
    columns = ["image", "label", "width", "height", "boxes", "ignored"]
    rows = Items(clean, clean.with_name("split")).table([part], columns).to_pylist()
    images = [np.asarray(Image.open(io.BytesIO(row["image"])).resize((16, 16))).ravel() / 255 for row in rows]
    found = [np.array(row["boxes"][largest(row)]) / ([row["width"], row["height"]] * 2) * 224 for row in rows]
    return np.stack(images), [row["label"] for row in rows], np.stack(found)


@pytest.mark.timeout(600)
def test_the_generated_edition_teaches_and_shuffled_answers_do_not(drawn: Workspace) -> None:
    images, labels, found = pixels_and_answers(drawn, "train")
    held_out, actual, boxes = pixels_and_answers(drawn, "valid")
    most = max(sorted(set(labels)), key=labels.count)
    frequent = actual.count(most) / len(actual)
    linear = LogisticRegression(max_iter=300).fit(images, labels).score(held_out, actual)
    middle = float(np.abs(boxes - np.median(found, axis=0)).mean())

    reached = learned(drawn)
    error = (0.25 / len(actual)) ** 0.5
    assert reached["accuracy"] > max(frequent, linear) + 2 * error
    assert reached["l1_pixels"] < 0.75 * middle
    chance = learned(drawn, shuffled=True, phases=[{"epochs": 5, "rates": [0.003]}])
    assert abs(chance["accuracy"] - frequent) < 3 * error
    assert chance["l1_pixels"] > 0.9 * middle


def test_every_fault_is_planted_and_told(drawn: Workspace) -> None:
    reasons = pq.read_table(drawn.folder(NAME, "clean") / "rejects.parquet")["reason"].to_pylist()
    assert set(reasons) == {
        "not an image", "empty file", "truncated", "above the pixel limit", "exact duplicate",
        "no annotation", "listed, but not in the archive", "no object", "box outside the image",
        "box without area", "unknown class", "annotated at another size", "malformed annotation",
        "ambiguous annotation", "unknown image",
    }  # fmt: skip
