"""What comes next?

One example of Nietzsche: a file of 600,000 characters, of which the network has read all up to here and gives
each of 56 characters a chance to be the next; training lowers the cross-entropy with the one that is.
Errors flow back through `length` tokens, what was read before stays in the network's state.
Course: lessons 6 and 7 of 2018 (Nietzsche), lesson 7 of 2019 (human numbers), lessons 3 and 4 of 2019 and
lesson 10 of 2018 (a language model of Wikipedia learns the language of film reviews).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from data.text.cleaning import TextCleaning, clean_texts, text_schema
from data.text.settings import Tokenizer, Vocabulary
from models.language.settings import LanguageNetworkSettings
from models.settings import ExportSettings, OptimiserSettings, PhaseSettings
from recipes.evaluation import language
from recipes.recipe import Learning, Recipe, Trained, Training

if TYPE_CHECKING:
    from torch import nn

    from data.examples import Items
    from data.text.streams import Streams
    from models.export import Program
    from models.phases import Phase


class LanguageTraining(Training, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a language model learns. The defaults are the course's for film reviews (lesson 3 of 2019)."""

    precision: Literal["auto", "float32", "bf16"] = "float32"
    """Recurrent layers lose too much in 16 bits; `auto` takes bf16 autocast where the hardware has it."""
    network: LanguageNetworkSettings = LanguageNetworkSettings(dropout_scale=0.3)
    """Which network."""
    tokenizer: Tokenizer = Tokenizer()
    """What a token is."""
    vocabulary: Vocabulary = Vocabulary()
    """Which tokens are known; counted in the training part."""
    streams: int = Field(default=48, ge=1)
    """Places of the text that are read at once: rows of a batch (course: 48; 64 for Nietzsche)."""
    judged_streams: int = Field(default=64, ge=1)
    """The same for the validation and test parts. Each begins without knowing what came before it."""
    length: int = Field(default=70, ge=1)
    """Tokens through which errors flow back (`bptt`; course: 70; 8 for Nietzsche, 20 for numbers)."""
    vary_length: bool = False
    """Draw that length anew for every batch, around `length`, as AWD-LSTM does."""
    shuffle: bool = True
    """Documents in another order in every epoch. False for the passages of a book, which belong together."""
    activation: float = Field(default=0.0, ge=0)
    """Weight of AR: the mean square of what the network hands on (fastai: 2)."""
    change: float = Field(default=0.0, ge=0)
    """Weight of TAR: the mean square of its change from token to token (fastai: 1)."""
    phases: Annotated[tuple[PhaseSettings, ...], Field(strict=False, min_length=1)] = (
        PhaseSettings(epochs=1, rates=(1e-2,), freeze="body", momenta=(0.8, 0.7)),
        PhaseSettings(epochs=10, rates=(1e-3,), momenta=(0.8, 0.7)),
    )
    """Stretches of training. Layer groups: every recurrent layer, then the embedding with the output."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """Which optimiser."""
    prompt: str = ""
    """What the samples of every epoch go on from. Empty: the beginning of the training part."""
    temperature: float = Field(default=0.75, ge=0, le=5)
    """How freely samples are drawn: 0 takes the likeliest token (course: 0.75)."""


class LanguageEvaluation(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How a language model is judged."""

    shown: int = Field(default=6, ge=1, le=24)
    """Passages and samples per figure."""
    tokens: int = Field(default=400, ge=1, le=4000)
    """Tokens of a sample (course: 400 characters)."""
    candidates: int = Field(default=50, ge=0)
    """Rows of `corrections.csv`, most surprising first."""


def learn(items: Items, settings: LanguageTraining, cache: Path) -> Learning:
    """Streams of the training and validation parts; the vocabulary of the training part."""
    from data.text.tokens import open_tokens, vocabulary_of

    tokens = open_tokens(items, ["train"], tokenizer=settings.tokenizer, cache=cache)
    vocabulary = vocabulary_of(tokens, settings.vocabulary)
    facts = {"vocabulary": vocabulary, "opening": [tokens.words[code] for code in tokens.codes[:40].tolist()]}

    def loaders(phase: Phase) -> tuple[Streams, Streams | None]:
        train = language.open_streams(items, "train", vocabulary, settings, cache)
        assert train is not None
        return train, language.open_streams(items, "valid", vocabulary, settings, cache)

    return Learning(loaders=loaders, facts=facts)


def network(settings: LanguageTraining, facts: Mapping[str, Any]) -> nn.Module:
    """The language model with random weights."""
    from models.language.model import build_language_model

    return build_language_model(settings.network, len(facts["vocabulary"]))


def start(module: nn.Module, trained: Trained, facts: Mapping[str, Any]) -> list[str]:
    """Layers by name, embeddings by token, from published weights or from another language model."""
    from models.language.model import LanguageModel
    from models.language.start import start_from

    assert isinstance(module, LanguageModel)
    return start_from(module, trained.state, trained.facts.get("vocabulary", []), facts["vocabulary"])


def phases(
    settings: LanguageTraining, module: nn.Module, learning: Learning, judge: Trained | None
) -> tuple[Phase, ...]:
    """Cross-entropy with the next token through the block's phases."""
    from models.language.model import LanguageModel
    from models.language.objective import LanguageModelling, token_accuracy, token_loss
    from models.phases import build_phase

    assert isinstance(module, LanguageModel)
    objective = LanguageModelling(module, activation=settings.activation, change=settings.change)
    return tuple(
        build_phase(
            phase, objective, name=f"{number}-{phase.freeze}", optimiser=settings.optimiser,
            metrics={"loss": token_loss(), "accuracy": token_accuracy()},
        )
        for number, phase in enumerate(settings.phases, start=1)
    )  # fmt: skip


def signature(
    module: nn.Module, facts: Mapping[str, Any], settings: LanguageTraining, export: ExportSettings
) -> Program:
    """Codes and the state before them to scores and the state after; rules and vocabulary travel along."""
    import torch

    from models.export import Program
    from models.language.encoder import state_size
    from models.language.model import LanguageModel, Stepwise

    assert isinstance(module, LanguageModel)
    size = state_size(module.encoder)
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, len(facts["vocabulary"]), (2, 9), generator=random)
    return Program(
        module=Stepwise(module).eval(),
        example={"codes": codes, "state": torch.zeros(2, size)},
        outputs=("scores", "state_after"),
        dynamic={"codes": {1: "length"}},
        preprocess={
            "kind": "prompts",
            "tokenizer": settings.tokenizer.options(),
            "vocabulary": list(facts["vocabulary"]),
            "state": size,
            "temperature": settings.temperature,
        },
    )


RECIPE = Recipe(
    title="Language model",
    lesson="2019 lessons 3, 4 and 7; 2018 lessons 4, 6, 7 and 10",
    family="language",
    blocks={
        "clean": TextCleaning,
        "fine_tune": LanguageTraining,
        "evaluate": LanguageEvaluation,
        "export": ExportSettings,
    },
    schema=text_schema,
    clean=clean_texts,
    learn=learn,
    network=network,
    start=start,
    phases=phases,
    metrics=("loss", "accuracy", "perplexity"),
    higher_is_better=False,
    predict=language.predict,
    score=language.score,
    tables=language.tables,
    review=language.review,
    interpret=language.interpret,
    sample=language.sample,
    signature=signature,
    limits=(
        "It repeats what its texts say, also where that is wrong or hurts, and makes up the rest.",
        "Perplexities compare only between models with the same tokens: an unknown word counts as one token.",
    ),
)
