"""Classified texts: predictions made once, a bag of words beside them, and the share that each token had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recipes.evaluation import classification
from recipes.evaluation.classification import PARTS, PREDICTIONS, confusion_matrix_figure, rows_of
from recipes.recipe import Figure, Listing, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data.examples import Items
    from data.text.batches import DocumentBatches
    from data.text.tokens import Tokens

MOST = 200_000
"""Characters of a text that an exported model answers at most: it is read in one go."""

READ = 64
"""Documents that are read side by side when nothing is learned."""

FEATURES = 200_000
"""Words and pairs of the bag of words at most, the most frequent ones."""


def open_part(
    items: Items, part: str, facts: Mapping[str, Any], settings: Any, cache: Path
) -> DocumentBatches:
    """Batches of one part as the settings say; the training part is shuffled."""
    from data.images.batches import label_targets
    from data.text.batches import DocumentBatches, pad_place
    from data.text.tokens import numericalise, open_tokens

    tokens = open_tokens(items, [part], tokenizer=settings.tokenizer, cache=cache)
    targets = label_targets(tokens.labels, facts["classes"])
    if part != "test" and (targets < 0).any():
        nameless = tokens.item_ids[int(targets.argmin())]
        raise ValueError(
            f"{nameless} belongs to the {part} part and has no label: leave such texts out by clean.files, or"
            " name their folders in clean.unlabelled"
        )
    return DocumentBatches(
        numericalise(tokens, facts["vocabulary"]),
        tokens.offsets,
        targets,
        item_ids=tokens.item_ids,
        batch_size=settings.batch_size if part == "train" else READ,
        training=part == "train",
        pad=pad_place(facts["vocabulary"]),
        seed=settings.seed,
    )


def predict(subject: Subject) -> pa.Table:
    """One row of PREDICTIONS and `tokens`, their number, per text of the validation and test parts."""
    schema = PREDICTIONS.append(pa.field("tokens", pa.int64(), nullable=False))
    found = []
    for part in PARTS:
        if not subject.items.table([part], ["item_id"]).num_rows:
            continue
        batches = open_part(subject.items, part, subject.facts, subject.settings, subject.cache)
        items = subject.items.table([part], ["item_id", "label"])
        rows = rows_of(part, items, _probabilities(subject.network, batches), subject.facts["classes"])
        found.append(rows.append_column("tokens", pa.array(batches.lengths)).cast(schema))
    return pa.concat_tables(found) if found else schema.empty_table()


def _probabilities(network: Any, batches: DocumentBatches) -> NDArray[np.float32]:
    """(N, classes) in the order of the items, in float32 as exported programs compute them."""
    import torch

    from models.hardware import device

    here = device()
    network.to(here).eval()
    order = np.concatenate(batches.order(0))
    with torch.no_grad():
        answers = [network(codes.to(here)).softmax(dim=1).cpu().numpy() for codes, _ in batches.epoch(0)]
    network.cpu()
    probabilities = np.empty((len(order), answers[0].shape[1]), np.float32)
    probabilities[order] = np.concatenate(answers)
    return probabilities


def preprocess(settings: Any, facts: Mapping[str, Any], *, pad: int) -> dict[str, Any]:
    """What an exported model needs to make codes of a text (`tasks/predictors/texts.py`)."""
    return {
        "kind": "texts", "tokenizer": settings.tokenizer.options(), "vocabulary": facts["vocabulary"],
        "pad": pad, "most": MOST,
    }  # fmt: skip


# Tables


def tables(subject: Subject, predictions: pa.Table) -> Iterator[Listing]:
    """Confusion, and what a bag of words reaches on the same rows."""
    yield from classification.tables(subject, predictions)
    if subject.evaluation.baseline and (beside := _baseline(subject, predictions)) is not None:
        yield Listing(
            name="bag_of_words",
            table=beside,
            title="A bag of words beside it",
            text=(
                "The same training rows and tokens, without their order: TF-IDF and logistic regression"
                " (scikit-learn). `accuracy` is that of the labelled rows of each part."
            ),
        )


def _baseline(subject: Subject, predictions: pa.Table) -> pa.Table | None:
    """Accuracy by part of the majority, of words, of words and pairs, and of the network."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    opened = {
        part: _open(subject, part)
        for part in ("train", *PARTS)
        if subject.items.table([part], ["item_id"]).num_rows
    }
    labels = {part: np.array(tokens.labels, dtype=object) for part, tokens in opened.items()}
    known = {part: np.flatnonzero([each is not None for each in said]) for part, said in labels.items()}
    parts = [part for part in opened if part != "train" and len(known[part])]
    if not parts:
        return None
    rows: list[dict[str, Any]] = []

    def add(method: str, part: str, answers: Any) -> None:
        hits = np.asarray(answers) == labels[part][known[part]]
        rows.append({"method": method, "part": part, "accuracy": float(hits.mean()), "texts": len(hits)})

    trained = labels["train"][known["train"]]
    names, counts = np.unique(trained.astype(str), return_counts=True)
    for part in parts:
        add("always the most frequent class", part, [names[counts.argmax()]] * len(known[part]))
    for method, reach in (("single tokens", 1), ("single tokens and pairs", 2)):
        vectorizer = TfidfVectorizer(
            analyzer=lambda document, reach=reach: _grams(document, reach),
            max_features=FEATURES,
            sublinear_tf=True,
        )
        documents = {part: _documents(opened[part], known[part]) for part in ("train", *parts)}
        model = LogisticRegression(C=10.0, max_iter=1000)
        model.fit(vectorizer.fit_transform(documents["train"]), trained.astype(str))
        for part in parts:
            add(method, part, model.predict(vectorizer.transform(documents[part])))
    for part in parts:
        mine = predictions.filter(pc.equal(predictions["part"], part))
        add("this network", part, np.array(mine["predicted"].to_pylist(), dtype=object)[known[part]])
    return pa.Table.from_pylist(rows)


