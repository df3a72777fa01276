"""One long text in parallel streams, a stretch of each at a time: batches whose state can be carried on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Codes = npt.NDArray[np.int64]

NOTHING = -100
"""Target where there is nothing to predict: behind the end of the last stream."""


class Streams:
    """Documents one after the other as one text, cut into equal streams that are read side by side.

    Batch k holds stretch k of every stream: codes (N, T) int64 and, as targets, the codes that follow each.
    So row n of a batch goes on where row n of the batch before it ended, and every token of the text but the
    first is a target exactly once.

    codes, offsets: the documents' tokens, and where each document begins and the last one ends.
    streams: N; more streams go faster, and each begins without knowing what came before it.
    length: T, the tokens through which errors flow back (`bptt`); the last stretch may be shorter.
    vary: draw the length of every stretch around `length`, as AWD-LSTM does, so that no token stands at the
      end of a stretch in every epoch. The number of stretches stays the same.
    shuffle: the documents in another order in every epoch.
    Both are drawn from `seed` and the epoch's number.
    """

    def __init__(
        self, codes: Codes, offsets: npt.NDArray[np.int64], *, streams: int, length: int, vary: bool = False,
        shuffle: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        if len(codes) < 2:
            raise ValueError(f"a text of {len(codes)} tokens: a language model needs two at least")
        self.codes, self.offsets = codes, offsets
        self.streams = min(streams, len(codes) - 1)
        self.length, self.vary, self.shuffle, self.seed = length, vary, shuffle, seed
        self.reach = -(-(len(codes) - 1) // self.streams)
        """Tokens of a stream."""

    def __len__(self) -> int:
        return -(-self.reach // self.length)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The stretches of one epoch (counted from 0), without the first `start`."""
        import torch

        random = np.random.default_rng([self.seed, number])
        text = self._shuffled(random) if self.shuffle else self.codes
        cuts = self._cuts(random)
        read, follow = (self._rows(text[:-1], 0), self._rows(text[1:], NOTHING))
        for begin, end in zip(cuts[start:-1], cuts[start + 1 :], strict=True):
            here = np.s_[:, begin:end]
            yield torch.from_numpy(read[here].copy()), torch.from_numpy(follow[here].copy())

    def _rows(self, text: Codes, filling: int) -> Codes:
        """(streams, reach), filled up behind the text's end."""
        rows = np.full(self.streams * self.reach, filling, dtype=np.int64)
        rows[: len(text)] = text
        return rows.reshape(self.streams, self.reach)

    def _shuffled(self, random: np.random.Generator) -> Codes:
        """The text with its documents in a new order."""
        order = random.permutation(len(self.offsets) - 1)
        lengths = np.diff(self.offsets)[order]
        ends = np.cumsum(lengths)
        shift = np.repeat(self.offsets[:-1][order] - (ends - lengths), lengths)
        shuffled: Codes = self.codes[np.arange(len(self.codes)) + shift]
        return shuffled

    def _cuts(self, random: np.random.Generator) -> list[int]:
        """Where stretches begin, and where the last one ends."""
        count = len(self)
        if not self.vary or count < 2:
            return [*range(0, self.reach, self.length), self.reach]
        # One stretch in twenty of half the length, the others near the length (Merity 2018: 70, deviation 5).
        wanted = np.where(random.random(count) < 0.05, 0.5, 1.0) * (1 + random.normal(0, 0.07, count))
        places = np.cumsum(np.clip(wanted, 0.25, 1.75))
        inner = np.round(places[:-1] / places[-1] * self.reach).astype(int)
        # never an empty stretch, however short the streams are
        inner = np.clip(np.maximum.accumulate(inner - np.arange(count - 1)) + np.arange(count - 1), 1, None)
        inner = np.minimum(inner, self.reach - np.arange(count - 1, 0, -1))
        return [0, *(int(each) for each in inner), self.reach]


def streams_of(tokens: Any, codes: Codes, **options: Any) -> Streams:
    """The documents of `data.text.tokens.Tokens` with their tokens as codes of a vocabulary."""
    return Streams(codes, tokens.offsets - tokens.offsets[0], **options)
