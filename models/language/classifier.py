"""One network that classifies texts: a language model's encoder, pooling over the document, and a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.language.encoder import Encoder, State, build_encoder, detached
from models.language.settings import EncoderSettings
from models.objective import Batch, Outcome, Stateless, Update


@dataclass(frozen=True, slots=True)
class Read:
    """What is left of documents once they are read."""

    pooled: Tensor
    """(N, 3 * width): the last vector, the mean and the maximum over the pooled tokens."""
    activation: Tensor
    """Scalar: mean square of the pooled vectors."""
    change: Tensor
    """Scalar: mean square of the difference between neighbouring pooled vectors."""


class TextClassifier(nn.Module):
    """Codes (N, T), `pad` after each document's end, to logits (N, classes).

    A document is read in pieces of `piece` tokens. The state goes from piece to piece, the gradient does not
    (truncated back-propagation through time); the last `pooled` tokens of each document are pooled, and no
    gradient is kept of what lies before. Pooling by last, mean and maximum: Howard and Ruder 2018,
    arXiv:1801.06146, section 3.3.
    """

    def __init__(self, encoder: Encoder, head: nn.Sequential, *, pad: int, piece: int, pooled: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.pad, self.piece, self.pooled = pad, piece, pooled

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.head(self.read(codes).pooled)
        return logits

    def read(self, codes: Tensor) -> Read:
        """The documents, piece by piece, each as long as it lasts."""
        lengths = (codes != self.pad).sum(1)
        order = lengths.argsort(descending=True, stable=True)
        pool = Pool.empty(len(codes), self.encoder.width, like=self.encoder.embedding.weight)
        state: State | None = None
        for start in range(0, int(lengths.max()), self.piece):
            rows = int((lengths > start).sum())  # the longest come first, so those that go on are the first
            chosen, ends = order[:rows], lengths[order[:rows]]
            piece = codes[chosen, start : min(start + self.piece, int(ends[0]))]
            places = torch.arange(start, start + piece.shape[1], device=codes.device)
            wanted = (places < ends[:, None]) & (places >= ends[:, None] - self.pooled)
            held = None if state is None else [tuple(each[:rows] for each in layer) for layer in state]
            with torch.set_grad_enabled(torch.is_grad_enabled() and bool(wanted.any())):
                vectors, _, after = self.encoder(piece, held)
            state = detached(after)
            pool.add(vectors, wanted, last=places == ends[:, None] - 1)
        return pool.done(order.argsort())

    def parameter_groups(self) -> list[list[nn.Module]]:
        """The embedding, every recurrent layer, the head (fastai's groups)."""
        return [*self.encoder.parameter_groups(), [self.head]]


class Pool:
    """Last vector, sum and maximum over what was seen so far of documents in order of length."""

    def __init__(self, last: Tensor, total: Tensor, peak: Tensor, count: Tensor) -> None:
        self.last, self.total, self.peak, self.count = last, total, peak, count
        self.squares = self.changes = last.new_zeros(())
        self.seen = self.pairs = 0

    @classmethod
    def empty(cls, documents: int, width: int, *, like: Tensor) -> Pool:
        """Of nothing."""
        zeros = like.new_zeros(documents, width)
        return cls(zeros, zeros, torch.full_like(zeros, -torch.inf), like.new_zeros(documents, 1))

    def add(self, vectors: Tensor, wanted: Tensor, *, last: Tensor) -> None:
        """Vectors (n, T, width) of the first n documents; which count (n, T), and which is the last."""
        rows = len(vectors)
        vectors = vectors.float()
        kept = vectors * wanted[..., None]
        highest = vectors.masked_fill(~wanted[..., None], -torch.inf).amax(1)
        self.last = _first(self.last, self.last[:rows] + (vectors * last[..., None]).sum(1))
        self.total = _first(self.total, self.total[:rows] + kept.sum(1))
        self.peak = _first(self.peak, torch.maximum(self.peak[:rows], highest))
        self.count = _first(self.count, self.count[:rows] + wanted.sum(1, keepdim=True))
        both = wanted[:, 1:] & wanted[:, :-1]
        self.squares = self.squares + kept.pow(2).sum()
        self.changes = self.changes + ((vectors[:, 1:] - vectors[:, :-1]) * both[..., None]).pow(2).sum()
        self.seen += int(wanted.sum()) * vectors.shape[2]
        self.pairs += int(both.sum()) * vectors.shape[2]

    def done(self, places: Tensor) -> Read:
        """The documents in the order `places`."""
        pooled = torch.cat([self.last, self.total / self.count, self.peak], dim=1)
        return Read(pooled[places], self.squares / max(self.seen, 1), self.changes / max(self.pairs, 1))


class WholeDocuments(nn.Module):
    """The classifier as a program: codes (N, T) to probabilities (N, classes), read in one go."""

    def __init__(self, network: TextClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, codes: Tensor) -> Tensor:
        """The same numbers as piece by piece: where gradients stop makes no difference here."""
        network = self.network
        inside = codes != network.pad
        vectors, _, _ = network.encoder(codes)
        lengths = inside.sum(1, keepdim=True)
        places = inside.long().cumsum(1)  # 1 for the first token
        wanted = inside & (places > lengths - network.pooled)
        last = inside & (places == lengths)
        kept = (vectors * wanted[..., None]).sum(1) / wanted.sum(1, keepdim=True)
        peak = vectors.masked_fill(~wanted[..., None], -torch.inf).amax(1)
        pooled = torch.cat([(vectors * last[..., None]).sum(1), kept, peak], dim=1)
        return torch.softmax(network.head(pooled), dim=1)


class TextClassification(Stateless):
    """Batches (codes, targets): cross-entropy, and while training AWD-LSTM's two regularisers.

    activation, change: factors of the mean square of the encoder's vectors, and of their differences from
    token to token (AR and TAR of Merity and others 2017, arXiv:1708.01009; fastai: 2 and 1).
    """

    def __init__(self, network: TextClassifier, *, activation: float = 0.0, change: float = 0.0) -> None:
        self.network, self.activation, self.change = network, activation, change

    def trainable(self) -> Mapping[str, nn.Module]:
        """The network."""
        return {"network": self.network}

    def updates(self, batch: Batch) -> Iterator[Update]:
        """One step per batch."""
        codes, targets = batch
        read = self.network.read(codes)
        loss = nn.functional.cross_entropy(self.network.head(read.pooled).float(), targets)
        loss = loss + self.activation * read.activation + self.change * read.change
        yield Update("network", loss, len(codes))

    def judge(self, batch: Batch) -> Outcome:
        """Cross-entropy alone, and the logits."""
        codes, targets = batch
        logits = self.network(codes).float()
        return Outcome(nn.functional.cross_entropy(logits, targets), len(codes), logits, targets)


def build_text_classifier(
    settings: EncoderSettings,
    *,
    vocabulary: int,
    classes: int,
    pad: int,
    hidden: Sequence[int] = (50,),
    dropout: float = 0.1,
    piece: int = 72,
    pooled: int = 1400,
) -> TextClassifier:
    """A classifier with random weights from torch's generator. ValueError for fewer than two classes.

    hidden: widths of the head's layers. dropout: before each of them but the first, where the encoder's own
      `output` stands (course: 0.1).
    """
    if classes < 2:
        raise ValueError(f"a classifier needs at least two classes, not {classes}")
    encoder = build_encoder(settings, vocabulary)
    widths = [3 * encoder.width, *hidden, classes]
    shares = [settings.drops().output, *([dropout] * len(hidden))]
    layers: list[nn.Module] = []
    for place, share in enumerate(shares):
        bias = place == len(hidden)  # where no batch norm follows
        layers += [nn.BatchNorm1d(widths[place]), nn.Dropout(share)]
        layers += [nn.Linear(widths[place], widths[place + 1], bias=bias)]
        if place < len(hidden):
            layers += [nn.ReLU()]
    return TextClassifier(encoder, nn.Sequential(*layers), pad=pad, piece=piece, pooled=pooled)


def _first(whole: Tensor, rows: Tensor) -> Tensor:
    """`whole` with its first rows replaced."""
    return rows if len(rows) == len(whole) else torch.cat([rows, whole[len(rows) :]])
