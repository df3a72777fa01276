"""AdamW on a processor: one kernel call for each group of parameters, and hardly any Python around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, 2019) with torch's fused kernel, for weights on a CPU.

    Weights, state and the layout of `state_dict` are those of `torch.optim.AdamW(fused=True)`, bit for bit
    (tests/models/test_adamw.py). With small steps that one spends as long in Python as in the kernel; it also
    adds one to a count for every parameter, and imports torch's compiler (docs/decisions/0016-own-adamw.md).
    """

    def __init__(
        self, groups: Sequence[Mapping[str, Any]], *, betas: tuple[float, float], eps: float, lr: float = 0.0
    ) -> None:
        """`groups`: each with `params`, `weight_decay` and what else its owner wants to find there again."""
        self.param_groups: list[dict[str, Any]] = [
            {"lr": lr, "betas": betas, "eps": eps, **group} for group in groups
        ]
        self._moments = [_Moments(group["params"]) for group in self.param_groups]

    @torch.no_grad()
    def step(self) -> None:
        """Descend; a parameter without gradient rests, and its count of steps with it."""
        for group, moments in zip(self.param_groups, self._moments, strict=True):
            parameters = group["params"]
            gradients = [parameter.grad for parameter in parameters]
            means, squares, steps = moments.means, moments.squares, moments.steps
            if any(each is None for each in gradients):
                moments.part()
                there = [place for place, gradient in enumerate(gradients) if gradient is not None]
                parameters, gradients, means, squares, steps = (
                    [each[place] for place in there]
                    for each in (parameters, gradients, means, squares, moments.steps)
                )
                if not there:
                    continue
            moments.count(steps)
            torch._fused_adamw_(
                parameters, gradients, means, squares, [], steps, lr=group["lr"], beta1=group["betas"][0],
                beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False,
                maximize=False,
            )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """In torch's layout. The moments share the optimiser's memory; the counts do not."""
        state: dict[int, dict[str, Tensor]] = {}
        packed = []
        for group, moments in zip(self.param_groups, self._moments, strict=True):
            places = range(len(state), len(state) + len(group["params"]))
            packed.append({**group, "params": list(places)})
            columns = zip(places, moments.steps, moments.means, moments.squares, strict=True)
            for place, step, mean, square in columns:
                state[place] = {"step": step.clone(), "exp_avg": mean, "exp_avg_sq": square}
        return {"state": state, "param_groups": packed}

    def load_state_dict(self, held: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; ValueError where it is of other groups."""
        sizes = [len(group["params"]) for group in self.param_groups]
        if [len(group["params"]) for group in held["param_groups"]] != sizes:
            raise ValueError(
                f"the state is of groups of {[len(group['params']) for group in held['param_groups']]}"
                f" parameters, these have {sizes}"
            )
        for group, other, moments in zip(self.param_groups, held["param_groups"], self._moments, strict=True):
            group.update({name: value for name, value in other.items() if name != "params"})
            moments.load([held["state"].get(place) for place in other["params"]])


class _Moments:
    """Of one group: both running means of each parameter, and how many steps each has taken."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.means = [torch.zeros_like(each, memory_format=torch.preserve_format) for each in parameters]
        self.squares = [torch.zeros_like(each, memory_format=torch.preserve_format) for each in parameters]
        self.share(0.0)

    def share(self, taken: float) -> None:
        """All have taken so many steps: one count serves, and numpy adds to it without a kernel."""
        self.together: npt.NDArray[np.float32] | None = np.full((), taken, dtype=np.float32)
        self.steps = [torch.from_numpy(self.together)] * len(self.means)

    def part(self) -> None:
        """From now on each parameter counts for itself."""
        if self.together is not None:
            self.steps, self.together = [each.clone() for each in self.steps], None

    def count(self, steps: Sequence[Tensor]) -> None:
        """One more for these, of `self.steps`."""
        if self.together is not None:
            self.together += 1
            return
        for step in steps:
            step.add_(1)

    @torch.no_grad()
    def load(self, held: Sequence[Mapping[str, Any] | None]) -> None:
        """Take over the moments; parameters that have taken no step have none."""
        counts = [float(each["step"]) if each else 0.0 for each in held]
        for mean, square, each in zip(self.means, self.squares, held, strict=True):
            mean.copy_(each["exp_avg"]) if each else mean.zero_()
            square.copy_(each["exp_avg_sq"]) if each else square.zero_()
        self.share(counts[0])
        if len(set(counts)) > 1:
            self.part()
            for step, taken in zip(self.steps, counts, strict=True):
                step.fill_(taken)
