"""Boxes that go through augmentation with their images, in batches that any step can be made again from."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.examples import Items
from data.images.augment import homographies, warp
from data.images.boxes import clean_boxes, clean_largest
from data.images.boxes_batches import IGNORED, PADDING, BoxBatches, object_classes, open_boxes, warp_boxes
from data.images.settings import Augmentation
from data.shards import ShardWriter
from tests import boxed
from tests.jobs import raw_of, tar_of

COUNT = 12


def written(folder: Path, *, largest: bool = False) -> Items:
    """Cleaned examples of which every fourth is held out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data.images.boxes import BoxCleaning, box_schema

    boxed.write_voc(folder / "own", count=COUNT)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}
    raw = raw_of(folder / "download", {"x.tgz": tar_of(files)})
    items = Items(folder / "clean", folder / "split")
    for path in (items.clean, items.split):
        path.mkdir()
    rows = [dict(row) for row in (clean_largest if largest else clean_boxes)(raw, BoxCleaning())]  # type: ignore[arg-type]
    with ShardWriter(items.clean, box_schema()) as shards:
        shards.write(pa.RecordBatch.from_pylist(rows, schema=box_schema()))
    parts = ["valid" if number % 4 == 3 else "train" for number in range(len(rows))]
    table = pa.table({"item_id": [row["item_id"] for row in rows], "part": parts})
    pq.write_table(table, items.split / "split.parquet")
    return items


def opened(
    items: Items, folder: Path, part: str = "train", *, largest: bool = False, **options: object
) -> BoxBatches:
    settings: dict[str, object] = {"size": 32, "batch_size": 4, "cache": folder / "cache", "seed": 5}
    return open_boxes(items, part, vocabulary=boxed.KINDS, only_largest=largest, **{**settings, **options})  # type: ignore[arg-type]


def test_an_unmoved_box_stays_where_it_is() -> None:
    boxes = torch.tensor([[[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0]]])
    moved, there = warp_boxes(boxes, torch.eye(3).expand(1, 3, 3))
    torch.testing.assert_close(moved, boxes)
    assert there.all()


@pytest.mark.parametrize("seed", range(4))
def test_a_box_follows_the_pixels_of_its_object(seed: int) -> None:
    """A bright rectangle on black: after any augmentation the box is the hull of what is bright."""
    image = torch.zeros(1, 1, 200, 200)
    image[..., 60:120, 80:150] = 1
    boxes = torch.tensor([[[80, 60, 150, 120]]]) / 200
    augmentation = Augmentation(flip="dihedral", rotate=30.0, zoom=1.3, warp=0.2, lighting=0.0, p_affine=1.0)
    generator = torch.Generator().manual_seed(seed)
    geometry = homographies(augmentation, 1, size=200, generator=generator)
    bright = warp(image, geometry, 200, padding="zeros")[0, 0] > 0.5
    rows, columns = torch.nonzero(bright, as_tuple=True)
    seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 200
    moved, _ = warp_boxes(boxes, geometry)
    torch.testing.assert_close(moved[0, 0], seen, atol=0.015, rtol=0)


def test_an_object_that_is_moved_out_is_left_out() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.2, 0.2], [0.5, 0.5, 0.7, 0.7]]])
    zoom = torch.eye(3)[None].clone()
    zoom[:, 0, 0] = zoom[:, 1, 1] = 0.5
    zoom[:, :2, 2] = 0.5  # the right lower quarter fills the image
    moved, there = warp_boxes(boxes, zoom)
    assert there.tolist() == [[False, True]]
    torch.testing.assert_close(moved[0, 1], torch.tensor([0.0, 0.0, 0.4, 0.4]))


def test_batches_hold_all_objects_in_shares_of_the_image(tmp_path: Path) -> None:
    items = written(tmp_path)
    (images, (boxes, labels)), *_ = opened(items, tmp_path, "valid").epoch(0)
    assert images.shape == (3, 3, 32, 32)
    assert boxes.shape == (3, 2, 4)
    _, marked = boxed.draw(3)
    sides = torch.tensor([60.0, 48.0] * 2)
    torch.testing.assert_close(boxes[0], torch.tensor([box for _, box in marked]) / sides)
    assert labels[0].tolist() == [boxed.KINDS.index(kind) for kind, _ in marked]


def test_padding_fills_up_where_an_image_has_fewer_objects(tmp_path: Path) -> None:
    items = written(tmp_path)
    labels = torch.cat([labels for _, (_, labels) in opened(items, tmp_path).epoch(0)])
    assert sorted((labels == PADDING).sum(1).tolist()) == [0] * 3 + [1] * 5, "a ninth is left out"


def test_only_the_largest_object(tmp_path: Path) -> None:
    items = written(tmp_path, largest=True)
    (_, (boxes, labels)), *_ = opened(items, tmp_path, "valid", largest=True).epoch(0)
    assert boxes.shape == (3, 1, 4)
    kind, _ = boxed.draw(3)[1][0]
    assert labels[0].tolist() == [boxed.KINDS.index(kind)]


def test_a_class_that_training_never_saw_and_an_ignored_object_have_numbers_of_their_own(
    tmp_path: Path,
) -> None:
    items = written(tmp_path)
    batches = open_boxes(
        items,
        "valid",
        vocabulary=["ball"],
        only_largest=False,
        size=32,
        batch_size=4,
        cache=tmp_path / "cache",
    )
    assert set(batches.labels.unique().tolist()) <= {PADDING, 0, 1}
    assert IGNORED == -2
    assert object_classes(items, ["train", "valid"]).keys() == {"ball", "brick"}


def test_any_batch_can_be_made_again(tmp_path: Path) -> None:
    batches = opened(written(tmp_path), tmp_path, augmentation=Augmentation())
    whole = list(batches.epoch(1))
    (last,) = list(batches.epoch(1, start=len(batches) - 1))
    for one, other in zip(flat(whole[-1]), flat(last), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(whole[0][0], next(iter(batches.epoch(2)))[0])


def flat(batch: tuple[Tensor, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    return batch[0], *batch[1]
