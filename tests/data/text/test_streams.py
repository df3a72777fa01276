"""One text in parallel streams: every token once, in order, and the same for the same seed."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch

from data.text.streams import NOTHING, Streams


def streams(tokens: int = 100, **options: int | bool) -> Streams:
    """A text of numbers, each the place where it stands, in three documents."""
    offsets = np.array([0, tokens // 4, tokens // 2, tokens])
    return Streams(np.arange(tokens), offsets, **{"streams": 4, "length": 7, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "count", "length", "vary"), list(product((2, 3, 57, 400), (1, 4, 64), (1, 8), (False, True)))
)
def test_every_token_but_the_first_is_a_target_once(tokens: int, count: int, length: int, vary: bool) -> None:
    text = streams(tokens, streams=count, length=length, vary=vary)
    batches = list(text.epoch(1))
    assert len(batches) == len(text)
    assert all(codes.shape[1] > 0 for codes, _ in batches)
    targets = torch.cat([each for _, batch in batches for each in batch])
    assert sorted(targets[targets != NOTHING].tolist()) == list(range(1, tokens))


def test_a_row_goes_on_where_it_ended() -> None:
    for (codes, targets), (after, _) in pairwise(streams().epoch(0)):
        whole = targets[:, -1] != NOTHING
        assert torch.equal(targets[whole, -1], after[whole, 0])
        assert torch.equal(codes[:, 1:][whole], targets[:, :-1][whole])


def test_continuing_gives_the_batches_that_were_left() -> None:
    text = streams(vary=True, shuffle=True, seed=5)
    whole = list(text.epoch(3))
    for one, other in zip(whole[2:], text.epoch(3, start=2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_epochs_differ_in_cuts_and_order_and_seeds_repeat_them() -> None:
    lengths = [codes.shape[1] for codes, _ in streams(2000, vary=True).epoch(0)]
    assert lengths != [codes.shape[1] for codes, _ in streams(2000, vary=True).epoch(1)]
    assert lengths == [codes.shape[1] for codes, _ in streams(2000, vary=True).epoch(0)]
    assert np.mean(lengths) == pytest.approx(7, rel=0.05)

    def first(epoch: int, **options: int) -> int:
        return int(next(iter(streams(shuffle=True, **options).epoch(epoch)))[0][0, 0])

    assert {first(epoch) for epoch in range(20)} == {0, 25, 50}
    assert [first(epoch) for epoch in range(9)] == [first(epoch) for epoch in range(9)]
    assert [first(epoch, seed=1) for epoch in range(9)] != [first(epoch, seed=2) for epoch in range(9)]


def test_shuffled_documents_stay_whole() -> None:
    codes = torch.cat([batch for batch, _ in streams(streams=1, shuffle=True, seed=3).epoch(4)], dim=1)[0]
    for before, after in pairwise(codes.tolist()):
        assert after == before + 1 or (before in (24, 49, 99) and after in (0, 25, 50))


def test_a_text_of_one_token_is_no_text() -> None:
    with pytest.raises(ValueError, match="a text of 1 tokens"):
        streams(1)
