"""When a draft model is asked: where it promises more than counts do, and more than it costs."""

from __future__ import annotations

import pytest

from palo_cpp.decoding.speculation.counts import Guess
from palo_cpp.decoding.speculation.drafting import Drafting
from palo_cpp.decoding.speculation.step_times import DraftGain, StepTimes
from palo_cpp.errors import OutOfMemoryError

SURE, UNSURE = 0.9, 0.1


class Drafts:
    """A draft that says what it is told to."""

    def __init__(self, says=7, probability=SURE, *, n_unread=1, n_answered=100):
        self.says, self.probability = says, probability
        self.n_unread, self.n_answered, self.has_room = n_unread, n_answered, True
        self.taken = []

    def take(self, token):
        self.taken.append(token)

    def guess(self):
        return Guess(self.says, self.probability)


def drafting(draft, times=None, **more):
    return Drafting(draft, times or StepTimes(), DraftGain(), clock=lambda: 0.0, **more)


def test_nobody_is_asked_where_there_is_none():
    asked = drafting(None)
    asked.take(5)
    assert asked.better_than(None) is None and asked.better_than(Guess(1, UNSURE)) == Guess(1, UNSURE)


def test_it_is_asked_unless_counts_promise_more():
    asked = drafting(Drafts())
    assert asked.better_than(None) == asked.better_than(Guess(1, UNSURE)) == Guess(7, SURE)
    assert asked.better_than(Guess(1, 0.95)) == Guess(1, 0.95)
    assert asked.n_drafted == 2


def test_it_must_first_win_back_what_it_has_to_read():
    assert drafting(Drafts(n_unread=200, n_answered=24)).better_than(None) is None
    assert drafting(Drafts(n_unread=200, n_answered=25)).better_than(None) == Guess(7, SURE)


def test_a_draft_that_fails_is_told_and_the_answer_goes_on(caplog):
    failing = Drafts()
    failing.guess = lambda: (_ for _ in ()).throw(OutOfMemoryError("no memory"))
    asked = drafting(failing)
    for _ in range(3):
        assert asked.better_than(Guess(1, UNSURE)) == Guess(1, UNSURE)
        asked.take(5)
    assert [record.message for record in caplog.records] == ["the draft model failed; the answer continues without it"]
    assert asked.n_drafted == 0


def test_it_is_not_asked_beyond_its_context():
    full = Drafts()
    full.has_room = False
    assert drafting(full).better_than(None) is None


def test_an_end_of_the_answer_is_no_guess():
    assert drafting(Drafts(), never={7}).better_than(None) is None


def test_who_is_always_wrong_is_soon_left_alone_and_tried_again_at_times():
    asked = drafting(draft := Drafts())
    n = 4000
    for _ in range(n):
        asked.better_than(None)
        asked.take(8)
    assert draft.taken == [8] * n
    assert 10 < asked.n_drafted < 0.02 * n


def test_who_is_right_goes_on_being_asked():
    asked = drafting(Drafts())
    for _ in range(100):
        asked.better_than(None)
        asked.take(7)
    assert asked.n_drafted == 100


def test_who_is_never_sure_saves_nothing():
    asked = drafting(Drafts(probability=UNSURE))
    for _ in range(100):
        asked.better_than(None)
        asked.take(7)
    assert asked.n_drafted < 30


def test_a_slow_draft_model_is_not_asked():
    times = StepTimes()
    for _ in range(5):
        times.note("one row", 0.1)
        times.note("draft", 0.08)
    assert times.draft_cost == pytest.approx(0.8)
    assert drafting(Drafts(), times).better_than(None) is None


def test_the_time_of_reading_much_is_no_drafts_time():
    ticks = iter(range(100))
    times = StepTimes()
    for _ in range(5):
        times.note("one row", 10.0)
    asked = Drafting(Drafts(n_unread=9), times, DraftGain(), clock=lambda: next(ticks))
    for _ in range(5):
        asked.better_than(None)
    assert times.draft_cost == 0.3  # as before any was timed


def test_drafts_are_no_steps_that_make_others_old():
    times = StepTimes()
    for _ in range(5):
        times.note("one row", 1.0)
        times.note("two rows", 1.1)
    for _ in range(1000):
        times.note("draft", 0.2)
    assert (times.cost, times.draft_cost) == (pytest.approx(0.1), pytest.approx(0.2))
