"""What an automaton over bytes lets through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from palo_cpp.decoding.character_automaton import CharacterAutomaton


def spelled(automaton: CharacterAutomaton, state: int, so_far: bytes = b"") -> Iterator[tuple[bytes, int]]:
    """Every sequence of bytes that leads from a state to the next state between characters."""
    for byte in np.flatnonzero(automaton.transitions[state]).tolist():
        data, after = so_far + bytes([byte]), int(automaton.transitions[state, byte])
        if after <= automaton.n_starts:
            yield data, after
        else:
            yield from spelled(automaton, after, data)
