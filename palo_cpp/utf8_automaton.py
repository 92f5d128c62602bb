"""Which tokens keep an answer's bytes on the way to UTF-8 (RFC 3629), from every place inside a character."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BETWEEN_CHARACTERS = 0
# One example of unfinished bytes for each state: what may follow depends on how many bytes are missing, and after some
# lead bytes on which it was. EF and EF BF stand apart because EF BF BD is U+FFFD itself, the sign of broken text, which
# vocabularies hold because their training texts were broken: no answer means it.
_UNFINISHED = (
    *(b"", b"\xc2", b"\xe1", b"\xf1"),  # none, then one, two, three bytes missing, any of 80 to BF
    *(b"\xe0", b"\xed", b"\xf0", b"\xf4", b"\xef", b"\xef\xbf"),
)
_REFUSED = 255


class Utf8Automaton:
    """The tokens of one vocabulary as steps between the states of a UTF-8 decoder.

    Attributes:
        masks: for each state, the tokens [n_vocab] bool after which the bytes can still become UTF-8. Tokens that end
            the answer may come between two characters only. A token after which no character could be completed with
            this vocabulary is refused as well, so that every state but the first has a way on.
    """

    def __init__(self, pieces: Sequence[bytes], ends_generation: NDArray[np.bool_]) -> None:
        """Follow every token from every state.

        Args:
            pieces: the bytes of each token; they may begin and end in the middle of a character.
            ends_generation: [n_vocab] bool.
        """
        self._next = np.full((len(_UNFINISHED), len(pieces)), _REFUSED, np.uint8)
        for token, piece in enumerate(pieces):
            for state in _states_before(piece):
                self._next[state, token] = _state_after(_UNFINISHED[state] + piece)
        self._next[:, ends_generation] = _REFUSED
        self._next[BETWEEN_CHARACTERS, ends_generation] = BETWEEN_CHARACTERS
        self._refuse_dead_ends()
        self.masks: tuple[NDArray[np.bool_], ...] = tuple(self._next != _REFUSED)
        for mask in self.masks:
            mask.flags.writeable = False  # every answer gets these very arrays

    def step(self, state: int, token: int) -> int:
        """The state after a token; between characters after one that was refused, for its bytes are lost."""
        after = int(self._next[state, token])
        return BETWEEN_CHARACTERS if after == _REFUSED else after

    def _refuse_dead_ends(self) -> None:
        alive = {BETWEEN_CHARACTERS}
        while True:
            leads_on = np.isin(self._next, list(alive)).any(axis=1)
            more = set(np.flatnonzero(leads_on).tolist()) - alive
            if not more:
                break
            alive |= more
        self._next[~np.isin(self._next, list(alive))] = _REFUSED


class Utf8Constraint:
    """The rule that an answer is UTF-8, for one answer; a `TokenConstraint`."""

    def __init__(self, automaton: Utf8Automaton) -> None:
        self._automaton = automaton
        self._state = BETWEEN_CHARACTERS

    def allowed(self) -> NDArray[np.bool_]:
        """Tokens that may come next [n_vocab] bool; not to be written into."""
        return self._automaton.masks[self._state]

    def accept(self, token: int) -> None:
        """Go along with a token."""
        self._state = self._automaton.step(self._state, token)


def _states_before(piece: bytes) -> range:
    """States that a piece may be possible in: only the first, where it does not begin inside a character."""
    return range(len(_UNFINISHED) if not piece or 0x80 <= piece[0] < 0xC0 else 1)


def _state_after(data: bytes) -> int:
    """The state at the end of bytes that begin with a character."""
    if data.isascii():
        return BETWEEN_CHARACTERS
    try:
        text, n_decoded = codecs.utf_8_decode(data, "strict", False)  # an unfinished character may stand at the end
    except UnicodeDecodeError:
        return _REFUSED
    rest = data[n_decoded:]
    # ED A0 to ED BF begin surrogates; Python's decoder says so only when the third byte is there.
    if "\ufffd" in text or b"\xed\xa0" <= rest[:2] < b"\xee":
        return _REFUSED
    if rest in _UNFINISHED:
        return _UNFINISHED.index(rest)
    return _n_bytes(rest[0]) - len(rest)


def _n_bytes(lead: int) -> int:
    """Bytes of the character that begins with `lead`."""
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
