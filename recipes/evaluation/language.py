"""Judged language models: how surprising every token was, and all that is derived from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.recipe import Figure, Listing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from data.examples import Items
    from data.text.streams import Streams
    from data.text.tokens import Tokens
    from recipes.recipe import Subject

PARTS = ("valid", "test")

PREDICTIONS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),  # judged: all but the first of the whole part
        pa.field("correct", pa.int64(), nullable=False),  # of them thought likeliest of all
        pa.field("loss", pa.float64()),  # mean nats per judged token; null: none
        pa.field("losses", pa.list_(pa.float32()), nullable=False),  # of each token; null: not judged
    ]
)
"""One row per document."""

POSITIONS = 200
"""Places at the beginning of a document that are told apart by `loss_by_position`."""


def open_part(items: Items, part: str, settings: Any, cache: Path) -> Tokens | None:
    """The tokens of one part; None where nothing belongs to it."""
    from data.text.tokens import open_tokens

    if not items.table([part], ["item_id"]).num_rows:
        return None
    return open_tokens(items, [part], tokenizer=settings.tokenizer, cache=cache)


def open_streams(items: Items, part: str, vocabulary: Any, settings: Any, cache: Path) -> Streams | None:
    """One part as streams; the training part is read as the settings say, the others in order."""
    from data.text.streams import streams_of
    from data.text.tokens import numericalise

    tokens = open_part(items, part, settings, cache)
    if tokens is None:
        return None
    codes = numericalise(tokens, vocabulary)
    try:
        if part == "train":
            return streams_of(
                tokens, codes, streams=settings.streams, length=settings.length, vary=settings.vary_length,
                shuffle=settings.shuffle, seed=settings.seed,
            )  # fmt: skip
        return streams_of(tokens, codes, streams=settings.judged_streams, length=settings.length)
    except ValueError as error:
        raise ValueError(f"the {part} part has {error}") from None


def predict(subject: Subject) -> pa.Table:
    """One row of PREDICTIONS per document of the validation and test parts, in the order of the items.

    The parts are read as in training: the state is carried on through all documents of a stream.
    """
    tables = []
    for part in PARTS:
        tokens = open_part(subject.items, part, subject.settings, subject.cache)
        if tokens is None:
            continue
        streams = open_streams(
            subject.items, part, subject.facts["vocabulary"], subject.settings, subject.cache
        )
        assert streams is not None
        tables.append(_rows(part, tokens, *_judge(subject.network, streams)))
    return pa.concat_tables(tables) if tables else PREDICTIONS.empty_table()


def _judge(network: nn.Module, streams: Streams) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Loss of every token of the text (nan for the first), and whether it was thought likeliest."""
    import torch
    from torch.nn.functional import cross_entropy

    from models.hardware import device
    from models.language.model import LanguageModel

    assert isinstance(network, LanguageModel)
    here = device()
    network.to(here).eval()
    state, losses, hits = None, [], []
    with torch.no_grad():
        for codes, targets in streams.epoch(0):
            scores, _, _, state = network.run(codes.to(here), state)
            wanted = targets.to(here)
            losses.append(
                cross_entropy(scores.float().transpose(1, 2), wanted, reduction="none").cpu().numpy()
            )
            hits.append((scores.argmax(2) == wanted).cpu().numpy())
    network.cpu()
    count = len(streams.codes)
    loss = np.concatenate([[np.nan], np.concatenate(losses, axis=1).ravel()])[:count]
    hit = np.concatenate([[False], np.concatenate(hits, axis=1).ravel()])[:count]
    return loss.astype(np.float64), hit


def _rows(part: str, tokens: Tokens, loss: NDArray[np.float64], hit: NDArray[np.bool_]) -> pa.Table:
    offsets = tokens.offsets - tokens.offsets[0]
    judged = np.isfinite(loss)
    counts, sums, correct = (
        np.diff(np.concatenate([[0], np.cumsum(each)])[offsets])
        for each in (judged, np.where(judged, loss, 0.0), hit & judged)
    )
    known = counts > 0
    values = pa.array(loss.astype(np.float32), mask=~judged)
    columns = {
        "item_id": pa.array(tokens.item_ids),
        "part": pa.array([part] * len(tokens)),
        "tokens": pa.array(counts.astype(np.int64)),
        "correct": pa.array(correct.astype(np.int64)),
        "loss": pa.array(np.where(known, sums / np.maximum(counts, 1), 0.0), mask=~known),
        "losses": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values),
    }
    return pa.table(columns).cast(PREDICTIONS)


