"""The recipe from archive to export: what is derived from predictions, own data, and whether it learns."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from data.examples import Items
from data.images.masks import VOID
from data.images.masks_cleaning import clean_masks
from models.fit import fit
from recipes.evaluation import masks
from recipes.recipe import Trained
from recipes.segmentation import RECIPE, SegmentationTraining
from tasks.parameters import load_parameters, read_application
from tasks.pipeline import STAGE_NAMES, run_stage
from tasks.predict import predict
from tasks.workspace import Workspace, checkout
from tests import pictures
from tests.data.images.masked import disc
from tests.scratch import ROOT, make_project

SMALL: dict[str, Any] = {
    "network": {"name": "resnet", "widths": [8, 16], "width": 8},
    "statistics": "training",
    "size": [24, 32],
    "batch_size": 4,
    "threads": 1,
    "precision": "float32",
    "phases": [{"epochs": 5, "rates": [0.01]}],
}


def own_entry(**blocks: Any) -> dict[str, Any]:
    """An entry for the folder that `write_own` makes: a layout that nothing here is made for."""
    clean = {
        "images": "fields/aerial",
        "mask": {"folder": "drawn", "pattern": "{stem}-weeds.*"},
        "classes": {"names": ["soil", "weed"], "values": [[0, 0, 0], [0, 255, 0]], "void": [[255, 255, 255]]},
    }
    entry = pictures.entry(
        "../fields", recipe="segmentation", clean=clean, split={"method": "random", "valid": 0.25}
    )
    entry |= {"evaluate": {"shown": 3}, "judge": "sources/none"}
    return {**entry, "fine_tune": SMALL, **blocks}


def write_own(folder: Path, *, count: int = 24) -> Path:
    """Photographs as JPEG in one tree of folders, masks in colour in another, and one of each too many."""
    for number in range(count):
        image, mask = disc(number, height=36, width=40)
        colours = np.array([[0, 0, 0], [0, 255, 0], [255, 255, 255]], np.uint8)[mask]
        photo = folder / "fields" / "aerial" / f"strip{number % 3}" / f"IMG{number}.JPG"
        truth = folder / "drawn" / f"strip{number % 3}" / f"IMG{number}-weeds.bmp"
        for path, pixels in ((photo, image), (truth, colours)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=95)
    Image.fromarray(disc(99)[0]).save(folder / "fields" / "aerial" / "alone.jpg")
    (folder / "notes.txt").write_text("taken in May\n")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder of one's own, taken through all six stages by its entry alone."""
    folder = tmp_path_factory.mktemp("own")
    write_own(folder / "fields")
    workspace = checkout(make_project(folder / "project", pictures.parameters(weeds=own_entry())))
    for stage in STAGE_NAMES:
        run_stage(stage, "weeds", workspace=workspace)
    return workspace


def test_a_folder_of_one_s_own_needs_an_entry_alone(own: Workspace) -> None:
    rejects = pq.read_table(own.folder("weeds", "clean") / "rejects.parquet").to_pylist()
    assert [(row["item_id"], row["reason"]) for row in rejects] == [("fields/aerial/alone.jpg", "no mask")]
    metrics = json.loads((own.folder("weeds", "evaluate") / "metrics.json").read_text())
    assert metrics["data"] == "own"
    assert metrics["valid"]["examples"] == 6
    assert metrics["valid"]["pixel_accuracy"] > 0.95
    assert metrics["valid"]["dice"] > 0.8
    assert not (own.folder("weeds", "evaluate") / "predictions.parquet").stat().st_size > 50_000


def test_figures_and_tables_tell_of_classes_and_pictures(own: Workspace) -> None:
    folder = own.folder("weeds", "evaluate")
    figures = {file.stem for file in (folder / "figures").iterdir()}
    assert figures == {"training_batch", "class_iou", "confusion_percent", "overlays", "worst_pictures"}
    assert (folder / "tables" / "classes.csv").read_text().startswith('"class","share_of_pixels","iou"')
    card = (own.folder("weeds", "export") / "card.md").read_text()
    assert "## Classes" in card
    assert "The first class alone would reach a pixel accuracy of 0." in card
    assert (folder / "corrections.csv").read_text().count("\n") == 7


