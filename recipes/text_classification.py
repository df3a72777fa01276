"""Which of N classes does a text belong to?

One example of IMDB: `train/pos/10004_8.txt`, a review of 170 words that likes its film, label `pos`. The text
becomes tokens by the course's rules; the encoder of a language model reads them in order, what it says at the
end, on average and at most is pooled, and a small head answers a probability for each class. With a language
model to start from, this is ULMFiT: the head learns first, then layer by layer what is below it.
Course: lessons 3 and 4 of 2019, lessons 4 and 10 of 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from data.text.cleaning import TextCleaning, clean_texts, text_schema
from data.text.settings import Tokenizer, Vocabulary
from models.language.settings import Dropouts, EncoderSettings
from models.settings import ExportSettings, OptimiserSettings, PhaseSettings
from recipes.evaluation import classification, texts
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from data.text.batches import DocumentBatches
    from models.export import Program
    from models.phases import Phase


class TextTraining(Training, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a classifier of texts learns. The defaults are the course's for IMDB (lesson 3 of 2019)."""

    precision: Literal["auto", "float32", "bf16"] = "float32"
    """Recurrent layers lose too much in 16 bits; `auto` takes bf16 where the hardware has it."""
    network: EncoderSettings = EncoderSettings(
        dropouts=Dropouts(input=0.4, embedding=0.05, weight=0.5, hidden=0.3, output=0.4), dropout_scale=0.5
    )
    """The encoder; that of the language model to start from, but for its dropouts (fastai's
    `awd_lstm_clas_config` and `drop_mult`)."""
    tokenizer: Tokenizer = Tokenizer()
    """What a token is."""
    vocabulary: Vocabulary = Vocabulary()
    """Which tokens of the training part are known."""
    hidden: Annotated[tuple[int, ...], Field(strict=False)] = (50,)
    """Widths of the head's layers below its answer (course: 50)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Before each layer of the head but the first, where `network.dropouts.output` stands (course: 0.1)."""
    piece: int = Field(default=70, ge=1)
    """Tokens through which one gradient goes (course: bptt 70)."""
    pooled: int = Field(default=1400, ge=1)
    """Tokens at a document's end that are pooled; those before only shape the state (course: 1400)."""
    activation: float = Field(default=2.0, ge=0)
    """Weight of the mean square of the encoder's vectors in the loss (AR; course: 2)."""
    change: float = Field(default=1.0, ge=0)
    """Weight of the mean square of their change from token to token (TAR; course: 1)."""
    batch_size: int = Field(default=48, ge=2)
    """Documents per step (course: 48)."""
    phases: Annotated[tuple[PhaseSettings, ...], Field(strict=False, min_length=1)] = (
        PhaseSettings(epochs=1, rates=(2e-2,), freeze="body", momenta=(0.8, 0.7)),
        PhaseSettings(epochs=1, rates=(1e-2 / 2.6**4, 1e-2), freeze=-2, momenta=(0.8, 0.7)),
        PhaseSettings(epochs=1, rates=(5e-3 / 2.6**4, 5e-3), freeze=-3, momenta=(0.8, 0.7)),
        PhaseSettings(epochs=2, rates=(1e-3 / 2.6**4, 1e-3), momenta=(0.8, 0.7)),
    )
    """Stretches of training: gradual unfreezing, with rates by depth."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """Which optimiser."""


class TextEvaluation(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a trained classifier of texts is judged."""

    shown: int = Field(default=6, ge=1, le=32)
    """Texts per figure."""
    tokens: int = Field(default=120, ge=10, le=1000)
    """Tokens of a text that a figure shows: its beginning, or where tokens are attributed its end."""
    baseline: bool = True
    """Fit a bag of words on the same training rows, to be stated beside the network."""
    candidates: int = Field(default=50, ge=0)
    """Rows of `corrections.csv`, worst first."""


