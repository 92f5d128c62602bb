"""The rule that an answer's bytes are UTF-8 (RFC 3629); always in force."""

from __future__ import annotations

import functools
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.character_automaton import DEAD, CharacterAutomaton
from palo_cpp.decoding.vocabulary_masks import VocabularyMasks, token_bytes
from palo_cpp.llm.token_table import TokenTable

_BETWEEN_CHARACTERS = 1
# The sign of broken text. Vocabularies hold it because their training texts were broken: no answer means it.
_REPLACEMENT = 0xFFFD
_SURROGATES = slice(0xD800, 0xE000)


@functools.cache
def utf8_automaton() -> CharacterAutomaton:
    """Every character may come, but U+FFFD."""
    targets = np.full((1, 0x110000), _BETWEEN_CHARACTERS, np.uint8)
    targets[0, _SURROGATES] = targets[0, _REPLACEMENT] = DEAD
    return CharacterAutomaton(targets)


_MASKS: WeakKeyDictionary[TokenTable, VocabularyMasks] = WeakKeyDictionary()


def utf8_masks(table: TokenTable) -> VocabularyMasks:
    """Which tokens of a vocabulary keep an answer's bytes UTF-8."""
    if table not in _MASKS:
        _MASKS[table] = VocabularyMasks(token_bytes(table), utf8_automaton())
    return _MASKS[table]


class Utf8Constraint:
    """The rule for one answer; a `TokenConstraint`."""

    def __init__(self, masks: VocabularyMasks) -> None:
        self._masks = masks
        self._state = _BETWEEN_CHARACTERS

    def allowed(self) -> NDArray[np.bool_]:
        """Tokens that may come next [n_vocab] bool; not to be written into."""
        return self._masks.mask(self._state)

    def accept(self, token: int) -> None:
        """Go along with a token; the bytes of one that was refused are lost."""
        self._state = self._masks.after(self._state, token) or _BETWEEN_CHARACTERS
