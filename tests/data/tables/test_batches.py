"""Batches are index slices: every row once an epoch, the same for the same seed and epoch."""

import torch

from data.tables.batches import TableBatches


def batches(count: int = 103, *, training: bool = True, seed: int = 1) -> TableBatches:
    rows = torch.arange(count)
    return TableBatches(
        rows[:, None], rows[:, None].float(), rows, batch_size=10, training=training, seed=seed
    )


def test_an_epoch_holds_every_row_once_in_an_order_of_its_own() -> None:
    seen = [torch.cat([targets for _, _, targets in batches().epoch(number)]) for number in (0, 1)]
    for epoch in seen:
        assert sorted(epoch.tolist()) == list(range(103))
    assert not torch.equal(*seen)
    assert torch.equal(seen[0], torch.cat([each[2] for each in batches().epoch(0)]))


def test_an_epoch_goes_on_from_any_step_and_leaves_torch_alone() -> None:
    state = torch.get_rng_state()
    whole = [targets.tolist() for _, _, targets in batches().epoch(3)]
    assert [targets.tolist() for _, _, targets in batches().epoch(3, start=4)] == whole[4:]
    assert torch.equal(state, torch.get_rng_state())


def test_a_single_row_is_left_out_of_training_only() -> None:
    assert len(batches(101)) == 10
    assert len(batches(101, training=False)) == 11
    assert [each[2].tolist() for each in batches(21, training=False).epoch(0)][-1] == [20]