def test_a_photograph_is_answered_at_its_own_size(own: Workspace, tmp_path: Path) -> None:
    image, mask = disc(3, height=90, width=70)
    Image.fromarray(image).save(tmp_path / "new.png")
    (tmp_path / "text.jpg").write_text("no picture")
    table = predict("weeds", [tmp_path], own)
    assert [Path(file).name for file in table["file"]] == ["new.png"]
    answer = np.asarray(Image.open(io.BytesIO(table["mask"][0])))
    assert answer.shape == (90, 70)
    assert table["shares"][0] == pytest.approx([(answer == 0).mean(), (answer == 1).mean()])
    counted = mask != 2
    assert (answer == mask)[counted].mean() > 0.9


def test_a_second_run_gives_the_same_bytes(own: Workspace) -> None:
    def content(stage: str, name: str) -> bytes:
        return (own.folder("weeds", stage) / name).read_bytes()

    before = content("fine_tune", "weights.safetensors"), content("evaluate", "predictions.parquet")
    for stage in ("clean", "fine_tune", "evaluate"):
        run_stage(stage, "weeds", workspace=own)
    assert before == (content("fine_tune", "weights.safetensors"), content("evaluate", "predictions.parquet"))


def test_metrics_are_those_of_the_libraries() -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score

    rng = np.random.default_rng(0)
    rows, truths, answers = [], [], []
    for number in range(5):
        truth, answer = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
        truths.append(truth), answers.append(answer)
        counts = confusion_matrix(truth, answer, labels=range(5))
        rows.append(
            {
                "item_id": str(number),
                "part": "valid",
                "loss": 1.0,
                "confusion": counts.ravel().tolist(),
                "mask": b"",
            }
        )
    truth, answer = np.concatenate(truths), np.concatenate(answers)
    table = masks.pa.Table.from_pylist(rows, masks.PREDICTIONS)
    found = masks.score(table, {"classes": list("abcde")})
    assert found["pixel_accuracy"] == pytest.approx(accuracy_score(truth, answer))
    assert found["mean_iou"] == pytest.approx(jaccard_score(truth, answer, average="macro"))
    assert found["dice"] == pytest.approx(f1_score(truth, answer, average="macro"))
    binary = {"classes": ["background", "car"]}
    two = masks.pa.Table.from_pylist(
        [{**rows[0], "confusion": confusion_matrix(truth > 1, answer > 1).ravel().tolist()}],
        masks.PREDICTIONS,
    )
    assert masks.score(two, binary)["dice"] == pytest.approx(f1_score(truth > 1, answer > 1))
    assert masks.score(table.slice(0, 0), binary) == {}


