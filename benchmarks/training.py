"""The two loops that are raced: this project's as the stage `fine_tune` calls it, and the plainest one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm)


def fit_once(
    objective: Any,
    train: Any,
    *,
    rate: float,
    epochs: int = 1,
    valid: Any = None,
    metrics: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> float:
    """An epoch of the project's loop, with the checkpoints and the progress of the stage; the last loss."""
    from models.fit import fit
    from models.hardware import keep_freed_memory
    from models.phases import Phase, constant, layer_groups
    from models.watchers import Progress
    from tasks.checkpoint import Checkpoint

    keep_freed_memory()
    (module,) = objective.trainable().values()
    phase = Phase(
        name="race", objective=objective, epochs=epochs, rates=(rate,) * len(layer_groups(module)),
        schedule=constant(), metrics=metrics or {},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        checkpoint = Checkpoint(Path(place) / "checkpoint", "race")
        history = fit(
            [phase], lambda _: (train, valid), [Progress()], seed=42, save=checkpoint.save, **settings or {}
        )
    return float(history.rows[-1]["train_loss"])


def bare_loop(
    batches: Iterable[Sequence[Tensor]], network: nn.Module, loss: Callable[..., Tensor], *, rate: float
) -> float:
    """Forward, backward, step, and nothing else; the last loss."""
    optimiser = adamw(network, rate)
    network.train()
    value = torch.zeros(())
    for *inputs, targets in batches:
        value = loss(network(*inputs), targets)
        torch.autograd.backward(value)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return float(value)


def adamw(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """fastai's Adam: decoupled decay 0.01, none on norms and biases; one fused kernel."""
    spared = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name == "bias"
    }
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in trained if id(each) not in spared], "weight_decay": 0.01},
        {"params": [each for each in trained if id(each) in spared], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.AdamW(filled, lr=rate, betas=(0.9, 0.99), eps=1e-5, fused=True)


def fastai_loop(
    loaders: Any, network: nn.Module, loss: Any, *, rate: float, kind: Any = None, epochs: int = 1
) -> float:
    """fastai's Learner without progress bar, log or validation; the last loss."""
    from fastai.callback.core import Callback, CancelValidException
    from fastai.callback.progress import ProgressCallback
    from fastai.learner import Learner

    last: list[float] = []

    class TrainOnly(Callback):  # type: ignore[misc]
        def after_train(self) -> None:
            last.append(float(self.learn.loss))

        def before_validate(self) -> None:
            raise CancelValidException()

    learner = (kind or Learner)(loaders, network, loss_func=loss, lr=rate, cbs=[TrainOnly()])
    learner.remove_cbs(ProgressCallback)
    learner.logger = lambda *_: None
    learner.fit(epochs)
    return last[-1]
