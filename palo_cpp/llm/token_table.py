"""What every token of a vocabulary stands for, looked up once per model and not once per token of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.utf8_constraint import utf8_automaton
from palo_cpp.decoding.vocabulary_masks import TokenBytes, VocabularyMasks


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
    def bytes(self) -> TokenBytes:
        """The same, laid out to be walked through all at once."""
        return TokenBytes(self.pieces, self.ends_generation)

    @cached_property
    def utf8(self) -> VocabularyMasks:
        """Which tokens keep an answer's bytes UTF-8."""
        return VocabularyMasks(self.bytes, utf8_automaton())


class Vocabulary(Protocol):
    """What decoding needs of a language model."""

    @property
    def token_table(self) -> TokenTable:
        """What every token stands for."""
        ...