def score(predictions: pa.Table, facts: Mapping[str, Any]) -> dict[str, float]:
    """Cross-entropy (nats per token), accuracy of the likeliest token and perplexity, over all tokens."""
    tokens = np.array(predictions["tokens"], dtype=np.float64)
    if not tokens.sum():
        return {}
    losses = np.nan_to_num(np.array(predictions["loss"].to_pylist(), dtype=np.float64))
    loss = float((losses * tokens).sum() / tokens.sum())
    return {
        "loss": loss,
        "accuracy": float(pc.sum(predictions["correct"]).as_py() / tokens.sum()),
        "perplexity": math.exp(min(loss, 700.0)),
        "tokens": float(tokens.sum()),
    }


def tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """`tokens`: what each token of the vocabulary cost; `samples`: what the network makes up."""
    yield Listing(name="tokens", table=_costs(subject, predictions))
    made = _samples(subject)
    yield Listing(
        name="samples",
        title="Generated text",
        text="Drawn token by token, each by the chance that the network gives it.",
        table=pa.table(
            {
                "after": [prompt for prompt, _, _ in made],
                "temperature": [temperature for _, temperature, _ in made],
                "text": [text[:400] for _, _, text in made],
            }
        ),
    )


def _costs(subject: Subject, predictions: pa.Table) -> pa.Table:
    """Count, mean loss and share of the whole loss of every token of the validation part, dearest first."""
    vocabulary = subject.facts["vocabulary"]
    codes, losses = _tokens(subject, predictions)
    judged = np.isfinite(losses)
    counts = np.bincount(codes[judged], minlength=len(vocabulary))
    sums = np.bincount(codes[judged], weights=losses[judged], minlength=len(vocabulary))
    order = [int(each) for each in np.argsort(-sums, kind="stable") if counts[each]][:1000]
    return pa.table(
        {
            "token": pa.array([vocabulary[each] for each in order], pa.string()),
            "count": pa.array([int(counts[each]) for each in order], pa.int64()),
            "loss": pa.array([float(sums[each] / counts[each]) for each in order], pa.float64()),
            "share": pa.array([float(sums[each] / sums.sum()) for each in order], pa.float64()),
        }
    )


