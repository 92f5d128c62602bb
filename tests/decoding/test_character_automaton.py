"""The byte automaton: compared with Python's own UTF-8, character by character and walked to every end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spelled_bytes import spelled

from palo_cpp.decoding.character_automaton import DEAD, CharacterAutomaton
from palo_cpp.languages.scripts import N_CODE_POINTS

SURROGATES = slice(0xD800, 0xE000)
EDGES = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0x10FFFF]


def test_all_of_unicode_is_exactly_what_python_encodes() -> None:
    allowed = np.ones((1, N_CODE_POINTS), np.uint8)
    allowed[:, SURROGATES] = DEAD
    automaton = CharacterAutomaton(allowed)
    assert len(automaton.transitions) == 9  # dead, between, and the seven kinds of states within a character
    points = [ord(data.decode()) for data, _ in spelled(automaton, 1)]
    assert points == [point for point in range(N_CODE_POINTS) if not 0xD800 <= point < 0xE000]


@given(st.sets(st.sampled_from(EDGES) | st.integers(0, N_CODE_POINTS - 1), min_size=1, max_size=30))
def test_only_the_chosen_characters_can_be_spelled(points: set[int]) -> None:
    points -= set(range(0xD800, 0xE000))
    targets = np.zeros((2, N_CODE_POINTS), np.uint8)
    targets[0, sorted(points)] = 2
    targets[1, sorted(points)[::2]] = 1
    automaton = CharacterAutomaton(targets)
    assert dict(spelled(automaton, 1)) == {chr(point).encode(): 2 for point in points}
    assert dict(spelled(automaton, 2)) == {chr(point).encode(): 1 for point in sorted(points)[::2]}


@pytest.mark.parametrize(
    "data",
    [b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90", b"\xff"],
)
def test_what_is_no_utf8_is_dead(data: bytes) -> None:
    allowed = np.ones((1, N_CODE_POINTS), np.uint8)
    allowed[:, SURROGATES] = DEAD
    assert CharacterAutomaton(allowed).walk(1, data) == DEAD


def test_a_state_within_a_character_can_always_be_completed() -> None:
    targets = np.zeros((1, N_CODE_POINTS), np.uint8)
    targets[0, [0x41, 0x905, 0x1F600]] = 1
    automaton = CharacterAutomaton(targets)
    assert all(automaton.transitions[state].any() for state in range(1, len(automaton.transitions)))
    assert automaton.walk(1, b"\xe0\xa4") > 1
    assert automaton.walk(1, b"\xe0\xa5") == DEAD