def learn(items: Items, settings: TextTraining, cache: Path) -> Learning:
    """Documents of the training and validation parts; classes and vocabulary from the training part."""
    from data.text.tokens import open_tokens, vocabulary_of

    tokens = open_tokens(items, ["train"], tokenizer=settings.tokenizer, cache=cache)
    classes = sorted({label for label in tokens.labels if label is not None})
    facts = {"classes": classes, "vocabulary": vocabulary_of(tokens, settings.vocabulary)}
    judged = items.table(["valid"], ["item_id"]).num_rows > 0

    def loaders(phase: Phase) -> tuple[DocumentBatches, DocumentBatches | None]:
        valid = texts.open_part(items, "valid", facts, settings, cache) if judged else None
        return texts.open_part(items, "train", facts, settings, cache), valid

    return Learning(loaders=loaders, facts=facts)


def network(settings: TextTraining, facts: Mapping[str, Any]) -> nn.Module:
    """The classifier with random weights."""
    from data.text.batches import pad_place
    from models.language.classifier import build_text_classifier

    return build_text_classifier(
        settings.network, vocabulary=len(facts["vocabulary"]), classes=len(facts["classes"]),
        pad=pad_place(facts["vocabulary"]), hidden=settings.hidden, dropout=settings.dropout,
        piece=settings.piece, pooled=settings.pooled,
    )  # fmt: skip


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Load the encoder of a language model, or of another classifier, token by token."""
    from models.language.classifier import TextClassifier
    from models.language.start import load_encoder

    assert isinstance(module, TextClassifier)
    if "vocabulary" not in trained.facts:
        raise ValueError(
            "starts_from has no vocabulary beside its weights: it is no network that reads tokens"
        )
    known = trained.facts["vocabulary"]
    names = load_encoder(module.encoder, trained.state, known, facts["vocabulary"])
    return [f"encoder.{name}" for name in names]


def phases(
    settings: TextTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """Cross-entropy through the block's phases."""
    from models.language.classifier import TextClassification, TextClassifier
    from models.metrics import accuracy
    from models.phases import build_phase

    assert isinstance(module, TextClassifier)
    objective = TextClassification(module, activation=settings.activation, change=settings.change)
    return tuple(
        build_phase(
            phase, objective, name=f"{number}-{phase.freeze}", optimiser=settings.optimiser,
            metrics={"accuracy": accuracy()},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: TextTraining, export: ExportSettings
) -> Program:
    """Padded tokens to probabilities; the rules and the vocabulary travel with it."""
    import torch

    from models.export import Program
    from models.language.classifier import TextClassifier, WholeDocuments

    assert isinstance(module, TextClassifier)
    codes = torch.arange(2 * 12).reshape(2, 12) % (len(facts["vocabulary"]) - module.pad - 1) + module.pad + 1
    codes[1, 9:] = module.pad
    return Program(
        module=WholeDocuments(module).eval(),
        example={"codes": codes},
        outputs=("probabilities",),
        dynamic={"codes": {1: "length"}},
        preprocess=texts.preprocess(settings, facts, pad=module.pad),
        labels=tuple(facts["classes"]),
    )


RECIPE = Recipe(
    title="Text classification",
    lesson="2019 lessons 3 and 4; 2018 lessons 4 and 10",
    family="language",
    blocks={
        "clean": TextCleaning,
        "fine_tune": TextTraining,
        "evaluate": TextEvaluation,
        "export": ExportSettings,
    },
    schema=text_schema,
    clean=clean_texts,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("accuracy", "error_rate", "macro_f1", "loss"),
    higher_is_better=True,
    predict=texts.predict,
    score=classification.score,
    tables=texts.tables,
    review=classification.review,
    interpret=texts.interpret,
    signature=signature,
    limits=(
        "It knows the words of its training texts; in another language, or about other things, it guesses.",
        "A word's attribution says what moved this network, not what a reader would have meant.",
    ),
)
