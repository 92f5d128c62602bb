"""Guesses ahead save steps and never change an answer."""

from __future__ import annotations

import itertools

import pytest

import palo_cpp.decoding.speculation.steps
from nano.scoring import held_out_questions
from palo_cpp import Palo
from palo_cpp.chat.prompt_run import PromptRun
from palo_cpp.decoding.speculation.counts import Followers, Guess, Guesser
from palo_cpp.decoding.speculation.step_times import StepTimes
from palo_cpp.decoding.speculation.steps import Speculation, SpeculativeSteps
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.segments import TextSegment

ROUND = [5, 6, 7, 8]


def guesser(said=(), known=(), never=frozenset()):
    followers = Followers()
    followers.take_all(known)
    made = Guesser(followers, never)
    made.take_all(said)
    return made


# ---- guessing


def test_nothing_is_guessed_of_what_never_came():
    assert guesser().guess() is None
    assert guesser([5]).guess() is None
    assert guesser([5, 6, 7]).guess() is None


def test_what_followed_is_guessed_and_the_longer_context_decides():
    assert guesser([5, 6, 5]).guess() == Guess(6, pytest.approx(1 / 2.0))
    # 6 was followed by 9 twice, but by 7 after 5.
    assert guesser([1, 6, 9, 2, 6, 9, 5, 6, 7, 5, 6]).guess() == Guess(7, pytest.approx(1 / 1.6))
    assert guesser([*ROUND, *ROUND, 5, 6, 7]).guess() == Guess(8, pytest.approx(2 / 2.4))


def test_a_sample_of_the_language_counts_too():
    assert guesser([5], known=[5, 6, 5, 6]).guess() == Guess(6, pytest.approx(2 / 3.0))
    assert guesser([5, 7, 5], known=[5, 6, 5, 6]).guess() == Guess(6, pytest.approx(2 / 4.0))


def test_some_tokens_are_never_guessed():
    assert guesser([5, 6, 5], never={6}).guess() is None


def test_guesses_that_went_wrong_make_the_next_less_likely():
    def probability(n_wrong):
        made = guesser([5, 6] * 3 + [5])
        for token in range(100, 100 + n_wrong):
            made.guess()
            made.take(token)  # not the one
            made.take_all([5, 6, 5])
        return made.guess().probability

    trusted, doubted = probability(0), probability(8)
    assert doubted < 0.5 * trusted


# ---- what it costs


def test_the_cost_is_measured():
    times = StepTimes()
    assert times.cost == 0.15 and times.gain(Guess(1, 0.18)) > 0 > times.gain(Guess(1, 0.16))
    for _ in range(3):
        times.note("one row", 0.050)
        times.note("two rows", 0.065)
    assert times.cost == pytest.approx(0.3)
    assert times.gain(Guess(1, 0.33)) > 0 > times.gain(Guess(1, 0.31))


def test_an_old_time_is_forgotten():
    times = StepTimes()
    for _ in range(3):
        times.note("two rows", 10.0)
    for _ in range(300):
        times.note("one row", 0.05)
    assert times.cost == 0.15  # a moment's disturbance would keep it from guessing for ever


def test_a_quick_model_guesses_nothing():
    times = StepTimes()
    for _ in range(3):
        times.note("one row", 0.0005)
    assert times.is_too_quick and times.gain(Guess(1, 1.0)) == 0


# ---- steps


def test_a_text_that_repeats_takes_half_the_steps(language_model):
    """The tiny model reads a given text; a clock that never moves leaves the cost at its first value."""
    context = PromptRun(KvCache(language_model), None)
    cursor = context.prefill([TextSegment((1, *ROUND))])
    made = guesser([1, *ROUND])
    steps = SpeculativeSteps(context, made, StepTimes(), clock=lambda: 0.0)
    for token in itertools.islice(itertools.cycle(ROUND), 40):
        steps.advance(token)
    assert steps.n_right == steps.n_guessed == 20
    assert language_model.n_tokens() == len(cursor.cells) == 45


