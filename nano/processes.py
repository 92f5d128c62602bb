"""Processes of one thread each that train one model together.

Threads wait for each other at every operation, and where others use the cores too each wait is long; processes meet
once a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """One process of `n`."""

    rank: int = 0
    n: int = 1

    @classmethod
    def join(cls, rank: int, n: int, meeting_point: Path) -> Team:
        """Meet the others, who name the same file, which is not there yet."""
        if n > 1:
            torch.distributed.init_process_group(
                "gloo", init_method=meeting_point.as_uri(), rank=rank, world_size=n, timeout=timedelta(hours=2)
            )
        return cls(rank, n)

    def leave(self) -> None:
        """End the meeting."""
        if self.n > 1:
            torch.distributed.destroy_process_group()

    def average(self, parameters: Iterable[nn.Parameter], *values: float) -> list[float]:
        """Make gradients the mean of everybody's; the means of `values` too, which then are equal for all."""
        if self.n == 1:
            return list(values)
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads] + [torch.tensor(values)])
        torch.distributed.all_reduce(flat)
        flat /= self.n
        at = 0
        for grad in grads:
            grad.copy_(flat[at : at + grad.numel()].view_as(grad))
            at += grad.numel()
        means: list[float] = flat[at:].tolist()
        return means

    def is_mine(self, number: int) -> bool:
        """Whether this process does piece `number` of work that is shared out."""
        return number % self.n == self.rank

    def add_up(self, values: Tensor) -> None:
        """Make a tensor the sum of everybody's."""
        if self.n > 1:
            torch.distributed.all_reduce(values)

    def wait(self) -> None:
        """Until all are here."""
        self.add_up(Tensor([0.0]))


ALONE = Team()
