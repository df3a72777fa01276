"""Weights of another language model: its layers by name, its embeddings by token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models.language.encoder import Encoder
from models.language.model import LanguageModel

PUBLISHED = {
    "0.encoder.weight": "encoder.embedding.weight",
    "1.decoder.weight": "decoder.weight",
    "1.decoder.bias": "decoder.bias",
}
"""Names of fastai's WikiText-103 networks, and ours."""

PUBLISHED_LAYER = re.compile(r"0\.rnns\.(\d+)\.(?:module\.)?(weight_ih|weight_hh|bias_ih|bias_hh)_l0(_raw)?")
"""`weight_hh` stands there twice: as it is trained (`_raw`), and as it was dropped out last."""

BY_TOKEN = ("encoder.embedding.weight", "decoder.weight", "decoder.bias")
"""Tensors with a row for every token."""


def start_from(
    network: LanguageModel, state: Mapping[str, Tensor], known: Sequence[str], vocabulary: Sequence[str]
) -> list[str]:
    """Load a language model's weights into another with its own vocabulary; returns the names loaded.

    known: the tokens of `state`, in order; vocabulary: those of `network`. A token that was not known gets
    the mean of all rows (Howard and Ruder, 2018). ValueError where the layers do not fit.
    """
    if not known:
        raise ValueError(
            "starts_from has no facts.json with a vocabulary; no row of an embedding can be told"
        )
    found = translated(state)
    own = network.state_dict()
    if "decoder.weight" not in own:
        found.pop("decoder.weight", None)  # tied: the embedding's rows
    elif "decoder.weight" not in found and "encoder.embedding.weight" in found:
        found["decoder.weight"] = found["encoder.embedding.weight"]
    return _load(network, found, known, vocabulary)


def load_encoder(
    encoder: Encoder, state: Mapping[str, Tensor], known: Sequence[str], vocabulary: Sequence[str]
) -> list[str]:
    """The same for an encoder alone: of a language model, or of any network that has an `encoder`."""
    prefix = "encoder."
    inner = {
        name.removeprefix(prefix): value
        for name, value in translated(state).items()
        if name.startswith(prefix)
    }
    return _load(encoder, inner, known, vocabulary)


def translated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under our names, whoever wrote it; what only repeats something else is left out."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if match := PUBLISHED_LAYER.fullmatch(name):
            layer, weight, raw = match.groups()
            if weight != "weight_hh" or raw or f"{name}_raw".replace(".module", "") not in state:
                found[f"encoder.layers.{layer}.{weight}"] = value
        elif name in PUBLISHED:
            found[PUBLISHED[name]] = value
        elif not re.match(r"[01]\.", name):
            found[name] = value
    return found


def _load(
    module: nn.Module, state: Mapping[str, Tensor], known: Sequence[str], vocabulary: Sequence[str]
) -> list[str]:
    own = module.state_dict()
    if lacking := [name for name in own if name not in state]:
        raise ValueError(
            f"starts_from has no {lacking[0]!r}; it holds {', '.join(list(state)[:4]) or 'nothing'}, ...:"
            " is it a language model with as many layers?"
        )
    fitted: dict[str, Tensor] = {}
    place = {token: row for row, token in enumerate(known)}
    for name, mine in own.items():
        theirs = state[name].to(mine.dtype)
        if f"encoder.{name}" in BY_TOKEN or name in BY_TOKEN:
            theirs = _rows(theirs, place, vocabulary, name=name)
        if theirs.shape != mine.shape:
            raise ValueError(
                f"starts_from has {name!r} of shape {tuple(theirs.shape)}, the network {tuple(mine.shape)};"
                " give fine_tune.network the same name, embedding, hidden and layers"
            )
        fitted[name] = theirs
    module.load_state_dict(fitted)
    return list(fitted)


def _rows(rows: Tensor, place: Mapping[str, int], vocabulary: Sequence[str], *, name: str) -> Tensor:
    """The rows of `vocabulary`; the mean of all for tokens without one."""
    if len(place) > len(rows):
        raise ValueError(
            f"starts_from has {len(rows)} rows in {name!r}, but its vocabulary {len(place)} tokens"
        )
    mean = rows.mean(dim=0, keepdim=True)
    table = torch.cat([rows, mean])
    return table[torch.tensor([place.get(token, len(rows)) for token in vocabulary])]
