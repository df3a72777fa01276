"""The whole state of a training, so that continuing from it ends in the same bits as never having stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from models.objective import Objective
from models.optimisers import Optimiser
from models.phases import Phase

State = dict[str, Any]
"""Nested dicts and lists of tensors, numbers and strings: `torch.load(..., weights_only=True)` reads it."""


@dataclass
class Position:
    """Where a training stands and what it remembers, weights and optimisers aside."""

    phase: int = 0
    epoch: int = 0
    """Completed epochs of this phase."""
    step: int = 0
    """Completed steps of this epoch."""
    epochs: int = 0
    """Completed epochs of all phases."""
    sums: dict[str, float] = field(default_factory=dict)
    """Weighted sum of this epoch's losses by name."""
    counts: dict[str, int] = field(default_factory=dict)
    """Number of examples in `sums`."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The history so far."""
    best: float | None = None
    """Best headline of the comparable epochs so far."""
    best_epoch: int | None = None
    """The epoch of `best`, counted from 1 over all phases."""
    best_weights: dict[str, dict[str, Any]] | None = None
    """State dicts after that epoch, where they are kept."""
    phase_best: float | None = None
    """Best headline of this phase."""
    stale: int = 0
    """Epochs since `phase_best`."""


def named_modules(phases: Sequence[Phase]) -> dict[str, nn.Module]:
    """Every trainable module once, by a name that is the same in every run of the same phases."""
    named: dict[str, nn.Module] = {}
    for place, phase in enumerate(phases):
        for name, module in phase.objective.trainable().items():
            if all(module is not known for known in named.values()):
                named[f"{place}.{name}"] = module
    return named


def copy_weights(phases: Sequence[Phase]) -> dict[str, dict[str, Any]]:
    """State dicts of every trainable module, apart from the training's memory."""
    return {name: clone(module.state_dict()) for name, module in named_modules(phases).items()}


def load_weights(phases: Sequence[Phase], weights: Mapping[str, Mapping[str, Any]]) -> None:
    """Put back what `copy_weights` took."""
    for name, module in named_modules(phases).items():
        module.load_state_dict(weights[name])


def clone(state: Any) -> Any:
    """A copy of a state whose tensors share no memory with it."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: clone(value) for key, value in state.items()}
    return [clone(value) for value in state] if isinstance(state, list) else state


def take(
    phases: Sequence[Phase],
    position: Position,
    optimisers: Mapping[str, Optimiser],
    *,
    seed: int,
    whole: Callable[[Any], Any] = lambda state: state,
) -> State:
    """The state at this moment. Its tensors share the training's memory: store it before going on.

    whole: makes an objective's state that of all processes; `share` of `restore` makes it one process's. So a
    training goes on with another number of them.
    """
    return {
        "plan": _plan(phases, seed),
        "position": dict(vars(position)),
        "modules": {name: module.state_dict() for name, module in named_modules(phases).items()},
        "objectives": [whole(objective.state()) for objective in _objectives(phases)],
        "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
        "random": take_random(),
    }


def restore(
    phases: Sequence[Phase],
    state: Mapping[str, Any],
    *,
    seed: int,
    share: Callable[[Any], Any] = lambda state: state,
) -> Position:
    """Load modules and objectives and return the position; optimisers and random numbers are left to the
    caller, who has yet to make them. ValueError where the state is that of another training."""
    if state.get("plan") != _plan(phases, seed):
        raise ValueError(
            f"the checkpoint belongs to another training: it holds {state.get('plan')},"
            f" this one is {_plan(phases, seed)}; remove the checkpoint to start anew"
        )
    load_weights(phases, state["modules"])
    for objective, held in zip(_objectives(phases), state["objectives"], strict=True):
        objective.load_state(share(held))
    return Position(**clone(state["position"]))


def take_random() -> State:
    """The state of torch's generators, of the CPU and of every CUDA device in use."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if used else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random(state: Mapping[str, Any]) -> None:
    """Put back what `take_random` took."""
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])


def _plan(phases: Sequence[Phase], seed: int) -> list[Any]:
    return [seed, *([phase.name, phase.epochs, phase.size] for phase in phases)]


def _objectives(phases: Sequence[Phase]) -> list[Objective]:
    once: list[Objective] = []
    for phase in phases:
        if all(phase.objective is not known for known in once):
            once.append(phase.objective)
    return once
