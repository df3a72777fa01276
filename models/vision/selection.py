"""From an answer for every anchor to a few boxes; exported models bundle it (torch and torchvision only)."""

from __future__ import annotations

import torch
from torch import Tensor


def select(
    boxes: Tensor, scores: Tensor, *, floor: float, overlap: float, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes (K, 4), scores (K,) and classes (K,) that stay, best first.

    boxes (A, 4), scores (A, C) in [0, 1]. Of each class those with a score of at least `floor`; of two that
    overlap by more than `overlap` (intersection over union) the better one stays; at most `most` in all.
    """
    from torchvision.ops import batched_nms

    anchor, kind = torch.nonzero(scores >= floor, as_tuple=True)
    found = scores[anchor, kind]
    candidates = boxes[anchor]
    solid = (candidates[:, 2:] > candidates[:, :2]).all(dim=1)
    anchor, kind, found, candidates = anchor[solid], kind[solid], found[solid], candidates[solid]
    kept = batched_nms(candidates, found, kind, overlap)[:most]
    return candidates[kept], found[kept], kind[kept]
