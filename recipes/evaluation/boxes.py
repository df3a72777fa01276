"""Detected objects: predictions made once, and all that is derived from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.recipe import Figure, Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from data.examples import Items
    from data.images.boxes_batches import BoxBatches
    from models.vision.boxes_figures import Frame

PARTS = ("valid", "test")
HIT = 0.5
"""Intersection over union from which an answer is right (VOC; `map_50`)."""
BOXES = pa.list_(pa.list_(pa.float32()))

PREDICTIONS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("boxes", BOXES, nullable=False),  # x_min, y_min, x_max, y_max in pixels; best first
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
        pa.field("names", pa.list_(pa.string()), nullable=False),
        pa.field("true_boxes", BOXES, nullable=False),
        pa.field("true_names", pa.list_(pa.string()), nullable=False),
        pa.field("true_ignored", pa.list_(pa.bool_()), nullable=False),
        pa.field("missed", pa.int32(), nullable=False),  # objects without an answer of at least `drawn`
        pa.field("wrong", pa.int32(), nullable=False),  # answers of at least `drawn` without an object
    ]
)


def predict(subject: Subject) -> pa.Table:
    """One row of PREDICTIONS per picture of the validation and test parts, in the order of the items."""
    columns = ["item_id", "width", "height", "boxes", "names", "ignored"]
    rows: list[dict[str, Any]] = []
    for part in PARTS:
        truths = subject.items.table([part], columns).to_pylist()
        if truths:
            answers = _answers(subject, of_subject(subject, part))
            pairs = zip(truths, answers, strict=True)
            rows += [_row(part, truth, answer, subject) for truth, answer in pairs]
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def open_part(
    items: Items,
    part: str,
    classes: Sequence[str],
    settings: Any,
    cache: Path,
    *,
    only_largest: bool = False,
    batch_size: int | None = None,
) -> BoxBatches:
    """Batches of one part as the settings say; the training part is shuffled and augmented."""
    from data.images.boxes_batches import open_boxes
    from models.hardware import device

    return open_boxes(
        items, part, vocabulary=classes, only_largest=only_largest, size=settings.size,
        batch_size=batch_size or settings.batch_size, cache=cache, channels=settings.channels,
        augmentation=settings.augmentation if part == "train" else None, seed=settings.seed,
        device=device(),
    )  # fmt: skip


def of_subject(subject: Subject, part: str, **options: Any) -> BoxBatches:
    """Batches of one part as the network saw them in training."""
    return open_part(
        subject.items, part, subject.facts["classes"], subject.settings, subject.cache, **options
    )


def outputs(subject: Subject, batches: BoxBatches) -> Iterator[Tensor]:
    """What the network answers for each batch, in float32 as exported programs do, on the CPU."""
    import torch

    from models.hardware import device

    network = subject.network.to(device()).eval()
    with torch.no_grad():
        for images, _ in batches.epoch(0):
            yield network(images).float().cpu()
    network.cpu()


def _answers(subject: Subject, batches: BoxBatches) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Boxes in shares, scores and classes of each picture."""
    from models.vision.anchors import make_anchors
    from models.vision.detector import read
    from models.vision.selection import select

    chosen = subject.evaluation
    anchors = make_anchors(subject.settings.anchors)
    for answer in outputs(subject, batches):
        for boxes, scores in zip(*read(answer, anchors), strict=True):
            yield select(boxes, scores, floor=chosen.floor, overlap=chosen.overlap, most=chosen.most)


def _row(
    part: str, truth: Mapping[str, Any], answer: tuple[Tensor, Tensor, Tensor], subject: Subject
) -> dict[str, Any]:
    boxes, scores, kinds = (each.numpy() for each in answer)
    names = [subject.facts["classes"][kind] for kind in kinds]
    scaled = boxes * np.array([truth["width"], truth["height"]] * 2, dtype=np.float32)
    row = {
        "item_id": truth["item_id"],
        "part": part,
        "width": truth["width"],
        "height": truth["height"],
        "boxes": scaled.tolist(),
        "scores": scores.tolist(),
        "names": names,
        "true_boxes": truth["boxes"],
        "true_names": truth["names"],
        "true_ignored": truth["ignored"],
    }
    missed, wrong = mistakes(row, floor=subject.evaluation.drawn)
    return {**row, "missed": missed, "wrong": wrong}


def mistakes(row: Mapping[str, Any], *, floor: float) -> tuple[int, int]:
    """(missed, wrong): objects that no answer hits, and answers that hit no object, from a score on. The best
    answers choose first; who hits an ignored object is neither right nor wrong."""
    import torch
    from torchvision.ops import box_iou

    ignored = row["true_ignored"]
    wanted, answered = len(ignored) - sum(ignored), [score >= floor for score in row["scores"]]
    if not any(answered) or not ignored:
        return wanted, sum(answered)
    overlaps = box_iou(torch.tensor(row["boxes"]), torch.tensor(row["true_boxes"])).numpy()
    left, hits, excused = set(range(len(ignored))), 0, 0
    for place in (place for place, given in enumerate(answered) if given):
        fitting = [
            each for each in left
            if row["true_names"][each] == row["names"][place] and overlaps[place, each] >= HIT
        ]  # fmt: skip
        if not fitting:
            continue
        best = max(fitting, key=lambda each: (not ignored[each], overlaps[place, each]))
        excused += ignored[best]
        if not ignored[best]:
            hits += 1
            left.remove(best)
    return wanted - hits, sum(answered) - hits - excused


