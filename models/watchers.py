"""What can be seen of a training, and the progress bar: watchers look on and never steer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from torch import Tensor
from tqdm import tqdm

from models.checkpoint import Position
from models.phases import Phase


@dataclass(frozen=True, kw_only=True)
class Step:
    """What watchers see after each batch."""

    phase: str
    epoch: int
    """Counted from 1 over all phases."""
    step: int
    """Counted from 1 within the epoch."""
    steps: int
    losses: Mapping[str, Tensor]
    """Last loss by name; on the device of the training: reading it waits for the device."""
    rates: Mapping[str, tuple[float, ...]]
    """Rate of each layer group by name of the module."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What happened."""

    rows: tuple[Mapping[str, Any], ...]
    """One per epoch: phase, epoch (from 1 over all phases), train_loss (train_loss_NAME where several modules
    train), valid_loss, the phase's metrics, rate (peak group's at the last step)."""
    best_epoch: int | None
    """The epoch with the best headline; None where nothing was validated."""
    kept_epoch: int
    """The epoch whose weights the modules hold now."""


class Watcher(Protocol):
    """Observes a training; what it raises stops the training, what it returns is ignored."""

    def began(self, phases: Sequence[Phase], position: Position) -> None:
        """Before the first step, or where a checkpoint goes on."""
        ...

    def step_ended(self, step: Step) -> None:
        """After every batch."""
        ...

    def epoch_ended(self, row: Mapping[str, Any]) -> None:
        """After validation; `row` is the new row of the history."""
        ...

    def finished(self, history: History) -> None:
        """After the last epoch."""
        ...


class Progress:
    """A bar with the loss for each epoch, then one line with its losses and metrics.

    Where the stream is no terminal, only the lines.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()  # asked once: it is a call of the system
        self.bar: tqdm[Any] | None = None
        self.epochs = 0

    def began(self, phases: Sequence[Phase], position: Position) -> None:
        """Say where a checkpoint goes on."""
        self.epochs = sum(phase.epochs for phase in phases)
        if position.epochs or position.step:
            self._say(f"goes on after epoch {position.epochs}, step {position.step}")

    def step_ended(self, step: Step) -> None:
        """Move the bar; losses are read only when it is drawn, as reading waits for the device."""
        if not self.live:
            return
        if self.bar is None:
            title = f"{step.phase} {step.epoch}/{self.epochs}"
            self.bar = tqdm(
                total=step.steps, initial=step.step - 1, desc=title, file=self.stream, leave=False
            )
        if self.bar.update(1):
            shown = {name: f"{loss.item():.4f}" for name, loss in step.losses.items()}
            single = {"loss": next(iter(shown.values()))} if len(shown) == 1 else shown
            self.bar.set_postfix(single, refresh=False)

    def epoch_ended(self, row: Mapping[str, Any]) -> None:
        """One line per epoch."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        figures = "  ".join(
            f"{name} {value:.4g}" if name == "rate" else f"{name} {value:.4f}"
            for name, value in row.items()
            if name not in ("phase", "epoch")
        )
        self._say(f"{row['phase']} {row['epoch']}/{self.epochs}  {figures}")

    def finished(self, history: History) -> None:
        """Say which epoch's weights were kept, where it is not the last."""
        if history.rows and history.kept_epoch != history.rows[-1]["epoch"]:
            self._say(f"kept the weights of epoch {history.kept_epoch}")

    def _say(self, line: str) -> None:
        tqdm.write(line, file=self.stream)
