"""A class for every pixel: a U-Net on any body, what it may start from, and its losses.

U-Net: Ronneberger, Fischer, Brox 2015; on a trained body with pixel shuffle: fastai's `DynamicUnet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.metrics import Average
from models.vision import backbones, small
from models.vision.head import initialise
from models.vision.unet_settings import UNetSettings

VOID = 255
"""Target of a pixel that is neither learned nor counted."""

WIDEST = 8
"""Widths of the decoder double from stage to stage up to this multiple of the finest one's."""


class Upsampling(nn.Module):
    """Features (N, C, H, W) to twice the size by pixel shuffle, brought to a wanted size where a body rounds.

    The weights begin as those of a nearest-neighbour upsampling (ICNR: Aitken et al. 2017), without its
    chequered patterns.
    """

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inward, 4 * outward, 1)
        kernel = torch.empty(outward, inward, 1, 1)
        nn.init.kaiming_normal_(kernel)
        with torch.no_grad():
            self.convolution.weight.copy_(kernel.repeat_interleave(4, dim=0))
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, `outward`, *size)."""
        larger = functional.pixel_shuffle(functional.relu(self.convolution(features)), 2)
        if tuple(larger.shape[-2:]) == size:
            return larger
        return functional.interpolate(larger, size, mode="nearest")


class Stage(nn.Module):
    """One step up: upsampled features beside the body's map of that size, then two convolutions."""

    def __init__(self, inward: int, skipped: int, outward: int) -> None:
        super().__init__()
        self.up = Upsampling(inward, outward)
        self.norm = nn.BatchNorm2d(skipped)
        self.convolutions = nn.Sequential(
            small.convolution(outward + skipped, outward, stride=1),
            small.convolution(outward, outward, stride=1),
        )

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """(N, `outward`, H, W) of the skip's height and width."""
        size = (skip.shape[-2], skip.shape[-1])
        joined = torch.cat([self.up(features, size), functional.relu(self.norm(skip))], dim=1)
        made: Tensor = self.convolutions(joined)
        return made


class Finish(nn.Module):
    """The last step: features beside the picture itself, a residual block, and a logit for each class."""

    def __init__(self, inward: int, channels: int, width: int, classes: int, *, full: bool) -> None:
        super().__init__()
        self.up = None if full else Upsampling(inward, width)
        joined = channels + (inward if full else width)
        self.first = small.convolution(joined, width, stride=1)
        self.residual = small.Residual(width)
        self.logits = nn.Conv2d(width, classes, 1)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """(N, classes, H, W)."""
        size = (images.shape[-2], images.shape[-1])
        larger = features if self.up is None else self.up(features, size)
        logits: Tensor = self.logits(self.residual(self.first(torch.cat([larger, images], dim=1))))
        return logits


class UNet(nn.Module):
    """Float images (N, C, H, W) in [0, 1] to logits (N, classes, H, W); normalisation is inside."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        body: nn.Sequential,
        *,
        classes: int,
        channels: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.name = name
        self.body = body
        pyramid = backbones.FeatureMaps(body, channels=channels)
        self._pyramid = (pyramid,)  # not a second place of the body's weights in the state
        full = _begins_full(pyramid, channels)
        maps = pyramid.channels
        widths = [min(width * 2**place, width * WIDEST) for place in range(len(maps))]
        middle = min(maps[-1], 2 * width * WIDEST)
        self.middle = nn.Sequential(
            nn.BatchNorm2d(maps[-1]),
            nn.ReLU(),
            small.convolution(maps[-1], middle, stride=1),
            small.convolution(middle, middle, stride=1),
        )
        outward = list(reversed(widths[:-1]))
        edges = pairwise([middle, *outward])
        skips = reversed(maps[:-1])
        self.stages = nn.ModuleList(
            Stage(before, skip, after) for (before, after), skip in zip(edges, skips, strict=True)
        )
        last = outward[-1] if outward else middle
        self.finish = Finish(last, channels, width, classes, full=full)
        for module in (self.middle, self.finish.first, self.finish.residual, self.finish.logits):
            module.apply(initialise)
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.convolutions.apply(initialise)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel."""
        normal = (images - self.mean) / self.std
        *skips, features = self._pyramid[0](normal)
        features = self.middle(features)
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            features = stage(features, skip)
        logits: Tensor = self.finish(features, normal)
        return logits

    def parameter_groups(self) -> list[list[nn.Module]]:
        """Layer groups of the body (a torchvision body has several), then the decoder as one."""
        known = self.name in backbones.BACKBONES
        body = backbones.backbone_groups(self.name, self.body) if known else [[self.body]]
        return [*body, [self.middle, self.stages, self.finish]]


