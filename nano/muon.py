"""The optimizer: Muon for the matrices inside the layers, AdamW for everything else.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes every step of a matrix orthogonal, so that rare
directions learn as fast as common ones. torch.optim.Muon computes in bf16, which a CPU without it emulates many times
slower; this one stays in float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from nano.processes import ALONE, Team

# Newton-Schulz coefficients that push singular values near 1 in five steps.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_N_STEPS = 5
_MOMENTUM = 0.95
_DECAY = 0.05
# AdamW's learning rate for each of Muon's: a step of Muon has the size of the matrix's spectrum.
_ADAM_SHARE = 0.1


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values of about 1, [..., rows, columns] f32."""
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    for _ in range(_N_STEPS):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Muon for `matrices`, AdamW for `others`; one state, one `step`. A team shares the matrices out."""

    def __init__(self, matrices: Iterable[nn.Parameter], others: Iterable[nn.Parameter], team: Team = ALONE) -> None:
        kept, self.team = list(others), team
        super().__init__([{"params": list(matrices), "lr": 0.0}], {})
        groups = [
            {"params": [p for p in kept if p.dim() >= 2], "weight_decay": _DECAY},
            {"params": [p for p in kept if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-8)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next steps: Muon's, AdamW's in proportion."""
        for group in self.param_groups:
            group["lr"] = rate
        for group in self.adam.param_groups:
            group["lr"] = rate * _ADAM_SHARE

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002  # torch's signature
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            if learning := [p for p in group["params"] if p.grad is not None]:
                self._step_matrices(learning, group["lr"])
        self.adam.step()

    def _step_matrices(self, matrices: Sequence[nn.Parameter], rate: float) -> None:
        updates = torch.zeros(sum(p.numel() for p in matrices), device=matrices[0].device)
        mine = defaultdict[torch.Size, list[tuple[Tensor, Tensor]]](list)  # by shape: a GPU takes all of one at once
        for number, (matrix, update) in enumerate(_views(matrices, updates)):
            direction = self._momentum(matrix)
            if self.team.is_mine(number):
                mine[matrix.shape].append((direction, update))
        for pairs in mine.values():
            for made, (_, update) in zip(orthogonal(torch.stack([d for d, _ in pairs])), pairs, strict=True):
                update.copy_(made)
        self.team.add_up(updates)
        for matrix, update in _views(matrices, updates):
            rows, columns = matrix.shape
            matrix.mul_(1 - rate * _DECAY).add_(update, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """The gradient, carried on from those before."""
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(grad, 1 - _MOMENTUM)
        return grad.lerp(state["momentum"], _MOMENTUM)

    def state_dict(self) -> dict[str, object]:  # type: ignore[override]
        """Both states."""
        return {"muon": super().state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:  # type: ignore[override]
        """The inverse of `state_dict`."""
        super().load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def _views(parameters: Sequence[nn.Parameter], flat: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Each parameter with its part of a flat tensor, in its shape."""
    at = 0
    for parameter in parameters:
        yield parameter, flat[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
