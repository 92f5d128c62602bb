"""Rules about which tokens may come next: what a constraint is, and how several are one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TokenConstraint(Protocol):
    """A rule about which tokens may come next in one answer; it goes along with the answer's tokens."""

    def allowed(self) -> NDArray[np.bool_] | None:
        """Which tokens may come next [n_vocab] bool; None where all may.

        Tokens that end the answer are decided like any other. Called once for each token, so it should hand out an
        array that was made before; the caller does not write into it.
        """
        ...

    def accept(self, token: int) -> None:
        """The token was chosen. It may be one that was not allowed, where no token was allowed by all constraints."""
        ...


def allowed_by_all(constraints: Sequence[TokenConstraint]) -> NDArray[np.bool_] | None:
    """Which tokens may come next under several constraints.

    Args:
        constraints: the most important first: one that would leave no token at all is passed over.

    Returns:
        [n_vocab] bool, not to be written into; None where all may.
    """
    allowed: NDArray[np.bool_] | None = None
    for constraint in constraints:
        mask = constraint.allowed()
        if mask is None:
            continue
        both = mask if allowed is None else allowed & mask
        if both.any():
            allowed = both
    return allowed
