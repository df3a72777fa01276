"""Made pictures: their features beside those of held-out ones, and all that is derived from them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.recipe import Listing, Subject, Trained

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from data.examples import Items
    from data.images.batches import ImageBatches
    from data.images.cache import Pixels
    from models.generative.frechet import Judge

PARTS = ("valid", "test")

REAL, TRAINED_ON, MADE, UNTRAINED = "real", "training", "made", "untrained"
"""Kinds of rows: held-out pictures, as many training ones, made ones, and made ones before training."""

PREDICTIONS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),  # of a made picture: its kind and number
        pa.field("part", pa.string(), nullable=False),  # the held-out part that it is compared with
        pa.field("kind", pa.string(), nullable=False),
        pa.field("features", pa.list_(pa.float32()), nullable=False),  # of the judge
        pa.field("image", pa.binary()),  # PNG of a made picture; null for the others
    ]
)

COMPARED = 200
"""Made pictures, and as many held-out ones, whose nearest training pictures are looked for."""

LOOKED_AT = 20_000
"""Training pictures among which the nearest is looked for."""

CHUNK = 1000
"""Training pictures that are compared at once: bounds memory."""

METRICS = ("frechet", "frechet_untrained", "frechet_ratio", "frechet_training")

LIMITS = (
    "It makes pictures of the kind that it was trained on, with their faults and bias, and no other kind.",
    "The Fréchet distance depends on the network that judges and on the number of pictures: compare it only"
    " between runs with the same judge, data and number, and never with distances that Inception judged.",
    "A low distance does not rule out copies of training pictures, nor kinds of pictures that are never made:"
    " look at `figures/nearest.png` and at the samples.",
    "A made picture shows nothing that ever was; label it as made wherever it is shown.",
)
"""For the card."""


def judge_of(trained: Trained | None) -> Judge:
    """The network whose features are compared. ValueError where the entry names none, or no classifier."""
    from models.generative.frechet import build_judge

    if trained is None:
        raise ValueError(
            "judge is sources/none, but pictures made from noise have no labels to be judged by: name a"
            " trained image classifier in the entry, such as `judge: artifacts/APP/fine_tune`; its features"
            " of made and of held-out pictures are compared"
        )
    return build_judge(trained.state, trained.facts, trained.settings)


def open_part(
    items: Items, part: str, settings: Any, cache: Path, *, batch_size: int | None = None
) -> ImageBatches:
    """Batches of one part as the settings say; the training part is shuffled, and augmented where asked."""
    from data.images.batches import open_images
    from models.hardware import device

    training = part == "train"
    return open_images(
        items,
        [part],
        vocabulary=(),
        size=settings.size,
        batch_size=batch_size or settings.batch_size,
        training=training,
        channels=settings.channels,
        resize=settings.resize,
        cache=cache,
        augmentation=settings.augmentation if training else None,
        seed=settings.seed,
        margin=1.0,
        device=device(),
    )


def predict(subject: Subject) -> pa.Table:
    """Rows of PREDICTIONS: for each held-out part as many of each kind, at most `evaluation.samples`."""
    judge = judge_of(subject.judge)
    count = {part: subject.items.table([part], ["item_id"]).num_rows for part in PARTS}
    return pa.concat_tables(
        [
            PREDICTIONS.empty_table(),
            *(_compared(subject, judge, part) for part in PARTS if count[part] > 1),
        ]
    )


def _compared(subject: Subject, judge: Judge, part: str) -> pa.Table:
    """All kinds of rows that are compared with one part."""
    from models.generative.dcgan import draw_noise, make_pictures

    settings, evaluation = subject.settings, subject.evaluation
    ids, real = pictures_of(subject, part, evaluation.samples)
    noise = draw_noise(len(ids), settings.network.noise, seed=evaluation.seed)
    made = make_pictures(subject.network, noise)
    numbered = [f"{number:06}" for number in range(len(ids))]
    seen_ids, seen = pictures_of(subject, "train", len(ids))
    return pa.concat_tables(
        [
            _rows(part, REAL, ids, _features(judge, real)),
            _rows(part, TRAINED_ON, seen_ids, _features(judge, seen)),
            _rows(part, MADE, numbered, _features(judge, made), [_png(each) for each in as_bytes(made)]),
            _rows(part, UNTRAINED, numbered, _features(judge, make_pictures(_untrained(subject), noise))),
        ]
    )


def _rows(
    part: str,
    kind: str,
    ids: Sequence[str],
    features: NDArray[np.float32],
    images: Sequence[bytes] | None = None,
) -> pa.Table:
    named = list(ids) if kind in (REAL, TRAINED_ON) else [f"{kind}-{number}" for number in ids]
    columns = {
        "item_id": named,
        "part": [part] * len(named),
        "kind": [kind] * len(named),
        "features": list(features),
        "image": pa.nulls(len(named), pa.binary()) if images is None else pa.array(images, pa.binary()),
    }
    return pa.table(columns, schema=PREDICTIONS)


def _untrained(subject: Subject) -> nn.Module:
    """The network as it was before the first step."""
    from models.generative.dcgan import build_adversaries

    settings = subject.settings
    return build_adversaries(
        settings.network, settings.wasserstein, channels=settings.channels, size=settings.size,
        seed=settings.seed,
    ).eval()  # fmt: skip


def _features(judge: Judge, pictures: Tensor) -> NDArray[np.float32]:
    from models.generative.frechet import features_of

    features: NDArray[np.float32] = features_of(judge, pictures).numpy()
    return features


def plain_pixels(subject: Subject, part: str) -> Pixels:
    """The pixels of a part as they are, in the order of the items."""
    from data.images.cache import open_pixels

    settings = subject.settings
    return open_pixels(
        subject.items, [part], size=settings.size, channels=settings.channels, resize=settings.resize,
        folder=subject.cache,
    )  # fmt: skip


def _evenly(count: int, most: int) -> list[int]:
    """All of `count` places, or `most` of them at equal distances."""
    places: list[int] = np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()
    return places


def pictures_of(subject: Subject, part: str, most: int) -> tuple[list[str], Tensor]:
    """Item ids and pictures (N, C, size, size) in [0, 1] of a part, `most` at most."""
    pixels = plain_pixels(subject, part)
    chosen = _evenly(len(pixels), most)
    ids = subject.items.table([part], ["item_id"])["item_id"].to_pylist()
    return [ids[index] for index in chosen], as_floats(np.stack([pixels[index] for index in chosen]))


def as_floats(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W) in [0, 1]."""
    import torch

    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def as_bytes(pictures: Tensor) -> NDArray[np.uint8]:
    """float32 (N, C, H, W) in [0, 1] to uint8 (N, H, W, C)."""
    pixels: NDArray[np.uint8] = pictures.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(rows: pa.Table) -> NDArray[np.uint8]:
    """(N, H, W, C) of the made pictures among the rows."""
    from PIL import Image

    pictures = [np.asarray(Image.open(io.BytesIO(each))) for each in rows["image"].to_pylist()]
    return np.stack([each[..., None] if each.ndim == 2 else each for each in pictures])


