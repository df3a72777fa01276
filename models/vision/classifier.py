"""One network that classifies pictures: normalisation, body and head, and the weights it may start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models.vision import backbones, small
from models.vision.head import ConcatPool, build_head
from models.vision.settings import FLAT, NetworkSettings


class ImageClassifier(nn.Module):
    """Float images (N, C, H, W) in [0, 1] to logits (N, classes); normalisation is inside."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        body: nn.Sequential,
        head: nn.Sequential,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.name = name
        self.body = body
        self.head = head
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def features(self, images: Tensor) -> Tensor:
        """The body's last feature map (N, C', H', W')."""
        features: Tensor = self.body(self.normalised(images))
        return features

    def normalised(self, images: Tensor) -> Tensor:
        """(images - mean) / std, in the layout of the images."""
        # Mean and deviation get the shape and layout of one image: to broadcast three values along the
        # innermost axis, as channels-last would, takes about twice the time on a CPU.
        zeros = torch.zeros_like(images[:1])
        return (images - (zeros + self.mean)).div_(zeros + self.std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def fixed(self, images: Tensor) -> Tensor:
        """What a frozen body hands on: its features, pooled already where the head begins with that."""
        pooled: Tensor = self.head[: self._pools()](self.features(images))
        return pooled

    def learned(self) -> nn.Sequential:
        """The head without that pooling: `learned()(fixed(images))` are the logits."""
        return self.head[self._pools() :]

    def _pools(self) -> int:
        """Leading layers of the head without weights."""
        return 1 if isinstance(self.head[0], ConcatPool) else 0

    def parameter_groups(self) -> list[list[nn.Module]]:
        """Layer groups from body to head; a torchvision body has several, a body without weights none."""
        if self.name in backbones.BACKBONES:
            body = backbones.backbone_groups(self.name, self.body)
        else:
            body = [[self.body]] if next(self.body.parameters(), None) is not None else []
        return [*body, [self.head]]


def build_classifier(
    settings: NetworkSettings,
    *,
    classes: int,
    channels: int = 3,
    mean: Sequence[float],
    std: Sequence[float],
    size: int | None = None,
) -> ImageClassifier:
    """A classifier with random weights from torch's generator.

    mean, std: per channel of images in [0, 1]; all of `std` above 0.
    size: side of the images in pixels; needed by `logistic` and `mlp`, which see one size only.
    ValueError where the arguments do not fit together.
    """
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise ValueError(f"mean and std must have {channels} values, all of std above 0: {mean}, {std}")
    if classes < 2:
        raise ValueError(f"a classifier needs at least two classes, not {classes}")
    name = settings.name
    if name in backbones.BACKBONES:
        body = backbones.build_backbone(name, channels=channels)
        head = build_head(
            backbones.BACKBONES[name].channels,
            classes,
            hidden=(512,) if settings.hidden is None else settings.hidden,
            dropout=0.5 if settings.dropout is None else settings.dropout,
            norm=bool(settings.final_norm),
        )
    elif name in FLAT:
        if size is None:
            raise ValueError(f"the network {name} sees images of one size: give it")
        hidden = () if name == "logistic" else settings.hidden or small.HIDDEN
        body, head = small.build_flat(channels * size * size, classes, hidden=hidden)
    else:
        body, head = small.build_convolutional(
            channels,
            classes,
            widths=settings.widths or small.WIDTHS,
            norm=name != "cnn",
            residual=name == "resnet",
        )
    return ImageClassifier(name, body, head, mean=mean, std=std)


def start_from(network: ImageClassifier, state: Mapping[str, Tensor], *, head: bool = False) -> list[str]:
    """Load the body, and its normalisation, from a torchvision state dict or another classifier's.

    head: load the other classifier's head as well (same classes).
    Returns the network's names of what was loaded; buffers included. ValueError names what does not fit.
    """
    what = f"the body of {network.name}"
    if any(key.startswith("body.") for key in state):
        own = {key.removeprefix("body."): value for key, value in state.items() if key.startswith("body.")}
        loaded = [f"body.{key}" for key in backbones.load_strictly(network.body, own, what=what)]
        for key in ("mean", "std"):
            buffer = network.get_buffer(key)
            if key in state and state[key].shape == buffer.shape:
                buffer.copy_(state[key])
                loaded.append(key)
        if head:
            above = {
                key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")
            }
            names = backbones.load_strictly(network.head, above, what=f"the head of {network.name}")
            loaded += [f"head.{key}" for key in names]
        return loaded
    if network.name not in backbones.BACKBONES:
        raise ValueError(f"the starting weights are no classifier's of ours, which {what} needs")
    if head:
        raise ValueError("published weights have no head of ours to load")
    published = backbones.body_weights(network.name, network.body, state)
    return [f"body.{key}" for key in backbones.load_strictly(network.body, published, what=what)]
