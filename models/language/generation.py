"""Text that a language model makes up, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.language.model import LanguageModel


@torch.no_grad()
def generate(
    network: LanguageModel,
    prompt: Sequence[int],
    *,
    tokens: int,
    temperature: float = 1.0,
    never: Sequence[int] = (),
    seed: int = 0,
) -> list[int]:
    """Codes that go on after `prompt` (at least one code), drawn one by one.

    temperature: below 1 the likely tokens are drawn more often than the network says; 0 takes the likeliest.
    never: codes that are not drawn (unknown, padding).
    Draws come from a generator of their own; the network's mode is left as it was.
    """
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    random = torch.Generator().manual_seed(seed)
    codes = torch.tensor([list(prompt)], device=device)
    found: list[int] = []
    state = None
    for _ in range(tokens):
        scores, _, _, state = network.run(codes, state)
        chosen = draw(scores[0, -1].float().cpu(), temperature=temperature, never=never, random=random)
        found.append(chosen)
        codes = torch.tensor([[chosen]], device=device)
    network.train(training)
    return found


def draw(scores: Tensor, *, temperature: float, never: Sequence[int], random: torch.Generator) -> int:
    """One code by its score (vocabulary,)."""
    scores = scores.clone()
    scores[list(never)] = -torch.inf
    if temperature == 0:
        return int(scores.argmax())
    return int(torch.multinomial((scores / temperature).softmax(0), 1, generator=random))
