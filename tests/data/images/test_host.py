"""Bytes on the host are changed as tensors are, but for the rounding between."""

import pytest
import torch
from torch import Tensor

from data.images.augment import as_floats, augment, change, generator_of, homographies, lightings
from data.images.settings import Augmentation

LEVEL = 1 / 255


def pictures(count: int, height: int, width: int, *, channels: int = 3) -> Tensor:
    """(count, channels, height, width) uint8, stored channels last: noise over coarse colours."""
    coarse = torch.rand(count, channels, 6, 5, generator=generator_of(1)) * 0.8
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    noise = torch.rand(count, channels, height, width, generator=generator_of(2)) * 0.2
    bytes_ = ((smooth + noise).clamp(0, 1) * 255).to(torch.uint8)
    return bytes_.contiguous(memory_format=torch.channels_last)


def both(images: Tensor, augmentation: Augmentation, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What the host makes of bytes, and tensors of the same values."""
    drawn = generator_of(3)
    matrices = homographies(augmentation, len(images), size=min(size), generator=drawn)
    shift, scale = lightings(augmentation, len(images), generator=drawn)
    made = [
        change(each, matrices, shift, scale, size, padding=augmentation.padding)
        for each in (images, as_floats(images))
    ]
    return made[0], made[1]


@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
@pytest.mark.parametrize(("channels", "size"), [(3, (32, 32)), (1, (32, 32)), (3, (24, 40))])
def test_the_host_makes_of_bytes_what_tensors_make_of_floats(
    padding: str, channels: int, size: tuple[int, int]
) -> None:
    """Rounded to a byte before a lighting whose slope is 1.25 at most: within one level."""
    images = pictures(24, 36, 44, channels=channels)
    augmentation = Augmentation(p_affine=1.0, rotate=30.0, padding=padding)
    host, tensors = both(images, augmentation, size)
    assert host.shape == tensors.shape == (24, channels, *size)
    assert host.is_contiguous(memory_format=torch.channels_last)
    assert (host - tensors).abs().max() < LEVEL
    assert (host - tensors).abs().mean() < LEVEL / 3
    assert (host - tensors).mean().abs() < LEVEL / 20, "rounding is no drift"


def test_what_is_not_moved_is_exact() -> None:
    images = pictures(8, 32, 32)
    host, tensors = both(images, Augmentation(flip="none", rotate=0.0, zoom=1.0, warp=0.0), (32, 32))
    torch.testing.assert_close(host, tensors, rtol=0, atol=1e-6)
    flipped = Augmentation(flip="horizontal", rotate=0.0, zoom=1.0, warp=0.0, lighting=0.0)
    made = augment(images, flipped, size=32, generator=generator_of(4))
    plain = as_floats(images)
    for one, other in zip(made, plain, strict=True):
        assert torch.equal(one, other) or torch.equal(one, other.flip(-1))


def test_any_memory_order_gives_the_same() -> None:
    images = pictures(4, 30, 30)
    made = [
        augment(each, Augmentation(), size=24, generator=generator_of(5))
        for each in (images, images.contiguous())
    ]
    assert torch.equal(made[0], made[1])
