"""The training loop: every application learns here, and docs/training.md tells it on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from models import checkpoint
from models.checkpoint import Position, State
from models.objective import Batch
from models.optimisers import Optimiser, set_pace
from models.phases import Phase
from models.processes import ALONE, World
from models.replay import Steps, replayed
from models.steps import (
    Losses,
    Precision,
    autocast,
    build_optimisers,
    repeatable,
    take_steps,
    to_device,
)
from models.validation import judge
from models.watchers import History, Step, Watcher


class Batches(Protocol):
    """One part of the data, cut into batches. Drawing is the batches' own affair: deterministic in their seed
    and the epoch's number, never from torch's global generator, which belongs to the networks."""

    def __len__(self) -> int:
        """Steps per epoch."""
        ...

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch (counted from 0 over all phases), without the first `start`."""
        ...


Loaders = Callable[[Phase], tuple[Batches, Batches | None]]
"""Training and validation batches of a phase; None where there is nothing to validate."""


def fit(
    phases: Sequence[Phase],
    loaders: Loaders,
    watchers: Sequence[Watcher] = (),
    *,
    seed: int,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    channels_last: bool = False,
    compiled: bool = False,
    clip: float | None = None,
    keep: Literal["last", "best"] = "last",
    patience: int | None = None,
    headline: str = "valid_loss",
    higher_is_better: bool = False,
    resume: Mapping[str, Any] | None = None,
    save: Callable[[State], None] | None = None,
    save_every: float = 60.0,
    world: World = ALONE,
) -> History:
    """Train through all phases; the modules stay on `device`.

    seed: of torch's generator (dropout), set here; continuing takes the saved one.
    precision: of the networks' arithmetic; weights are float32 always. "auto" is bf16 autocast where the
      hardware computes that natively, else float32; small regressions want float32.
    compiled: let `torch.compile` make kernels of the modules; they stay compiled.
    clip: largest norm of each module's gradient; None does not clip.
    keep: weights of the "last" epoch, or of the epoch with the "best" `headline` (a column of the history).
      Epochs are comparable while the same modules train.
    patience: epochs without a better headline that end a phase early; None never does.
    resume: a state that `save` got, in a process with the same phases: all ends in the same bits.
    save: stores a state, at each epoch's end and about every `save_every` seconds within; the state shares
      the training's memory, so it must be stored before `save` returns.
    world: the processes that train together, each with the same arguments. Only `watchers` and `save` of the
      leading one are called.
    Raises FloatingPointError where a loss is not finite, ValueError where settings contradict each other.
    """
    target = torch.device(device)
    run = _Run(
        phases=phases,
        loaders=loaders,
        watchers=watchers if world.lead else (),
        seed=seed,
        device=target,
        cast=autocast(precision, target),
        replay=target.type == "cpu" and precision == "float32" and not compiled and world is ALONE,
        channels_last=channels_last,
        clip=clip,
        keep_best=keep == "best",
        patience=patience,
        headline=headline,
        sign=-1.0 if higher_is_better else 1.0,
        save=save,
        save_every=save_every,
        world=world,
    )
    modules = list(checkpoint.named_modules(phases).values())
    for module in modules:
        module.to(target)
        if channels_last:
            module.to(memory_format=torch.channels_last)
        if compiled:
            module.compile()  # in place: names of weights and hooks stay
    torch.manual_seed(seed)
    if resume is not None:
        run.at = checkpoint.restore(phases, resume, seed=seed, share=world.share)
    world.align(modules)
    for watcher in run.watchers:
        watcher.began(phases, run.at)
    with repeatable(target):
        while run.at.phase < len(phases):
            run.train_phase(phases[run.at.phase], resume)
            resume = None
    kept = run.at.epochs
    if run.at.best_weights is not None:
        checkpoint.load_weights(phases, run.at.best_weights)
        kept = run.at.best_epoch or kept
    for module in modules:
        if channels_last:  # so that stored weights have the layout that everything else expects
            module.to(memory_format=torch.contiguous_format)
    history = History(rows=tuple(run.at.rows), best_epoch=run.at.best_epoch, kept_epoch=kept)
    for watcher in run.watchers:
        watcher.finished(history)
    return history