@dataclass(frozen=True, kw_only=True)
class Precision:
    """What torchmetrics counts over a set of pictures; classes that have no object there are left out."""

    mean_50: float
    mean: float
    recall: float
    by_class: dict[str, float]
    """Average precision at HIT."""
    curves: dict[str, NDArray[np.float64]]
    """Precision at recalls from 0 to 1 in steps of 0.01."""


def precision_of(predictions: pa.Table) -> Precision | None:
    """Average precisions of `predictions`; None where no object is annotated."""
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    rows = predictions.to_pylist()
    kinds = sorted({name for row in rows for name in (*row["names"], *row["true_names"])})
    if not any(not ignored for row in rows for ignored in row["true_ignored"]):
        return None
    numbers = {name: number for number, name in enumerate(kinds)}

    def tensors(boxes: Any, names: Any) -> dict[str, Tensor]:
        return {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([numbers[name] for name in names], dtype=torch.int64),
        }

    metric = MeanAveragePrecision(iou_type="bbox", backend="faster_coco_eval", extended_summary=True)
    metric.warn_on_many_detections = False
    for row in rows:
        given = tensors(row["boxes"], row["names"]) | {"scores": torch.tensor(row["scores"])}
        truth = tensors(row["true_boxes"], row["true_names"])
        truth["iscrowd"] = torch.tensor(row["true_ignored"], dtype=torch.int64)
        metric.update([given], [truth])
    found = metric.compute()
    names = [kinds[int(number)] for number in found["classes"].reshape(-1)]
    precision = found["precision"][0, :, :, 0, -1].double().numpy()  # at HIT, all areas, most answers
    recall = found["recall"][0, :, 0, -1].double().numpy()
    counted = [place for place in range(len(names)) if precision[0, place] >= 0]
    return Precision(
        mean_50=float(found["map_50"]),
        mean=float(found["map"]),
        recall=float(recall[counted].mean()),
        by_class={names[place]: float(precision[:, place].mean()) for place in counted},
        curves={names[place]: precision[:, place] for place in counted},
    )


