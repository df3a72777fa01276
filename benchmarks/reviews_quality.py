"""fastai's ULMFiT chain on this project's tokens: a language model of all texts, then the classifier.

    python benchmarks/reviews_quality.py tokens OUT.npz                      # after `split` of both entries
    PEER/bin/python benchmarks/reviews_quality.py fastai OUT.npz --seed 42   # an environment with fastai

Both sides see the same tokens and parts, and have the same sizes, dropouts, batches, epochs and rates.
fastai is imported here and nowhere else. What it prints is one JSON object per run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def export_tokens(out: Path, *, language: str, classifier: str) -> None:
    """Codes, offsets and labels of both entries' parts, numbered by each entry's own vocabulary."""
    sys.path.insert(0, str(ROOT))
    from data.examples import Items
    from data.text.tokens import numericalise, open_tokens, vocabulary_of
    from tasks.parameters import load_parameters

    held: dict[str, Any] = {}
    parameters = load_parameters(ROOT / "params.yaml")
    known: list[str] = []
    for name, prefix in ((language, "language"), (classifier, "classifier")):
        entry, _ = parameters.application(name)
        settings = entry.fine_tune
        items = Items(ROOT / "artifacts" / name / "clean", ROOT / "artifacts" / name / "split")
        cache = out.parent / "cache"
        for part in ("train", "valid"):
            tokens = open_tokens(items, [part], tokenizer=settings.tokenizer, cache=cache)
            known = known or vocabulary_of(tokens, settings.vocabulary)  # the course: one for both
            held[f"{prefix}_{part}"] = numericalise(tokens, known).astype(np.int32)
            held[f"{prefix}_{part}_offsets"] = tokens.offsets
            if prefix == "classifier":
                classes = sorted({label for label in tokens.labels if label is not None})
                held[f"labels_{part}"] = np.array([classes.index(str(label)) for label in tokens.labels])
    np.savez(out, vocabulary=np.array(known), **held)


def documents(held: Any, name: str) -> list[Any]:
    """The documents of one part as tensors."""
    import torch

    codes, offsets = torch.from_numpy(held[name].astype(np.int64)), held[f"{name}_offsets"]
    return [codes[start:end] for start, end in pairwise(offsets)]


def run_fastai(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """fastai's language model and classifier; accuracy on the validation part after the last epoch."""
    import torch
    from fastai.basics import (
        CrossEntropyLossFlat,
        DataLoaders,
        L,
        accuracy,
        defaults,
        set_seed,
    )  # fmt: skip
    from fastai.callback import schedule  # noqa: F401, gives learners fit_one_cycle
    from fastai.text.data import LMDataLoader, SortedDL, TensorText
    from fastai.text.learner import language_model_learner, text_classifier_learner
    from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_clas_config, awd_lstm_lm_config

    torch.set_num_threads(options.threads)
    defaults.cpus = 0
    held = np.load(path)
    vocabulary = held["vocabulary"].tolist()
    size = {"emb_sz": options.embedding, "n_hid": options.hidden, "n_layers": options.layers}
    folder = Path(options.work)
    folder.mkdir(parents=True, exist_ok=True)
    cpu = torch.device("cpu")

    set_seed(options.seed)
    started = time.monotonic()
    loaders = [
        LMDataLoader(
            L(documents(held, f"language_{part}")), bs=options.streams, seq_len=72, shuffle=part == "train"
        )
        for part in ("train", "valid")
    ]
    data = DataLoaders(*loaders, device=cpu)
    data.vocab = vocabulary
    model = language_model_learner(
        data, AWD_LSTM, config={**awd_lstm_lm_config, **size}, drop_mult=options.language_dropout,
        pretrained=False, metrics=accuracy, path=folder, moms=(0.8, 0.7, 0.8),
    )  # fmt: skip
    with model.no_bar():
        model.fit_one_cycle(options.language_epochs, options.language_rate)
    model.save_encoder(f"encoder-{options.seed}")
    language = [float(value) for value in model.recorder.values[-1]]
    between = time.monotonic()

    set_seed(options.seed)
    parts = [
        [
            (TensorText(document), torch.tensor(int(label)))
            for document, label in zip(
                documents(held, f"classifier_{part}"), held[f"labels_{part}"], strict=True
            )
        ]
        for part in ("train", "valid")
    ]
    sorted_loaders = [
        SortedDL(
            L(part),
            bs=options.batch_size,
            shuffle=train,
            before_batch=pad_chunks,
            num_workers=0,
            drop_last=False,
        )
        for part, train in zip(parts, (True, False), strict=True)
    ]
    data = DataLoaders(*sorted_loaders, device=cpu)
    data.vocab, data.c = vocabulary, int(held["labels_train"].max()) + 1
    learner = text_classifier_learner(
        data, AWD_LSTM, config={**awd_lstm_clas_config, **size}, drop_mult=options.dropout, pretrained=False,
        loss_func=CrossEntropyLossFlat(), metrics=accuracy, path=folder, moms=(0.8, 0.7, 0.8),
    )  # fmt: skip
    learner.load_encoder(f"encoder-{options.seed}")
    history: list[list[float]] = []
    with learner.no_bar():
        for freeze, epochs, rate in options.phases:
            if freeze:
                learner.freeze_to(-freeze)
            else:
                learner.unfreeze()
            rates = rate if freeze == 1 else slice(rate / 2.6**4, rate)
            learner.fit_one_cycle(epochs, rates)
            history += [[float(value) for value in row] for row in learner.recorder.values]
    return {
        "seed": options.seed,
        "language (train loss, valid loss, accuracy)": language,
        "classifier (train loss, valid loss, accuracy)": history,
        "accuracy": history[-1][2],
        "seconds": [round(between - started), round(time.monotonic() - between)],
    }


def pad_chunks(samples: Any) -> Any:
    """fastai's padding by whole pieces, with its function for it."""
    from fastai.text.data import pad_input_chunk

    return pad_input_chunk(samples, seq_len=72)


def phase(text: str) -> tuple[int, int, float]:
    """`1:1:0.02`: groups that learn (0 for all), epochs, rate."""
    freeze, epochs, rate = text.split(":")
    return int(freeze), int(epochs), float(rate)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("side", choices=("tokens", "fastai"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--language-epochs", type=int, default=1)
    parser.add_argument("--language-rate", type=float, default=1e-2)
    parser.add_argument("--language-dropout", type=float, default=0.3)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--phases", type=phase, nargs="+", default=[(1, 1, 2e-2), (2, 1, 1e-2), (0, 2, 5e-3)])
    parser.add_argument("--work", default="benchmarks/work")
    parser.add_argument("--language", default="imdb_language_model")
    parser.add_argument("--classifier", default="imdb")
    options = parser.parse_args()
    if options.side == "tokens":
        export_tokens(options.file, language=options.language, classifier=options.classifier)
    else:
        print(json.dumps(run_fastai(options.file, options)))


if __name__ == "__main__":
    main()
