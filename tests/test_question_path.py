"""benchmarks/question_path.py: what counts as a border, a change of room and a climb, and that all rooms are seen."""

from __future__ import annotations

import sys

import pytest
from test_rooms import MAY_IMPORT

from benchmarks.question_path import ROOMS, Call, record, room


def test_rooms_are_in_the_order_of_their_imports():
    for place, name in enumerate(ROOMS):
        assert not set(MAY_IMPORT[name]) & set(ROOMS[:place])


@pytest.mark.parametrize(
    ("caller", "callee", "enters_room", "enters_leaf", "climbs"),
    [
        ("chat.chat", "chat.answer_run", False, False, False),
        ("palo", "chat.chat", True, False, False),
        ("llm.kv_cache", "ggml.backend", True, False, False),
        ("llm.kv_cache", "families.palo.prompt", True, False, True),
        ("chat.answer_run", "palo", True, False, True),
        ("errors", "ggml.backend", True, False, True),
        ("ggml.backend", "errors", False, True, False),
    ],
)
def test_what_a_call_is(caller, callee, enters_room, enters_leaf, climbs):
    call = Call(caller, callee, "f")
    assert (call.enters_room, call.enters_leaf, call.climbs) == (enters_room, enters_leaf, climbs)


def test_one_question_is_followed_through_the_rooms():
    recorder = record()
    assert {room(module) for module in recorder.modules} >= {"palo", "chat", "vision", "llm", "decoding", "languages"}
    assert all(call.caller != call.callee for call in recorder.calls)
    assert {call.callee for call in recorder.calls} <= recorder.modules
    assert any(call.function == "ask" for call in recorder.calls)
    assert not any(call.function == "<module>" for call in recorder.calls)
    assert 5 < recorder.deepest < 100
    assert sys.getprofile() is None