def score(predictions: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """map_50, map (mean over overlaps from 0.5 to 0.95) and recall (at 0.5), means over the classes that
    occur; a class that training never saw counts as 0. {} where nothing is annotated."""
    found = precision_of(predictions)
    if found is None:
        return {}
    return {"map_50": found.mean_50, "map": found.mean, "recall": found.recall}


def tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """`average_precision`: every class of each part."""
    rows = []
    for part in PARTS:
        of_part = predictions.filter(pc.equal(predictions["part"], part))
        found = precision_of(of_part) if of_part.num_rows else None
        objects = _objects(of_part)
        for name, value in (found.by_class if found else {}).items():
            rows.append(
                {
                    "part": part, "class": name, "average_precision": round(value, 4),
                    "objects": objects[name],
                    "trained_on": subject.facts["objects"].get(name, 0),
                }
            )  # fmt: skip
    columns = ["part", "class", "average_precision", "objects", "trained_on"]
    yield Listing(
        name="average_precision",
        table=pa.table({name: [row[name] for row in rows] for name in columns}),
        title="Average precision by class",
        text="At an overlap of 0.5 (intersection over union). `objects`: in that part; `trained_on`: in the"
        " training part. A class that was never trained on counts as 0.",
    )


def _objects(predictions: pa.Table) -> Counter[str]:
    listed = zip(predictions["true_names"].to_pylist(), predictions["true_ignored"].to_pylist(), strict=True)
    return Counter(
        name for names, ignored in listed for name, out in zip(names, ignored, strict=True) if not out
    )


def review(predictions: pa.Table, evaluation: Any) -> pa.Table:
    """The pictures with most mistakes; a person fills in `action`: `delete`, or mends the published boxes."""
    rows = predictions.append_column("mistakes", pc.add(predictions["missed"], predictions["wrong"]))
    rows = rows.filter(pc.greater(rows["mistakes"], 0))
    worst = rows.sort_by([("mistakes", "descending"), ("item_id", "ascending")])
    worst = worst.slice(0, evaluation.candidates)
    nothing = pa.array([""] * worst.num_rows, pa.string())
    return pa.table(
        {
            "item_id": worst["item_id"], "action": nothing, "label": nothing,
            "missed": worst["missed"], "wrong": worst["wrong"],
        }
    )  # fmt: skip


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A training batch with its boxes, anchors, answers beside the truth, worst pictures, precision."""
    from models.vision import boxes_figures

    yield training_batch(subject)
    part = next((part for part in PARTS if part in predictions["part"].to_pylist()), None)
    if part is None:
        return
    rows = predictions.filter(pc.equal(predictions["part"], part)).to_pylist()
    batches = of_subject(subject, part)
    yield _anchors(subject, batches)
    spaced = np.unique(np.linspace(0, len(rows) - 1, subject.evaluation.shown).round().astype(int))
    yield _shown("predictions", batches, rows, spaced.tolist(), subject)
    worst = sorted(range(len(rows)), key=lambda place: -(rows[place]["missed"] + rows[place]["wrong"]))
    yield _shown("worst", batches, rows, worst[: subject.evaluation.shown], subject)
    found = precision_of(predictions.filter(pc.equal(predictions["part"], part)))
    if found is not None:
        recalls = np.linspace(0, 1, 101)
        yield Figure(
            name="precision_recall",
            draw=lambda figure: boxes_figures.precision_recall(
                figure, recalls, found.curves, values=found.by_class
            ),
        )


def training_batch(subject: Subject, *, only_largest: bool = False) -> Figure:
    """The first training pictures of the first epoch, augmented, with their boxes."""
    from models.vision import boxes_figures
    from models.vision.boxes_figures import Frame, colour_of

    classes = subject.facts["classes"]
    count = min(subject.evaluation.shown, subject.items.table(["train"], ["item_id"]).num_rows)
    batches = of_subject(subject, "train", only_largest=only_largest, batch_size=count)
    images, (boxes, labels) = next(iter(batches.epoch(0)))
    pictures = list(images.permute(0, 2, 3, 1).cpu().numpy())
    frames = [
        [
            Frame(box=box, text=classes[kind], colour=colour_of(classes[kind], classes))
            for box, kind in zip(of_image.tolist(), kinds.tolist(), strict=True)
            if kind >= 0
        ]
        for of_image, kinds in zip(boxes, labels, strict=True)
    ]
    titles = [f"{len(each)} objects" for each in frames]
    return Figure(
        name="training_batch",
        draw=lambda figure: boxes_figures.box_grid(figure, pictures, frames, titles=titles),
    )


def _anchors(subject: Subject, batches: BoxBatches) -> Figure:
    """The first picture under the anchors of each grid; those that answer for an object are bold."""
    from models.vision import boxes_figures
    from models.vision.anchors import make_anchors, match
    from models.vision.boxes_figures import COLOURS, Frame

    settings = subject.settings.anchors
    anchors = make_anchors(settings)
    assigned, _ = match(anchors, batches.boxes[:1], batches.labels[:1], threshold=subject.settings.threshold)
    frames, titles, first = [], [], 0
    for grid in settings.grids:
        count = grid * grid * settings.per_cell
        own = anchors[first : first + count].tolist()
        bold = (assigned[0, first : first + count] >= 0).tolist()
        middle = (grid * grid // 2 + (grid // 2 if grid % 2 == 0 else 0)) * settings.per_cell
        shown = range(middle, middle + settings.per_cell)
        cell = [Frame(box=own[place], colour=COLOURS[4], faint=True) for place in shown]
        busy = [Frame(box=box, colour=COLOURS[1]) for box, wanted in zip(own, bold, strict=True) if wanted]
        real = batches.boxes[0][batches.labels[0] >= 0].tolist()
        frames.append([*cell, *busy, *(Frame(box=box, dashed=True) for box in real)])
        titles.append(f"{grid} x {grid} cells, {count} anchors\n{len(busy)} answer for an object")
        first += count
    pictures = [batches.pictures.images[0]] * len(frames)
    return Figure(
        name="anchors", draw=lambda figure: boxes_figures.box_grid(figure, pictures, frames, titles=titles)
    )


def _shown(
    name: str, batches: BoxBatches, rows: Sequence[Mapping[str, Any]], chosen: list[int], subject: Subject
) -> Figure:
    from models.vision import boxes_figures

    pictures = [batches.pictures.images[place] for place in chosen]
    frames = [_frames(rows[place], subject) for place in chosen]
    titles = [f"{rows[place]['missed']} missed, {rows[place]['wrong']} wrong" for place in chosen]
    return Figure(
        name=name, draw=lambda figure: boxes_figures.box_grid(figure, pictures, frames, titles=titles)
    )


def _frames(row: Mapping[str, Any], subject: Subject) -> list[Frame]:
    """Truth in white and dashed, answers in colours."""
    from models.vision.boxes_figures import Frame, colour_of

    sides = np.array([row["width"], row["height"]] * 2)
    truth = [
        Frame(box=(np.array(box) / sides).tolist(), text="" if not out else "ignored", dashed=True)
        for box, out in zip(row["true_boxes"], row["true_ignored"], strict=True)
    ]
    answered = zip(row["boxes"], row["scores"], row["names"], strict=True)
    return truth + [
        Frame(
            box=(np.array(box) / sides).tolist(), text=f"{kind} {score:.2f}",
            colour=colour_of(kind, subject.facts["classes"]),
        )
        for box, score, kind in answered
        if score >= subject.evaluation.drawn
    ]  # fmt: skip
