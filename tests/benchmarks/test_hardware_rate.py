"""Operations are counted as one counts them on paper."""

import torch
from torch import nn

from benchmarks.hardware_rate import operations


def test_a_layer_multiplies_once_forward_and_once_for_its_weights() -> None:
    rows, wide, narrow = 5, 7, 3
    product = 2 * rows * wide * narrow
    assert operations(nn.Linear(wide, narrow, bias=False), torch.ones(rows, wide)) == 2 * product
