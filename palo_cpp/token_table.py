"""What every token of a vocabulary stands for, looked up once per model and not once per token of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from palo_cpp.utf8_automaton import Utf8Automaton


@dataclass(frozen=True, eq=False)
class TokenTable:
    """The tokens of one vocabulary.

    Attributes:
        pieces: the bytes of each token; b"" for control tokens.
        ends_generation: [n_vocab] bool, true for `</s>` and every other token that ends an answer.
    """

    pieces: tuple[bytes, ...]
    ends_generation: NDArray[np.bool_]

    @cached_property
    def utf8(self) -> Utf8Automaton:
        """Which tokens keep an answer's bytes UTF-8; about 0.1 s for 32,000 tokens, the first time."""
        return Utf8Automaton(self.pieces, self.ends_generation)
