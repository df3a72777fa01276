"""Batches of whole documents: of similar length side by side, padded at their ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.text.rules import PAD

Rows = npt.NDArray[np.int64]

SPREAD = 50
"""Batches' worth of documents that are sorted together while training (fastai's SortishSampler)."""


class DocumentBatches:
    """Batches (codes, targets): int64 (N, T) with the documents' tokens from the left and `pad` after their
    ends, the longest first; and int64 (N,).

    While training the documents are drawn by (seed, epoch) and sorted by length within runs of 50 batches, so
    that little is padding; the batch with the longest document comes first, so that a lack of memory shows at
    once. Otherwise all are sorted by length; `order` says which is which.
    """

    def __init__(
        self,
        codes: Rows,
        offsets: Rows,
        targets: Rows,
        *,
        item_ids: Sequence[str],
        batch_size: int,
        training: bool,
        pad: int,
        seed: int = 0,
    ) -> None:
        assert len(offsets) == len(targets) + 1 == len(item_ids) + 1
        self.codes, self.offsets, self.targets = codes, offsets, targets
        self.item_ids = tuple(item_ids)
        self.batch_size, self.training, self.pad, self.seed = batch_size, training, pad, seed
        self.lengths: Rows = np.diff(offsets)
        full, rest = divmod(len(targets), batch_size)
        # One document alone has no variance for the head's batch norm: such a rest is left out of training.
        self.steps = full + (1 if rest and not (training and full and rest == 1) else 0)

    def __len__(self) -> int:
        return self.steps

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` from step `start` on; those before it cost nothing."""
        for chosen in self.order(number)[start:]:
            yield self.batch(chosen)

    def order(self, number: int) -> list[Rows]:
        """The indices of the documents of each batch of epoch `number`."""
        if not self.training:
            ranked = np.argsort(-self.lengths, kind="stable")
            return [ranked[at : at + self.batch_size] for at in range(0, len(ranked), self.batch_size)]
        drawn = np.random.default_rng([self.seed, number])
        shuffled = drawn.permutation(len(self.targets))[: self.steps * self.batch_size]
        run = SPREAD * self.batch_size
        ranked = np.concatenate(
            [
                part[np.argsort(-self.lengths[part], kind="stable")]
                for part in (shuffled[at : at + run] for at in range(0, len(shuffled), run))
            ]
        )
        batches = [ranked[at : at + self.batch_size] for at in range(0, len(ranked), self.batch_size)]
        first = max(range(len(batches)), key=lambda place: self.lengths[batches[place]].max())
        others = [place for place in drawn.permutation(len(batches)).tolist() if place != first]
        return [batches[place] for place in (first, *others)]

    def batch(self, chosen: Rows) -> tuple[Tensor, Tensor]:
        """The documents `chosen`, padded to the longest."""
        documents = [self.codes[self.offsets[at] : self.offsets[at + 1]] for at in chosen.tolist()]
        return pad_documents(documents, pad=self.pad), torch.from_numpy(self.targets[chosen])


def pad_documents(documents: Sequence[Rows], *, pad: int) -> Tensor:
    """Codes of some documents -> int64 (N, T) with `pad` after their ends."""
    longest = max(map(len, documents))
    padded = np.full((len(documents), longest), pad, dtype=np.int64)
    for row, document in enumerate(documents):
        padded[row, : len(document)] = document
    return torch.from_numpy(padded)


def pad_place(vocabulary: Sequence[str]) -> int:
    """The code of `xxpad`. ValueError where the vocabulary has none."""
    if PAD not in vocabulary:
        raise ValueError(f"the vocabulary has no {PAD!r}, which fills batches of documents")
    return list(vocabulary).index(PAD)
