"""Which tokens of a vocabulary an automaton over bytes lets through, state by state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palo_cpp.character_automaton import DEAD, CharacterAutomaton
from palo_cpp.token_table import TokenTable


class FlatPieces:
    """The bytes of all tokens, one behind the other, as numpy follows them.

    Attributes:
        table: the tokens.
        data: all bytes [n_bytes] uint8; those of tokens that end an answer are left out, for it never shows them.
        begins, lengths: [n_vocab] where in `data` a token's bytes stand.
        with_bytes: the tokens that have bytes.
        continuing: those of them that can come within a character.
        masks: every mask of this vocabulary that was made, under its bits.
    """

    def __init__(self, table: TokenTable) -> None:
        self.table = table
        pieces = [b"" if is_end else piece for piece, is_end in zip(table.pieces, table.ends_generation, strict=True)]
        self.data = np.frombuffer(b"".join(pieces), np.uint8)
        self.lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        self.begins = np.cumsum(self.lengths) - self.lengths
        self.with_bytes = np.flatnonzero(self.lengths)
        first = self.data[self.begins[self.with_bytes]]
        self.continuing = self.with_bytes[(first >= 0x80) & (first < 0xC0)]
        self.masks: dict[bytes, NDArray[np.bool_]] = {}


class VocabularyMasks:
    """The masks of one automaton over one vocabulary, each made when its state is first reached."""

    def __init__(self, tokens: FlatPieces, automaton: CharacterAutomaton) -> None:
        self._tokens = tokens
        self._automaton = automaton
        self._masks: dict[int, NDArray[np.bool_]] = {}

    def mask(self, state: int) -> NDArray[np.bool_]:
        """The tokens [n_vocab] that may come in a state; those that end an answer only between two characters."""
        if state not in self._masks:
            self._masks[state] = self._make(state)
        return self._masks[state]

    def _make(self, state: int) -> NDArray[np.bool_]:
        ends = self._ends(state)
        mask: NDArray[np.bool_] = ends != DEAD
        for end in np.unique(ends[mask]):
            # A vocabulary without all byte tokens may begin characters that it cannot complete.
            if end > self._automaton.n_starts and not self.mask(int(end)).any():
                mask &= ends != end
        if state <= self._automaton.n_starts:
            mask |= self._tokens.table.ends_generation
        mask.flags.writeable = False
        # Within characters most states allow the same bytes: a dozen masks stand for hundreds of states.
        return self._tokens.masks.setdefault(np.packbits(mask).tobytes(), mask)

    def _ends(self, state: int) -> NDArray[np.uint16]:
        """The state [n_vocab] after each token; `DEAD` after one without bytes."""
        tokens, transitions = self._tokens, self._automaton.transitions
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
        table = self._tokens.table
        return state if table.ends_generation[token] else self._automaton.walk(state, table.pieces[token])