def _tokens(subject: Subject, predictions: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Codes and losses of the validation part's tokens, one document after the other."""
    from data.text.tokens import numericalise

    tokens = open_part(subject.items, "valid", subject.settings, subject.cache)
    if tokens is None:
        return np.zeros(0, np.int64), np.zeros(0)
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    losses = pc.list_flatten(rows["losses"]).combine_chunks().to_numpy(zero_copy_only=False)
    return numericalise(tokens, subject.facts["vocabulary"]), losses.astype(np.float64)


def review(predictions: pa.Table, evaluation: Any) -> pa.Table:
    """The documents that surprised most per token; a person fills in `action`."""
    rows = predictions.filter(pc.is_valid(predictions["loss"]))
    worst = rows.sort_by([("loss", "descending"), ("item_id", "ascending")]).slice(0, evaluation.candidates)
    return pa.table(
        {
            "item_id": worst["item_id"],
            "action": pa.array([""] * worst.num_rows, pa.string()),
            "label": pa.array([""] * worst.num_rows, pa.string()),
            "tokens": worst["tokens"],
            "loss": worst["loss"],
        }
    )


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A training batch as the network sees it, generated text, loss by position, what surprised most."""
    from models import figures
    from recipes.evaluation import passages

    yield _training_batch(subject)
    made = [
        (f"temperature {temperature:g}, after {prompt!r}", text)
        for prompt, temperature, text in _samples(subject)
    ]
    yield Figure(name="generated", draw=lambda figure: passages.plain(figure, made))
    rows = predictions.filter(pc.equal(predictions["part"], "valid"))
    if not rows.num_rows:
        return
    mean = _by_position(rows)
    yield Figure(
        name="loss_by_position",
        draw=lambda figure: figures.curve(
            figure, list(range(1, len(mean) + 1)), {"loss": mean.tolist()}, label="token of its document"
        ),
    )
    costs = _costs(subject, predictions).slice(0, 20).to_pylist()
    yield Figure(
        name="dearest_tokens",
        draw=lambda figure: figures.bars(
            figure,
            [f"{row['token']!r} ({row['count']})" for row in costs],
            [row["share"] for row in costs],
            label="share of the whole loss",
        ),
    )
    worst = _surprising(subject, rows)
    yield Figure(
        name="most_surprising",
        draw=lambda figure: passages.coloured(
            figure, worst, label="nats per token", limits=(0.0, 8.0), separator=_between(subject.settings)
        ),
    )


def _by_position(rows: pa.Table) -> NDArray[np.float64]:
    """Mean loss at each place of a document, as far as a tenth of the documents (at least one) reach."""
    sums, counts = np.zeros(POSITIONS), np.zeros(POSITIONS, dtype=np.int64)
    for losses in rows["losses"]:
        values = np.array(losses.as_py()[:POSITIONS], dtype=np.float64)
        sums[: len(values)] += np.nan_to_num(values)
        counts[: len(values)] += np.isfinite(values)
    reached = counts >= max(1, rows.num_rows // 10)
    far = int(np.argmin(reached)) if not reached.all() else POSITIONS
    if not reached[0] and reached.any():  # a single document: its first token was not judged
        far = int(np.flatnonzero(reached)[-1]) + 1
    found: NDArray[np.float64] = sums[:far] / np.maximum(counts[:far], 1)
    return found


def _surprising(subject: Subject, rows: pa.Table) -> list[tuple[str, list[str], list[float]]]:
    """The documents with the greatest mean loss: their first tokens, each with its loss."""
    tokens = open_part(subject.items, "valid", subject.settings, subject.cache)
    assert tokens is not None
    order = np.argsort(-np.nan_to_num(np.array(rows["loss"].to_pylist(), dtype=np.float64)), kind="stable")
    most = 400 if _between(subject.settings) == "" else 80
    found = []
    for place in (int(each) for each in order[: subject.evaluation.shown]):
        row = rows.slice(place, 1).to_pylist()[0]
        losses = [np.nan if each is None else each for each in row["losses"][:most]]
        title = f"{row['item_id']}: {row['loss'] or 0:.2f} nats per token"
        found.append((title, tokens.document(place)[:most], losses))
    return found


def _between(settings: Any) -> str:
    """What stands between drawn tokens."""
    return "" if settings.tokenizer.name == "characters" else " "


def _training_batch(subject: Subject) -> Figure:
    """The first stretch of some streams of the first epoch, as tokens."""
    from recipes.evaluation import passages

    vocabulary = subject.facts["vocabulary"]
    train = open_streams(subject.items, "train", vocabulary, subject.settings, subject.cache)
    assert train is not None
    codes, _ = next(iter(train.epoch(0)))
    shown = [
        (
            f"stream {row + 1} of {len(codes)}",
            _between(subject.settings).join(
                vocabulary[code].replace("\n", "¶") for code in codes[row].tolist()
            ),
        )
        for row in range(min(subject.evaluation.shown, len(codes)))
    ]
    return Figure(name="training_batch", draw=lambda figure: passages.plain(figure, shown))


def _samples(subject: Subject) -> list[tuple[str, float, str]]:
    """(prompt, temperature, text) at the settings' temperature, and carefully and freely beside it."""
    temperatures = list(dict.fromkeys((subject.settings.temperature, 0.5, 1.0)))
    prompt = _prompt(subject.settings, subject.facts)
    return [
        (
            _text(prompt, subject.settings),
            temperature,
            _generated(
                subject.network, prompt, subject.facts, subject.settings, temperature=temperature,
                tokens=subject.evaluation.tokens,
            ),
        )
        for temperature in temperatures
    ]  # fmt: skip


def sample(network: nn.Module, facts: Mapping[str, Any], settings: Any) -> Figure:
    """What the network makes up now, always after the same prompt and from the same draws."""
    from recipes.evaluation import passages

    prompt = _prompt(settings, facts)
    text = _generated(network, prompt, facts, settings, temperature=settings.temperature, tokens=200)
    title = f"temperature {settings.temperature:g}, after {_text(prompt, settings)!r}"
    return Figure(name="generated", draw=lambda figure: passages.plain(figure, [(title, text)]))


def _prompt(settings: Any, facts: Mapping[str, Any]) -> list[str]:
    """The tokens that samples go on from."""
    from data.text.rules import tokenise

    if not settings.prompt:
        return list(facts["opening"])
    return next(tokenise([settings.prompt], **settings.tokenizer.options()))


def _text(tokens: list[str], settings: Any) -> str:
    from data.text.joining import join

    return join(tokens, **settings.tokenizer.options())


def _generated(
    network: nn.Module, prompt: list[str], facts: Mapping[str, Any], settings: Any, *, temperature: float,
    tokens: int,
) -> str:  # fmt: skip
    from models.language.generation import generate
    from models.language.model import LanguageModel

    assert isinstance(network, LanguageModel)
    vocabulary = facts["vocabulary"]
    place = {token: code for code, token in enumerate(vocabulary)}
    codes = [place.get(token, 0) for token in prompt] or [0]
    never = [place[token] for token in ("xxunk", "xxpad") if token in place]
    found = generate(network, codes, tokens=tokens, temperature=temperature, never=never, seed=settings.seed)
    return _text([vocabulary[code] for code in found], settings)
