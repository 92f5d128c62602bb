"""Which tokens of a vocabulary an automaton over bytes lets through, state by state."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.character_automaton import DEAD, CharacterAutomaton
from palo_cpp.llm.token_table import TokenTable


class TokenBytes:
    """The bytes of all tokens, one after the other.

    Attributes:
        pieces: each token's bytes; none for control tokens.
        data: all bytes [n_bytes] uint8.
        begins, lengths: [n_vocab] where in `data` a token's bytes are.
        ends_generation: [n_vocab] which tokens end an answer.
        with_bytes: the tokens that have bytes.
        continuing: those of them that can come within a character.
    """

    def __init__(self, pieces: Sequence[bytes], ends_generation: NDArray[np.bool_]) -> None:
        # Whatever the text of a token that ends the answer, it is never shown.
        self.pieces = [b"" if ends else piece for piece, ends in zip(pieces, ends_generation, strict=True)]
        self.ends_generation = ends_generation
        self.data = np.frombuffer(b"".join(self.pieces), np.uint8)
        self.lengths = np.fromiter(map(len, self.pieces), np.int64, len(self.pieces))
        self.begins = np.cumsum(self.lengths) - self.lengths
        self.with_bytes = np.flatnonzero(self.lengths)
        first = self.data[self.begins[self.with_bytes]]
        self.continuing = self.with_bytes[(first >= 0x80) & (first < 0xC0)]


_TOKEN_BYTES: WeakKeyDictionary[TokenTable, TokenBytes] = WeakKeyDictionary()


def token_bytes(table: TokenTable) -> TokenBytes:
    """The tokens of a vocabulary, laid out once to be walked through all at once."""
    if table not in _TOKEN_BYTES:
        _TOKEN_BYTES[table] = TokenBytes(table.pieces, table.ends_generation)
    return _TOKEN_BYTES[table]


class VocabularyMasks:
    """The masks of one automaton over one vocabulary, each made when its state is first reached."""

    def __init__(self, tokens: TokenBytes, automaton: CharacterAutomaton) -> None:
        self.tokens = tokens
        self._automaton = automaton
        self._masks: dict[int, NDArray[np.bool_]] = {}

    def mask(self, state: int) -> NDArray[np.bool_]:
        """The tokens [n_vocab] that may come in a state; those that end an answer only between two characters."""
        if state not in self._masks:
            self._masks[state] = self._make(state)
        return self._masks[state]

    def _make(self, state: int) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = self._alive[self._ends(state)]
        if state <= self._automaton.n_starts:
            mask |= self.tokens.ends_generation
        mask.flags.writeable = False
        return mask

    @functools.cached_property
    def _alive(self) -> NDArray[np.bool_]:
        """The states [n_states] from which a character can be completed: some vocabularies lack bytes for that."""
        alive = np.zeros(len(self._automaton.transitions), np.bool_)
        alive[1 : self._automaton.n_starts + 1] = True
        within = range(self._automaton.n_starts + 1, len(alive))
        leads_to = {state: np.unique(self._ends(state)[self.tokens.continuing]) for state in within}
        while more := [state for state in within if not alive[state] and alive[leads_to[state]].any()]:
            alive[more] = True
        return alive

    def _ends(self, state: int) -> NDArray[np.uint16]:
        """The state [n_vocab] after each token; `DEAD` after one without bytes."""
        tokens, transitions = self.tokens, self._automaton.transitions
        states = np.zeros(len(tokens.lengths), np.uint16)
        walking = tokens.with_bytes if state <= self._automaton.n_starts else tokens.continuing
        states[walking] = state
        n_walked = 0
        while walking.size:
            states[walking] = transitions[states[walking], tokens.data[tokens.begins[walking] + n_walked]]
            n_walked += 1
            walking = walking[(tokens.lengths[walking] > n_walked) & (states[walking] != DEAD)]
        return states

    def after(self, state: int, token: int) -> int:
        """The state after a token; one that ends the answer leaves it as it is."""
        return self._automaton.walk(state, self.tokens.pieces[token])