def build_unet(
    settings: UNetSettings, *, classes: int, channels: int = 3, mean: Sequence[float], std: Sequence[float]
) -> UNet:
    """A U-Net with random weights from torch's generator; mean, std: per channel of images in [0, 1]."""
    if settings.name in backbones.BACKBONES:
        body = backbones.build_backbone(settings.name, channels=channels)
    else:
        body, _ = small.build_convolutional(
            channels,
            classes,
            widths=settings.widths or small.WIDTHS,
            norm=settings.name != "cnn",
            residual=settings.name == "resnet",
        )
    return UNet(
        settings.name, body, classes=classes, channels=channels, width=settings.width, mean=mean, std=std
    )


def start_from(network: UNet, state: Mapping[str, Tensor]) -> list[str]:
    """Load the body (and its normalisation) from a torchvision state dict, or from any network of ours that
    has the same body; from another U-Net of the same shapes the decoder too, but for what names its classes.

    Returns the network's names of what was loaded. ValueError names what does not fit.
    """
    what = f"the body of {network.name}"
    if not any(key.startswith("body.") for key in state):
        if network.name not in backbones.BACKBONES:
            raise ValueError(f"the starting weights are of no network of ours, which {what} needs")
        published = backbones.body_weights(network.name, network.body, state)
        return [f"body.{key}" for key in backbones.load_strictly(network.body, published, what=what)]
    body = {key.removeprefix("body."): value for key, value in state.items() if key.startswith("body.")}
    loaded = [f"body.{key}" for key in backbones.load_strictly(network.body, body, what=what)]
    own = network.state_dict()
    others = [key for key in own if not key.startswith("body.") and key in state]
    fitting = [key for key in others if state[key].shape == own[key].shape]
    with torch.no_grad():
        for key in fitting:
            own[key].copy_(state[key])
    return loaded + fitting


class MaskLoss:
    """Cross-entropy of the pixels that are not VOID, and soft Dice (Milletari et al. 2016) where wanted."""

    def __init__(self, *, dice: float = 0.0) -> None:
        """dice: weight of the Dice loss beside the cross-entropy."""
        self.dice = dice

    def __call__(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Scalar from logits (N, C, H, W) and int64 masks (N, H, W); 0 where every pixel is VOID."""
        counted = masks != VOID
        total = functional.cross_entropy(logits, masks, ignore_index=VOID, reduction="sum")
        loss = total / counted.sum().clamp(min=1)
        if self.dice:
            loss = loss + self.dice * self._dice(logits, masks, counted)
        return loss

    @staticmethod
    def _dice(logits: Tensor, masks: Tensor, counted: Tensor) -> Tensor:
        """1 - mean Dice of the classes that occur in the batch."""
        shares = logits.softmax(dim=1) * counted[:, None]
        truth = functional.one_hot(torch.where(counted, masks, 0), logits.shape[1]).movedim(-1, 1)
        truth = truth * counted[:, None]
        size = truth.sum((0, 2, 3))
        both = (shares * truth).sum((0, 2, 3))
        dice = (2 * both + 1) / (shares.sum((0, 2, 3)) + size + 1)
        occurs = (size > 0).to(dice.dtype)
        return 1 - (dice * occurs).sum() / occurs.sum().clamp(min=1)


def pixel_accuracy() -> Average:
    """Share of the pixels that are not VOID whose highest logit is their class (course: `acc_camvid`)."""
    return Average(lambda logits, masks: (logits.argmax(1) == masks)[masks != VOID].float())


@torch.no_grad()
def _begins_full(pyramid: backbones.FeatureMaps, channels: int, size: int = 64) -> bool:
    """Whether the first map has the images' own size."""
    modes = [(module, module.training) for module in pyramid.modules()]
    pyramid.eval()
    first = pyramid(torch.zeros(1, channels, size, size))[0]
    for module, mode in modes:
        module.training = mode
    return int(first.shape[-1]) == size
