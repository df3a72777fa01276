"""Whole documents side by side: similar lengths, little padding, the same order for the same seed."""

import numpy as np
import pytest

from data.text.batches import DocumentBatches, pad_documents, pad_place


def made(*, training: bool, count: int = 103, batch_size: int = 8, seed: int = 1) -> DocumentBatches:
    """Documents 0, 1, 2, ... of 1 to 60 tokens, each token the document's own number plus 100."""
    lengths = np.random.default_rng(0).integers(1, 61, count)
    codes = np.repeat(np.arange(count) + 100, lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return DocumentBatches(
        codes, offsets, np.arange(count), item_ids=[str(number) for number in range(count)],
        batch_size=batch_size, training=training, pad=1, seed=seed,
    )  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
def test_every_document_comes_once_with_its_target(training: bool) -> None:
    batches = made(training=training)
    seen = []
    for codes, targets in batches.epoch(0):
        for row, target in zip(codes, targets.tolist(), strict=True):
            inside = row[row != 1]
            assert len(inside) == batches.lengths[target]
            assert set(inside.tolist()) == {target + 100}
            assert (row[len(inside) :] == 1).all(), "padding stands at the end"
            seen.append(target)
    assert sorted(seen) == list(range(103))
    assert len(list(batches.epoch(0))) == len(batches) == 13


def test_the_longest_document_comes_first() -> None:
    batches = made(training=True)
    for number in range(3):
        first, _ = next(iter(batches.epoch(number)))
        assert first.shape[1] == batches.lengths.max()


def test_little_is_padding() -> None:
    batches = made(training=True, count=400)
    held = sum(codes.numel() for codes, _ in batches.epoch(0))
    assert batches.lengths.sum() / held > 0.9


def test_order_depends_on_seed_and_epoch_alone() -> None:
    batches, again, other = made(training=True), made(training=True), made(training=True, seed=2)
    order = [chosen.tolist() for chosen in batches.order(3)]
    assert [chosen.tolist() for chosen in again.order(3)] == order
    assert [chosen.tolist() for chosen in batches.order(4)] != order
    assert [chosen.tolist() for chosen in other.order(3)] != order


def test_an_epoch_can_be_entered_anywhere() -> None:
    batches = made(training=True)
    whole = [targets.tolist() for _, targets in batches.epoch(5)]
    assert [targets.tolist() for _, targets in batches.epoch(5, start=4)] == whole[4:]


def test_one_document_alone_is_left_out_of_training_but_never_of_judging() -> None:
    assert sum(len(targets) for _, targets in made(training=True, count=17).epoch(0)) == 16
    assert sum(len(targets) for _, targets in made(training=False, count=17).epoch(0)) == 17


def test_padding_has_a_place_in_the_vocabulary() -> None:
    assert pad_documents([np.array([5]), np.array([6, 7])], pad=1).tolist() == [[5, 1], [6, 7]]
    assert pad_place(["a", "xxpad"]) == 1
    with pytest.raises(ValueError, match="xxpad"):
        pad_place(["a"])
