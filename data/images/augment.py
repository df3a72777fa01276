"""Random geometry and lighting of a batch on its device: one homography and one resampling per image."""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from data.images.settings import Augmentation

CORNERS = ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))
"""(x, y) of an image's corners in normalised coordinates: left top, left bottom, right top, right bottom."""


CHUNK = 8
"""Images that a CPU augments at once: what lies between the steps stays in its cache, in half the time."""


def generator_of(*numbers: int) -> torch.Generator:
    """A generator on the CPU seeded by all of `numbers`, such as (seed, epoch, step): no state is carried
    along, so that any batch can be made again without those before it."""
    digest = hashlib.blake2b(repr(tuple(map(int, numbers))).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def augment(images: Tensor, augmentation: Augmentation, *, size: int, generator: torch.Generator) -> Tensor:
    """`images` (N, C, S, S), uint8 or float32 in [0, 1], as augmented (N, C, size, size) float32 in [0, 1],
    stored channels last, on their device.

    Every image has its own parameters; they come from `generator` on the CPU, so all devices draw the same.
    """
    geometry = homographies(augmentation, len(images), size=size, generator=generator)
    shift, scale = lightings(augmentation, len(images), generator=generator)
    return change(images, geometry, shift, scale, (size, size), padding=augmentation.padding)


def change(
    images: Tensor,
    homographies: Tensor,
    shift: Tensor,
    scale: Tensor,
    size: tuple[int, int],
    *,
    padding: str = "reflection",
) -> Tensor:
    """`images` (N, C, H, W), uint8 or float32 in [0, 1], through `warp` and `light`, as float32 (N, C, *size)
    in [0, 1], stored channels last, on their device.

    Bytes on the host are OpenCV's, in a third of the time; it rounds to bytes between the two.
    """
    if images.dtype == torch.uint8 and images.device.type == "cpu":
        from data.images import host

        every = as_floats(torch.arange(256, dtype=torch.uint8)).expand(len(images), 1, 1, 256)
        tables = light(every, shift, scale).reshape(len(images), 256)
        return host.change(images, homographies, tables, size, padding=padding)
    count, channels = images.shape[:2]
    made = torch.empty((count, *size, channels), device=images.device).permute(0, 3, 1, 2)
    step = CHUNK if images.device.type == "cpu" else max(count, 1)
    for few in (slice(start, start + step) for start in range(0, count, step)):
        warped = warp(as_floats(images[few]), homographies[few], size, padding=padding)
        made[few] = light(warped, shift[few], scale[few])
    return made


def as_floats(images: Tensor) -> Tensor:
    """uint8 as float32 in [0, 1]; floats as they are."""
    return images if images.is_floating_point() else images.to(torch.float32).div_(255)


def homographies(
    augmentation: Augmentation, count: int, *, size: int, generator: torch.Generator, aspect: float = 1.0
) -> Tensor:
    """(count, 3, 3) float64 on the CPU: where each image's output pixels are read from.

    A matrix takes (x, y, 1) of the output in normalised coordinates, -1 to 1 from edge to edge, to the
    source. They compose as in fastai v1: pad and crop, flip, rotate, zoom, warp. `aspect`: width / height of
    the image, which keeps a rotation rigid. `size`: output pixels a side, for `pad`.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(count, *shape, generator=generator, dtype=torch.float64)
        return low + (high - low) * drawn

    def chosen(probability: float) -> Tensor:
        return uniform(0, 1) < probability

    # Everything is drawn whether it is used or not: a change of one setting leaves the others' numbers alone.
    cells = round(augmentation.pad * size)
    moves = torch.randint(-cells, cells + 1, (count, 2), generator=generator).double() * 2 / size
    symmetry = torch.randint(0, 8, (count,), generator=generator)
    degrees = uniform(-augmentation.rotate, augmentation.rotate) * chosen(augmentation.p_affine)
    zoom = torch.where(chosen(augmentation.p_affine), uniform(1, augmentation.zoom), 1.0)
    focus = uniform(-1, 1, 2)
    corners = uniform(-augmentation.warp, augmentation.warp, 4) * chosen(augmentation.p_affine)[:, None]

    matrix = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    if cells:
        matrix[:, :2, 2] = moves
    if augmentation.flip != "none":
        matrix = matrix @ _symmetries(symmetry if augmentation.flip == "dihedral" else symmetry & 1)
    if augmentation.rotate:
        matrix = matrix @ _rotations(degrees, aspect)
    if augmentation.zoom > 1:
        matrix = matrix @ _zooms(zoom, focus)
    if augmentation.warp:
        matrix = matrix @ _warps(corners)
    return matrix


def lightings(augmentation: Augmentation, count: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(shift, scale) of every image, (count,) float64 on the CPU: added to, multiplied with a pixel's
    logit."""
    p, strength = augmentation.p_lighting, augmentation.lighting
    drawn = torch.rand(4, count, generator=generator, dtype=torch.float64)
    change = 0.5 * (1 + strength * (2 * drawn[0] - 1))
    shift = torch.where(drawn[1] < p, torch.logit(change), 0.0)
    scale = torch.where(drawn[3] < p, torch.exp(-math.log1p(-strength) * (2 * drawn[2] - 1)), 1.0)
    return shift, scale


def warp(
    images: Tensor,
    homographies: Tensor,
    size: int | tuple[int, int],
    *,
    mode: str = "bilinear",
    padding: str = "reflection",
) -> Tensor:
    """`images` (N, C, H, W) float read through `homographies` (N, 3, 3), as (N, C, *size).

    `mode`: bilinear, or nearest for masks. `padding`: reflection (about the edge), border or zeros. An image
    whose matrix is the identity, at the same size, keeps its exact values.
    """
    height, width = (size, size) if isinstance(size, int) else size
    same = _is_identity(homographies) if images.shape[-2:] == (height, width) else None
    if same is not None and bool(same.all()):
        return images
    grid = _sampling_grid(homographies.to(images.device, torch.float32), height, width)
    if padding == "reflection" and _within(homographies, 3.0):
        # What `grid_sample` does for any distance; from 1 to 3 beyond an edge lies one mirror image.
        grid, padding = grid.clamp(-1, 1).mul_(2).sub_(grid), "border"
    warped: Tensor = F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)
    if same is not None and bool(same.any()):
        kept = same.to(images.device)
        warped[kept] = images[kept]
    return warped


