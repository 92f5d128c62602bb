"""A byte automaton of UTF-8: which byte may come next, so that only chosen characters can come of the bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DEAD = 0  # the state from which no character can be reached any more
_CONTINUATION = slice(0x80, 0xC0)


class CharacterAutomaton:
    """Decides byte by byte; states that allow the same bytes forever are one.

    State 0 is `DEAD`. States 1 to n_starts lie between two characters, the others within one: from these, at least one
    character can still be completed. Overlong forms, surrogates and everything past U+10FFFF are dead ends.

    Args:
        targets: [n_starts, 0x110000] uint8: for each state between characters (row i is state i + 1) the state
            that each character leads to, `DEAD` where it may not come.

    Attributes:
        n_starts: how many states lie between characters.
        transitions: [n_states, 256] uint16, the state after a byte.
    """

    def __init__(self, targets: NDArray[np.uint8]) -> None:
        self.n_starts = len(targets)
        self._rows = [np.zeros((1 + self.n_starts, 256), np.uint16)]
        last_bytes = self._add(targets.reshape(-1, 64)).reshape(self.n_starts, -1)
        last_two = last_bytes.reshape(self.n_starts, -1, 64).copy()
        last_two[:, 0, :32] = DEAD  # E0 80..9F: overlong
        last_two = self._add(last_two.reshape(-1, 64)).reshape(self.n_starts, -1)
        last_three = np.zeros((self.n_starts, 5, 64), np.uint16)  # F4 leads to a quarter of what F0..F3 do
        last_three.reshape(self.n_starts, -1)[:, 16 : last_two.shape[1]] = last_two[:, 16:]  # F0 80..8F: overlong
        starts = self._rows[0][1:]
        starts[:, :0x80] = targets[:, :0x80]
        starts[:, 0xC2:0xE0] = last_bytes[:, 2:32]
        starts[:, 0xE0:0xF0] = last_two[:, :16]
        starts[:, 0xF0:0xF5] = self._add(last_three.reshape(-1, 64)).reshape(self.n_starts, 5)
        self.transitions = np.concatenate(self._rows)
        del self._rows

    def _add(self, nodes: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Make states of nodes [n, 64], each the states after the 64 continuation bytes.

        Returns:
            [n] the state of each; `DEAD` where all after it is.
        """
        data = nodes.astype(np.uint16).tobytes()
        n_bytes = 2 * nodes.shape[1]
        keys = [data[begin : begin + n_bytes] for begin in range(0, len(data), n_bytes)]
        # A dictionary finds equal nodes in 10 ms where numpy.unique, which sorts them, takes a second.
        dead, n_states = bytes(n_bytes), sum(map(len, self._rows))
        different = [key for key in dict.fromkeys(keys) if key != dead]
        states = {dead: DEAD} | {key: n_states + i for i, key in enumerate(different)}
        rows = np.zeros((len(different), 256), np.uint16)
        rows[:, _CONTINUATION] = np.frombuffer(b"".join(different), np.uint16).reshape(rows[:, _CONTINUATION].shape)
        self._rows.append(rows)
        return np.fromiter(map(states.__getitem__, keys), np.uint16, len(keys))

    def walk(self, state: int, data: bytes) -> int:
        """The state after some bytes.

        Args:
            state: where they begin.
            data: any bytes.
        """
        for byte in data:
            state = int(self.transitions[state, byte])
        return state
