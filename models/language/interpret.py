"""What each token of a text did to the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

STEPS = 24
"""Points on the way from the baseline to the text; more change nothing that can be seen in a figure."""


def token_attributions(
    network: nn.Module, codes: Tensor, *, target: int, pad: int, steps: int = STEPS
) -> NDArray[np.float64]:
    """(T,): what each token of one text (1, T) added to the probability of the class `target`.

    Integrated gradients (Sundararajan and others 2017, arXiv:1703.01365) from a text of nothing but the code
    0, the unknown word, along the embedding; their sum is the difference of the two answers, about.
    """
    from captum.attr import LayerIntegratedGradients

    from models.language.classifier import TextClassifier, WholeDocuments

    assert isinstance(network, TextClassifier)
    assert not (codes == pad).any(), "a text alone is not padded"
    whole = WholeDocuments(network).eval()
    method = LayerIntegratedGradients(whole, network.encoder.embedding)
    found: Any = method.attribute(
        codes, baselines=torch.zeros_like(codes), target=target, n_steps=steps, internal_batch_size=8
    )
    given: NDArray[np.float64] = found.sum(dim=2)[0].detach().double().numpy()
    return given