def warp_points(points: Tensor, homographies: Tensor) -> Tensor:
    """Where `points` (N, P, 2) of the source, (x, y) in normalised coordinates, stand after `warp`."""
    inverse = torch.linalg.inv(homographies.double())
    ahead = torch.cat([points.double(), torch.ones_like(points[..., :1]).double()], -1) @ inverse.mT
    moved: Tensor = ahead[..., :2] / ahead[..., 2:]
    return moved.to(points.dtype)


def light(images: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Brightness and contrast of `images` (N, C, H, W) in [0, 1]: sigmoid((logit + shift) * scale), with a
    `shift` and a `scale` (N,) for each image. With 0 and 1 an image keeps its exact values."""
    same = (shift == 0) & (scale == 1)
    shift, scale = (value.to(images.device, torch.float32)[:, None, None, None] for value in (shift, scale))
    lit = torch.logit(images, eps=1e-7).add_(shift).mul_(scale).sigmoid_()
    if bool(same.any()):
        kept = same.to(images.device)
        lit[kept] = images[kept]
    return lit


def _sampling_grid(homographies: Tensor, height: int, width: int) -> Tensor:
    """(N, height, width, 2), stored as two planes: where each output pixel is read. No matrix product, which
    some devices round."""
    h = homographies[..., None]
    across = (h[:, :, 0] * _centres(width, homographies.device))[:, :, None, :]
    down = (h[:, :, 1] * _centres(height, homographies.device) + h[:, :, 2])[:, :, :, None]
    return (across[:, :2] + down[:, :2]).div_(across[:, 2:] + down[:, 2:]).permute(0, 2, 3, 1)


def _within(homographies: Tensor, bound: float) -> bool:
    """Whether no output pixel is read farther than `bound` from the middle of its source: surely, if so."""
    most = homographies.abs().sum(-1)
    depth = 2 * homographies[:, 2, 2] - most[:, 2]  # at least
    return bool((most[:, :2] <= bound * depth[:, None]).all())


def _centres(count: int, device: torch.device) -> Tensor:
    """Normalised coordinates of the pixel centres."""
    return (torch.arange(count, dtype=torch.float32, device=device) * 2 + 1) / count - 1


def _is_identity(homographies: Tensor) -> Tensor:
    identity = torch.eye(3, dtype=homographies.dtype, device=homographies.device)
    return (homographies == identity).flatten(1).all(1)


def _symmetries(numbers: Tensor) -> Tensor:
    """The square's symmetry of each number from 0 to 7: bits 0 and 1 mirror x and y, bit 2 swaps them."""
    x, y = 1.0 - 2 * (numbers & 1).double(), 1.0 - 2 * (numbers >> 1 & 1).double()
    swapped = (numbers >> 2 & 1).bool()
    zero = torch.zeros_like(x)
    rows = [torch.where(swapped, zero, x), torch.where(swapped, x, zero), zero]
    rows += [torch.where(swapped, y, zero), torch.where(swapped, zero, y), zero]
    return torch.stack([*rows, zero, zero, zero + 1], -1).view(-1, 3, 3)


def _rotations(degrees: Tensor, aspect: float) -> Tensor:
    radians = torch.deg2rad(degrees)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    rows = [cos, -sin / aspect, zero, sin * aspect, cos, zero, zero, zero, zero + 1]
    return torch.stack(rows, -1).view(-1, 3, 3)


def _zooms(scale: Tensor, focus: Tensor) -> Tensor:
    matrix = torch.eye(3, dtype=torch.float64).repeat(len(scale), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / scale
    matrix[:, :2, 2] = (1 - 1 / scale)[:, None] * focus
    return matrix


def _warps(moves: Tensor) -> Tensor:
    """fastai v1's `symmetric_warp`: opposite corners move apart or together by the four `moves` (N, 4); the
    matrix takes the moved corners to the corners of the image."""
    right, left, bottom, top = (1 + moves).unbind(-1)  # half the length of each side, once moved
    x, y = (left - right) / (left + right), (top - bottom) / (top + bottom)
    ahead = [2 * top * bottom / (top + bottom), x * (bottom - top) / 2, x * (top + bottom) / 2]
    ahead += [y * (right - left) / 2, 2 * left * right / (left + right), y * (left + right) / 2]
    back = torch.linalg.inv(torch.stack([*ahead, x, y, torch.ones_like(x)], -1).view(-1, 3, 3))
    matrix: Tensor = back / back[:, 2:, 2:]
    return matrix
