"""What every token of a vocabulary stands for, looked up once per model and not once per token of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TokenTable:
    """The tokens of one vocabulary.

    Attributes:
        pieces: the bytes of each token; b"" for control tokens.
        ends_generation: [n_vocab] bool, true for `</s>` and every other token that ends an answer.
        base_ids: tokens that are a request's own words -> the token of the vocabulary that stands for all such words.
    """

    pieces: tuple[bytes, ...]
    ends_generation: NDArray[np.bool_]
    base_ids: Mapping[int, int] = field(default_factory=dict)


class HasTokenTable(Protocol):
    """What decoding needs of a language model."""

    @property
    def token_table(self) -> TokenTable:
        """What every token means."""
        ...
