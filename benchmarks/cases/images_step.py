"""Pictures: training steps of a ResNet-18 on batches that are ready."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.case import BARE, OURS, PEER, Case, Round
from benchmarks.worker import SEED

RATE = 1e-3
CASES = [
    Case(
        name="images-step", title="ResNet-18 training step, 128 pixels", unit="images", work=6 * 32,
        sizes={"size": 128, "classes": 8, "batch_size": 32, "steps": 6}, goals={PEER: 1.8, BARE: 0.97},
        rest=1,
        note="On an accelerator ours is compiled; on the processor that took 29 s and gained nothing."
        " fastai computes in float32, ours and the bare loop in bf16 where the hardware has it, with"
        " channels last. No checkpoint is stored, which a training does once a minute and at an epoch's end.",
    )
]  # fmt: skip


def make(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Nothing: the batches are drawn in memory, alike in all variants."""


def _drawn(sizes: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    import torch

    draw = torch.Generator().manual_seed(SEED)
    count, side = sizes["batch_size"], sizes["size"]
    return [
        (
            torch.rand(count, 3, side, side, generator=draw),
            torch.randint(sizes["classes"], (count,), generator=draw),
        )
        for _ in range(sizes["steps"])
    ]


def _network(sizes: Mapping[str, Any]) -> Any:
    from models.vision.backbones import IMAGENET_MEAN, IMAGENET_STD
    from models.vision.classifier import build_classifier
    from models.vision.settings import NetworkSettings

    settings = NetworkSettings(name="resnet18")
    return build_classifier(settings, classes=sizes["classes"], mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _ready(sizes: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """On the device in channels-last layout, as this project's loaders make them."""
    import torch

    from models.hardware import device

    here = device()
    return [
        (images.to(here).contiguous(memory_format=torch.channels_last), targets.to(here))
        for images, targets in _drawn(sizes)
    ]


class Batches:
    """The same batches in every epoch."""

    def __init__(self, batches: list[tuple[Any, Any]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """The same."""
        return iter(self.batches[start:])


def ours(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The loop, with the recipe's network and the defaults of `fine_tune`."""
    import torch

    from models.fit import fit
    from models.hardware import device, keep_freed_memory
    from models.objective import Supervised
    from models.phases import Phase, constant
    from models.watchers import Progress

    keep_freed_memory()
    batches = Batches(_ready(sizes))

    def ready() -> Round:
        objective = Supervised(_network(sizes).to(device()), torch.nn.CrossEntropyLoss())
        phase = Phase(name="race", objective=objective, epochs=1, rates=(RATE,) * 3, schedule=constant())

        def steps() -> float:
            history = fit(
                [phase], lambda _: (batches, None), [Progress()], seed=SEED, device=device(),
                precision="auto", channels_last=True, compiled=device().type == "cuda",
            )  # fmt: skip
            return float(history.rows[-1]["train_loss"])

        return steps

    return ready


def bare(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """The same network, precision and layout in the plainest loop."""
    import torch

    from benchmarks.training import bare_loop
    from models.hardware import device
    from models.steps import autocast

    batches, loss = _ready(sizes), torch.nn.CrossEntropyLoss()
    cast = autocast("auto", device())

    class Cast(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            with cast():
                return self.network(images)

    def ready() -> Round:
        network = _network(sizes).to(device()).to(memory_format=torch.channels_last)
        return lambda: bare_loop(
            batches, Cast(network), lambda outputs, targets: loss(outputs.float(), targets), rate=RATE
        )

    return ready


def fastai(folder: Path, sizes: Mapping[str, Any]) -> Callable[[], Round]:
    """Its Learner on its own ResNet-18 with its own head; the batches are normalised before."""
    from fastai.data.core import DataLoaders
    from fastai.losses import CrossEntropyLossFlat
    from fastai.torch_core import default_device
    from fastai.vision.learner import create_vision_model
    from torchvision.models import resnet18

    from benchmarks.training import fastai_loop

    here = default_device()
    batches = [((images - 0.45).div_(0.225).to(here), targets.to(here)) for images, targets in _drawn(sizes)]
    loaders = DataLoaders(batches, batches, device=here)

    def ready() -> Round:
        network = create_vision_model(resnet18, sizes["classes"], pretrained=False).to(here)
        return lambda: fastai_loop(loaders, network, CrossEntropyLossFlat(), rate=RATE)

    return ready


def operations(sizes: Mapping[str, Any]) -> float:
    """Of the step of one picture."""
    from benchmarks.hardware_rate import operations as counted

    return counted(_network(sizes), _drawn(sizes)[0][0]) / float(sizes["batch_size"])


VARIANTS = {OURS: ours, BARE: bare, PEER: fastai}
