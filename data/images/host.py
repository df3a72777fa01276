"""The geometry and lighting of `augment` for bytes on the host, by OpenCV: a third of the time of tensors.

Bytes stay bytes until each has become its float: lighting is then a table of 256 entries for each image. What
is read between pixels is rounded to a byte, half a 255th at most, which tensors do not do.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

cv2.setNumThreads(1)  # one picture is too small for several, and stages have a number of threads of their own

PADDING = {
    "reflection": cv2.BORDER_REFLECT,
    "border": cv2.BORDER_REPLICATE,
    "zeros": cv2.BORDER_CONSTANT,
}
"""torch's names of what stands outside of an image."""


def change(
    images: Tensor, homographies: Tensor, tables: Tensor, size: tuple[int, int], *, padding: str
) -> Tensor:
    """`images` (N, C, H, W) uint8 read through `homographies` (N, 3, 3), as float32 (N, C, *size), stored
    channels last; `tables` (N, 256) float32: what becomes of each byte."""
    height, width = size
    count, channels = images.shape[:2]
    to_source = _to_pixels(images.shape[-2], images.shape[-1])
    matrices = to_source @ homographies.double().numpy() @ np.linalg.inv(_to_pixels(height, width))
    made = torch.empty((count, height, width, channels))
    floats, bytes_, entries = made.numpy(), images.permute(0, 2, 3, 1).numpy(), tables.numpy()
    for place, matrix in enumerate(matrices):
        moved = cv2.warpPerspective(
            np.ascontiguousarray(bytes_[place]), matrix, (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=PADDING[padding],
        )  # fmt: skip
        cv2.LUT(moved, entries[place], floats[place])
    return made.permute(0, 3, 1, 2)


def _to_pixels(height: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(3, 3): from normalised coordinates, -1 to 1 from edge to edge, to those of pixel centres."""
    return np.array([[width / 2, 0, (width - 1) / 2], [0, height / 2, (height - 1) / 2], [0, 0, 1]])