@dataclass(kw_only=True)
class _Run:
    """One call of `fit`: its settings, and where it stands."""

    phases: Sequence[Phase]
    loaders: Loaders
    watchers: Sequence[Watcher]
    seed: int
    device: torch.device
    cast: Callable[[], AbstractContextManager[Any]]
    replay: bool
    channels_last: bool
    clip: float | None
    keep_best: bool
    patience: int | None
    headline: str
    sign: float
    save: Callable[[State], None] | None
    save_every: float
    world: World
    at: Position = field(default_factory=Position)
    saved: float = field(default_factory=time.monotonic)
    optimisers: dict[str, Optimiser] = field(default_factory=dict)

    def train_phase(self, phase: Phase, resume: Mapping[str, Any] | None) -> None:
        """All epochs of a phase, or those that are left of it."""
        with self.world.in_turn():
            train, valid = self.loaders(phase)
        if len(train) == 0:
            raise ValueError(f"phase {phase.name!r}: the training part makes no batch; lower the batch size")
        self.check_headline(phase, valid)
        self.optimisers = build_optimisers(phase)
        if resume is not None:
            for name, held in resume["optimisers"].items():
                self.optimisers[name].load_state_dict(checkpoint.clone(held))
            checkpoint.restore_random(resume["random"])
        left = phase.epochs * len(train) - self.at.epoch * len(train) - self.at.step
        steps = replayed(phase.objective, steps=left) if self.replay else phase.objective
        while self.at.epoch < phase.epochs:
            if self.train_epoch(phase, steps, train, valid):
                break
        self.at.phase, self.at.epoch, self.at.phase_best, self.at.stale = self.at.phase + 1, 0, None, 0
        self.optimisers = {}
        if self.at.phase < len(self.phases) and not _same_modules(phase, self.phases[self.at.phase]):
            self.at.best = self.at.best_epoch = self.at.best_weights = None
        self.store()

    def train_epoch(self, phase: Phase, asked: Steps, train: Batches, valid: Batches | None) -> bool:
        """One epoch, or what is left of it; whether the phase shall end early."""
        at = self.at
        if at.step == 0:
            phase.objective.start_epoch()
        for module in phase.objective.trainable().values():
            module.train()
        losses = Losses(self.device, phase.name, at)
        for batch in train.epoch(at.epochs, start=at.step):
            rates = self.set_paces(phase, at.epoch * len(train) + at.step, len(train))
            self.world.draw_alike()
            batch = to_device(self.world.share(batch), self.device, channels_last=self.channels_last)
            steps = list(
                take_steps(asked, batch, self.optimisers, cast=self.cast, clip=self.clip, world=self.world)
            )
            at.step += 1
            losses.add(steps)
            step = Step(
                phase=phase.name,
                epoch=at.epochs + 1,
                step=at.step,
                steps=len(train),
                losses={update.name: update.loss for update in steps},
                rates=rates,
            )
            for watcher in self.watchers:
                watcher.step_ended(step)
            if self.due():
                losses.settle()
                self.store()
        losses.settle()
        row = {"phase": phase.name, "epoch": at.epochs + 1, **losses.means()}
        if valid is not None and len(valid):
            row |= judge(
                phase, valid.epoch(at.epochs), epoch=at.epochs + 1, device=self.device, cast=self.cast,
                channels_last=self.channels_last, world=self.world,
            )  # fmt: skip
        last = self.set_paces(phase, (at.epoch + 1) * len(train) - 1, len(train))
        row["rate"] = max(rate for rates in last.values() for rate in rates)
        at.rows.append(row)
        at.epoch, at.epochs, at.step, at.sums, at.counts = at.epoch + 1, at.epochs + 1, 0, {}, {}
        stop = self.compare(row)
        for watcher in self.watchers:
            watcher.epoch_ended(row)
        if not stop and at.epoch < phase.epochs:  # at a phase's end the next phase's start is stored
            self.store()
        return stop

    def set_paces(self, phase: Phase, step: int, epoch_steps: int) -> dict[str, tuple[float, ...]]:
        """Set rates and momentum for this step of the phase; returns the rates by name of the module."""
        pace = phase.schedule(step, phase.epochs * epoch_steps, epoch_steps)
        rates = {}
        for name, optimiser in self.optimisers.items():
            rates[name] = tuple([peak * pace.factor for peak in phase.rates_of(name)])
            moved = pace.momentum if phase.optimiser_of(name).has_momentum() else None
            set_pace(optimiser, rates[name], moved)
        return rates

    def check_headline(self, phase: Phase, valid: Batches | None) -> None:
        """ValueError where epochs shall be compared by something that is not measured."""
        measured = ["valid_loss", *phase.metrics] if valid is not None and len(valid) else []
        if self.headline not in measured and (self.keep_best or self.patience is not None):
            raise ValueError(
                f"phase {phase.name!r} does not measure {self.headline!r}, by which epochs shall be compared;"
                f" it measures {', '.join(measured) or 'nothing: there is no validation part'}"
            )

    def compare(self, row: Mapping[str, Any]) -> bool:
        """Remember the epoch if it is the best so far; whether patience has run out."""
        at = self.at
        if self.headline not in row:
            return False
        value = self.sign * row[self.headline]
        if at.best is None or value < at.best:
            at.best, at.best_epoch = value, at.epochs
            at.best_weights = checkpoint.copy_weights(self.phases) if self.keep_best else None
        if at.phase_best is None or value < at.phase_best:
            at.phase_best, at.stale = value, 0
        else:
            at.stale += 1
        return self.patience is not None and at.stale >= self.patience

    def due(self) -> bool:
        """Whether it is time to store the state, by the leading process's clock."""
        if self.save is None:
            return False
        (seconds,) = self.world.tell(time.monotonic() - self.saved)
        return seconds >= self.save_every

    def store(self) -> None:
        """Hand the whole state to whoever stores it."""
        if self.save is not None:
            whole = self.world.whole
            state = checkpoint.take(self.phases, self.at, self.optimisers, seed=self.seed, whole=whole)
            if self.world.lead:
                self.save(state)
            self.saved = time.monotonic()


def _same_modules(one: Phase, other: Phase) -> bool:
    first, second = (list(each.objective.trainable().values()) for each in (one, other))
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))