def test_the_page_on_masks_is_right() -> None:
    """Its entry is valid, and its table names every reason that cleaning has of its own."""
    page = (ROOT / "docs" / "data" / "masks.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    ((name, raw),) = yaml.safe_load(block).items()
    entry, recipe = read_application(name, raw)
    assert recipe is RECIPE
    assert entry.clean.classes.void == (255,)
    reasons = re.findall(r"`([a-z, ]+)`", clean_masks.__doc__ or "")
    assert len(reasons) > 8
    assert not [reason for reason in reasons if reason.replace("\n    ", " ") not in page]


def test_the_defaults_are_the_course_s() -> None:
    settings = SegmentationTraining()
    assert (settings.network.name, settings.size, settings.batch_size) == ("resnet34", (360, 480), 8)
    assert [phase.epochs for phase in settings.phases] == [10, 12]
    again = SegmentationTraining.model_validate_json(settings.model_dump_json())
    assert again == settings


# The generated editions teach something that neither frequency, place nor colour gives away.

STREETS, TURNTABLE = "camvid", "carvana"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The committed sample edition of both kinds of drawing, split, and the network that they start from."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    workspace = checkout(make_project(tmp_path_factory.mktemp("sample") / "project", parameters))
    for application in (STREETS, TURNTABLE):
        for stage in ("download", "clean", "split"):
            run_stage(stage, application, workspace=workspace)
    entry, _ = load_parameters(workspace.root / "params.yaml").application(STREETS)
    start = Path(entry.starts_from).parts[1]
    for stage in ("download", "clean", "split", "fine_tune"):
        run_stage(stage, start, workspace=workspace)
    return workspace


def part(workspace: Workspace, application: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) and masks (N, H, W) of one part at the network's size."""
    entry, _ = load_parameters(workspace.root / "params.yaml").application(application)
    folder = workspace.folder(application, "clean")
    batches = masks.open_part(
        Items(folder, folder.with_name("split")),
        name,
        entry.fine_tune,
        workspace.state / "cache" / application,
    )
    count = range(len(batches.images))
    return np.stack([batches.images[i] for i in count]), np.stack([batches.masks[i][..., 0] for i in count])


def learned(workspace: Workspace, application: str, *, shuffled: bool = False, **changes: Any) -> float:
    """Pixel accuracy after training with the committed settings and start."""
    entry, _ = load_parameters(workspace.root / "params.yaml").application(application)
    settings = SegmentationTraining.model_validate(
        {**entry.fine_tune.model_dump(exclude_unset=True), "threads": 1, **changes}
    )
    torch.set_num_threads(1)
    folder = workspace.folder(application, "clean")
    learning = RECIPE.learn(
        Items(folder, folder.with_name("split")), settings, workspace.state / "cache" / application
    )
    loaders: Callable[..., Any] = learning.loaders
    if shuffled:

        def loaders(phase: Any) -> Any:
            train, valid = learning.loaders(phase)
            order = np.random.default_rng(0).permutation(len(train.masks))
            train.masks = [train.masks[int(place)] for place in order]  # type: ignore[assignment]
            return train, valid

    torch.manual_seed(settings.seed)
    network = RECIPE.network(settings, learning.facts)
    weights = load_file(workspace.root / entry.starts_from / "weights.safetensors")
    RECIPE.start(network, Trained(state=weights, facts={}, settings={}), learning.facts)
    history = fit(RECIPE.phases(settings, network, learning, None), loaders, seed=settings.seed)
    return float(history.rows[-1]["pixel_accuracy"])


def by_place(workspace: Workspace, application: str) -> float:
    """Pixel accuracy of the most frequent training class of each place: sky above, road below."""
    _, train = part(workspace, application, "train")
    _, valid = part(workspace, application, "valid")
    counts = np.stack([(train == value).sum(axis=0) for value in range(32)])
    best = np.broadcast_to(counts.argmax(axis=0), valid.shape)
    return float((best == valid)[valid != VOID].mean())


def by_colour(workspace: Workspace, application: str) -> float:
    """Pixel accuracy of a linear model of a pixel's colour and place."""
    from sklearn.linear_model import LogisticRegression

    def table(name: str, every: int) -> tuple[np.ndarray, np.ndarray]:
        images, truth = part(workspace, application, name)
        rows, columns = np.mgrid[0 : 1 : truth.shape[1] * 1j, 0 : 1 : truth.shape[2] * 1j]
        places = np.broadcast_to(np.stack([rows, columns], -1), (*truth.shape, 2))
        features = np.concatenate([images / 255, places], axis=-1)[truth != VOID][::every]
        return features, truth[truth != VOID][::every]

    model = LogisticRegression(max_iter=200).fit(*table("train", 29))
    return float(model.score(*table("valid", 3)))


@pytest.mark.parametrize(("application", "margin"), [(STREETS, 0.05), (TURNTABLE, 0.05)])
def test_learning_beats_frequency_place_and_colour(
    sample: Workspace, application: str, margin: float
) -> None:
    found = learned(sample, application)
    assert found > by_place(sample, application) + margin
    assert found > by_colour(sample, application) + margin


def test_with_shuffled_masks_nothing_but_the_place_is_left(sample: Workspace) -> None:
    found = learned(sample, STREETS, shuffled=True, phases=[{"epochs": 5, "rates": [0.01]}])
    assert found < by_place(sample, STREETS) + 0.03


def test_it_starts_from_weights_of_the_body(imagenet_weights: Path) -> None:
    settings = SegmentationTraining.model_validate({"network": {"name": "squeezenet1_0", "width": 8}})
    facts = {"classes": ["a", "b"], "values": [0, 1], "mean": [0.5] * 3, "std": [0.25] * 3}
    network = RECIPE.network(settings, facts)
    loaded = RECIPE.start(network, Trained(state=load_file(imagenet_weights), facts={}, settings={}), facts)
    assert len(loaded) == 50
