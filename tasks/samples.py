"""What a network makes as it learns: one picture after every epoch, whole also after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from recipes.recipe import Figure


class Samples:
    """A watcher of `fit` that has the recipe draw. The pictures lie beside the checkpoint until training
    ends, so a training that goes on after a kill has those of the epochs before."""

    def __init__(
        self,
        sample: Callable[[nn.Module, Mapping[str, Any], Any], Figure] | None,
        network: nn.Module,
        facts: Mapping[str, Any],
        settings: Any,
        folder: Path,
    ) -> None:
        self.sample, self.network, self.facts, self.settings = sample, network, facts, settings
        self.folder = folder

    def open(self, *, anew: bool) -> None:
        """Before the first step; a new training has nothing to do with pictures of another one."""
        if anew:
            shutil.rmtree(self.folder, ignore_errors=True)

    def began(self, phases: Any, position: Any) -> None:
        """Of the watcher."""

    def step_ended(self, step: Any) -> None:
        """Of the watcher."""

    def epoch_ended(self, row: Mapping[str, Any]) -> None:
        """Draw. The network's mode and torch's generators are as they were before."""
        if self.sample is None:
            return
        import torch

        from tasks.evaluate import draw

        self.folder.mkdir(parents=True, exist_ok=True)
        training = self.network.training
        self.network.eval()
        with torch.random.fork_rng(), torch.no_grad():
            figure = self.sample(self.network, self.facts, self.settings)
        self.network.train(training)
        draw(figure, self.folder / f"epoch-{row['epoch']:03}.png")

    def finished(self, history: Any) -> None:
        """Of the watcher."""

    def keep(self, folder: Path) -> bool:
        """Move the pictures to where results are; whether there are any."""
        if self.folder.is_dir():
            shutil.copytree(self.folder, folder)
        return folder.is_dir()