def of_kind(rows: pa.Table, kind: str) -> pa.Table:
    """The rows of that kind."""
    return rows.filter(pc.equal(rows["kind"], kind))


def matrix(rows: pa.Table) -> NDArray[np.float32]:
    """(N, D) features."""
    width = len(rows["features"][0])
    return np.array(rows["features"].combine_chunks().flatten(), dtype=np.float32).reshape(-1, width)


def score(rows: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """Fréchet distances to the held-out pictures: of made ones, of those made before training, how many times
    smaller the first is than the second, and, as what could be reached, of as many training pictures."""
    import torch

    from models.generative.frechet import frechet_distance

    features = {
        kind: torch.from_numpy(matrix(of_kind(rows, kind))) for kind in (REAL, MADE, UNTRAINED, TRAINED_ON)
    }
    made, untrained, training = (
        frechet_distance(features[REAL], features[kind]) for kind in (MADE, UNTRAINED, TRAINED_ON)
    )
    ratio = untrained / max(made, 1e-12)
    return dict(zip(METRICS, (made, untrained, ratio, training), strict=True))


def tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """`copies`: how near made pictures are to training pictures, and held-out ones beside them."""
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    if not rows.num_rows:
        return
    made = decoded(of_kind(rows, MADE).slice(0, COMPARED))
    distances = {
        "made": nearest(subject, made)[0],
        "held out": nearest(subject, as_bytes(pictures_of(subject, "valid", len(made))[1]))[0],
    }
    yield Listing(
        name="copies",
        table=pa.table(
            {
                "pictures": list(distances),
                "count": [len(each) for each in distances.values()],
                "median": [float(np.median(each)) for each in distances.values()],
                "smallest": [float(each.min()) for each in distances.values()],
            }
        ),
        title="Copies of training pictures",
        text="Root mean squared difference of the pixels, in [0, 1], to the nearest training picture. Made"
        " pictures that are much nearer than held-out ones are copies.",
    )


def nearest(subject: Subject, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[int]]:
    """Distance (N,) of each picture to the nearest training picture, and the place of that one. Of more,
    `LOOKED_AT` evenly spaced training pictures are looked at."""
    import torch

    pixels = plain_pixels(subject, "train")
    chosen = _evenly(len(pixels), LOOKED_AT)
    wanted = as_floats(pictures).flatten(1)
    best = torch.full((len(pictures),), float("inf"))
    place = torch.zeros(len(pictures), dtype=torch.long)
    for start in range(0, len(chosen), CHUNK):
        some = chosen[start : start + CHUNK]
        known = as_floats(np.stack([pixels[index] for index in some])).flatten(1)
        found = torch.cdist(wanted, known).min(dim=1)
        closer = found.values < best
        best = torch.where(closer, found.values, best)
        place = torch.where(closer, torch.tensor(some)[found.indices], place)
    return (best / wanted.shape[1] ** 0.5).numpy(), place.tolist()


def review(predictions: pa.Table, evaluation: Any) -> pa.Table:
    """Nothing is labelled, so nothing can be corrected: the columns alone."""
    return pa.table({name: pa.array([], pa.string()) for name in ("item_id", "action", "label")})