def test_no_guess_where_it_would_not_fit(language_model):
    context = PromptRun(KvCache(language_model), None)
    n_room = 3
    prompt = (ROUND * language_model.n_ctx)[: language_model.n_ctx - n_room]
    context.prefill([TextSegment(tuple(prompt))])
    steps = SpeculativeSteps(context, guesser(prompt), StepTimes(), clock=lambda: 0.0)
    coming = itertools.islice(itertools.cycle(ROUND), len(prompt), None)
    for token in itertools.islice(coming, n_room):
        steps.advance(token)
    assert (steps.n_guessed, steps.n_right) == (1, 1)  # the third had room for itself alone
    assert language_model.n_tokens() == language_model.n_ctx


# ---- answers


class Eager(StepTimes):
    """Guesses whatever it costs."""

    is_too_quick = False

    def gain(self, guess):
        return guess.probability if guess else 0.0


@pytest.fixture(scope="module")
def guessing():
    with Palo("nano", backend="palo") as palo:
        palo._model.prefix.speculation.times = Eager()
        yield palo


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 7}, {"max_tokens": 5}])
def test_the_answers_are_the_same(plain, guessing, code, options):
    n_guessed = 0
    for question in held_out_questions(3, [code]):
        image, asked = question.picture.render(), question.exchange.question
        expected, answer = (p.ask(image, asked, lang=code, **{"max_tokens": 60, **options}) for p in (plain, guessing))
        assert (answer.token_ids, answer.finish_reason) == (expected.token_ids, expected.finish_reason)
        assert expected.timings.n_guessed == expected.timings.n_guessed_right == 0
        assert answer.timings.n_guessed >= answer.timings.n_guessed_right
        n_guessed += answer.timings.n_guessed
    assert n_guessed > 0


def test_a_conversation_goes_on_the_same(plain, guessing):
    """What it said before is guessed right, and the next question finds the context as it would be without guesses."""
    image = held_out_questions(1)[0].picture.render()
    told = {}
    for palo in (plain, guessing):
        with palo.chat(image, lang="hi") as chat:
            told[palo] = [chat.ask() for _ in range(3)]
    assert [a.token_ids for a in told[plain]] == [a.token_ids for a in told[guessing]]
    assert [a.timings.n_cached_tokens for a in told[plain]] == [a.timings.n_cached_tokens for a in told[guessing]]
    assert told[guessing][1].timings.n_guessed_right > 3


def test_answers_in_a_language_teach_the_next_ones_in_it(language_model, monkeypatch):
    speculation = Speculation(language_model)
    known = speculation._followers("hi")
    n_before = known.n_tokens
    speculation.learn("hi", [5, 6, 5, 6])
    assert guess_behind(speculation, "hi", 5) == Guess(6, pytest.approx(2 / 3.0))
    assert guess_behind(speculation, "ur", 5) is None
    monkeypatch.setattr(palo_cpp.decoding.speculation.steps, "_N_LEARNT", n_before + 4)
    speculation.learn("hi", [5, 7] * 9)  # memory is bounded
    assert known.n_tokens == n_before + 4


def guess_behind(speculation, language, token):
    made = Guesser(speculation._followers(language))
    made.take(token)
    return made.guess()


def test_a_second_conversation_profits_from_the_first(guessing):
    """About the same picture, in the same language; `guessing` has its own counts, so two fresh ones tell."""
    image = held_out_questions(1)[0].picture.render()
    guessing._model.prefix.speculation._known.clear()
    first, second = (guessing.ask(image, lang="bn").timings for _ in range(2))
    assert first.n_generated == second.n_generated
    assert second.n_guessed_right > first.n_guessed_right


def test_only_where_rows_do_not_depend_on_each_other():
    with Palo("nano", backend="cpu") as palo:
        assert not palo.language_model.has_equal_rows and palo._model.prefix.speculation is None


def test_a_model_that_proved_quick_is_left_alone(language_model):
    speculation = Speculation(language_model)
    for _ in range(3):
        speculation.times.note("one row", 0.0001)
    assert speculation.steps(None, None, None) is None  # nothing is looked at