def _grams(document: Sequence[str], reach: int) -> list[str]:
    pairs = [f"{one} {two}" for one, two in pairwise(document)] if reach > 1 else []
    return [*document, *pairs]


def _documents(tokens: Tokens, chosen: Any) -> list[list[str]]:
    return [tokens.document(place) for place in chosen.tolist()]


def _open(subject: Subject, part: str) -> Tokens:
    from data.text.tokens import open_tokens

    return open_tokens(subject.items, [part], tokenizer=subject.settings.tokenizer, cache=subject.cache)


# Figures


def interpret(subject: Subject, predictions: pa.Table) -> Iterator[Figure]:
    """A training batch as the network sees it, lengths, confusion matrix, attribution, top losses."""
    from models.language.figures import lengths, marked_texts

    evaluation = subject.evaluation
    yield _training_batch(subject)
    parts = {part: _open(subject, part).lengths() for part in ("train", *PARTS) if _has(subject, part)}
    yield Figure(name="lengths", draw=lambda figure: lengths(figure, parts))
    rows = predictions.filter(
        pc.and_(pc.equal(predictions["part"], "valid"), pc.is_valid(predictions["label"]))
    )
    if not rows.num_rows:
        return
    yield confusion_matrix_figure(rows, subject.facts["classes"])
    tokens = _open(subject, "valid")
    spaced = np.unique(np.linspace(0, rows.num_rows - 1, evaluation.shown).round().astype(int)).tolist()
    ordered = rows.sort_by([("loss", "ascending"), ("item_id", "ascending")])
    titles, texts, weights = _attributed(subject, tokens, ordered.take(pa.array(spaced)))
    yield Figure(
        name="attribution",
        draw=lambda figure: marked_texts(figure, titles, texts, weights, label="towards the label, or away"),
    )
    worst = rows.sort_by([("loss", "descending"), ("item_id", "ascending")]).slice(0, evaluation.shown)
    named, wrong, against = _attributed(subject, tokens, worst)
    yield Figure(
        name="top_losses",
        draw=lambda figure: marked_texts(figure, named, wrong, against, label="towards the label, or away"),
    )


def _has(subject: Subject, part: str) -> bool:
    return bool(subject.items.table([part], ["item_id"]).num_rows)


def _attributed(
    subject: Subject, tokens: Tokens, rows: pa.Table
) -> tuple[list[str], list[list[str]], list[Any]]:
    """Titles, the last tokens of each text, and what each of them added to the probability of the label."""
    import torch

    from data.text.batches import pad_place
    from models.language.interpret import token_attributions

    classes, vocabulary = subject.facts["classes"], subject.facts["vocabulary"]
    code_of = {token: code for code, token in enumerate(vocabulary)}
    places = {item_id: place for place, item_id in enumerate(tokens.item_ids)}
    titles, texts, weights = [], [], []
    for row in rows.to_pylist():
        document = tokens.document(places[row["item_id"]])
        codes = torch.tensor([[code_of.get(token, 0) for token in document]])
        codes = codes[:, -10 * subject.evaluation.tokens :]
        given = token_attributions(
            subject.network, codes, target=classes.index(row["label"]), pad=pad_place(vocabulary)
        )
        cut = len(document) > subject.evaluation.tokens
        texts.append(document[-subject.evaluation.tokens :])
        weights.append(given[-subject.evaluation.tokens :])
        said = f"{row['item_id']}: {row['label']}, predicted {row['predicted']} {row['probability']:.2f}"
        titles.append(said + (f", the last {len(texts[-1])} of {len(document)} tokens" if cut else ""))
    return titles, texts, weights


def _training_batch(subject: Subject) -> Figure:
    """The first training texts of the first epoch, as tokens of the vocabulary."""
    from models.language.figures import marked_texts

    batches = open_part(subject.items, "train", subject.facts, subject.settings, subject.cache)
    codes, targets = next(iter(batches.epoch(0)))
    vocabulary, classes = subject.facts["vocabulary"], subject.facts["classes"]
    shown = min(subject.evaluation.shown, len(codes))
    texts = [
        [vocabulary[code] for code in row.tolist()[: subject.evaluation.tokens]] for row in codes[:shown]
    ]
    titles = [
        f"{classes[int(target)]}, {int((row != batches.pad).sum())} of {codes.shape[1]} tokens"
        for row, target in zip(codes[:shown], targets[:shown], strict=True)
    ]
    return Figure(name="training_batch", draw=lambda figure: marked_texts(figure, titles, texts))
