"""The networks from scratch, where a library computes them wrong."""

import pytest
import torch

from models.vision.small import Halving


@pytest.mark.parametrize("size", [1, 2, 5])
def test_halving_agrees_with_float32_in_bf16(size: int) -> None:
    torch.manual_seed(0)
    layer = Halving(16, 10, bias=False).to(memory_format=torch.channels_last)
    images = torch.randn(33, 16, size, size).contiguous(memory_format=torch.channels_last)

    def gradient(*, bf16: bool) -> torch.Tensor:
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            outputs = layer(images)
        outputs.float().square().sum().backward()
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    wanted, found = gradient(bf16=False), gradient(bf16=True)
    assert torch.isfinite(found).all()
    assert float((wanted - found).abs().max() / wanted.abs().max()) < 0.05
