"""palo_cpp.decoding.beam_search against the search of all answers, and against the steps as VisCPM describes them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from palo_cpp.decoding.beam_search import BeamOptions, BeamSearch
from palo_cpp.errors import ModelFormatError

N_VOCAB, EOS = 6, 5
ENDS = np.arange(N_VOCAB) == EOS
Tokens = tuple[int, ...]


def logits_after(tokens: Tokens, seed: int) -> np.ndarray:
    """A model that is noise, yet always the same after the same tokens."""
    return np.random.default_rng([seed, *tokens, len(tokens)]).normal(0, 2, N_VOCAB).astype(np.float32)


def search(seed: int, options: BeamOptions, max_tokens: int) -> tuple[BeamSearch, int]:
    """The finished search, and how many steps it took; paths are followed by `parents` and `tokens` alone."""
    beams, paths, n_steps = BeamSearch(options, ENDS, max_tokens), [()], 0
    while not beams.is_finished:
        settled = beams.settled
        beams.take(np.stack([logits_after(path, seed) for path in paths]))
        assert beams.is_finished or beams.settled[: len(settled)] == settled
        paths = [(*paths[parent], token) for parent, token in zip(beams.parents, beams.tokens, strict=True)]
        n_steps += 1
    return beams, n_steps


def log_probabilities(tokens: Tokens, seed: int, options: BeamOptions) -> list[float]:
    """Of every next token: penalty, then temperature, then log-softmax."""
    logits = [float(value) for value in logits_after(tokens, seed)]
    for token in set(tokens):
        penalty = options.repetition_penalty
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    logits = [value / options.temperature for value in logits]
    total = math.log(sum(math.exp(value) for value in logits))
    return [value - total for value in logits]


def best_of_all(seed: int, options: BeamOptions, max_tokens: int) -> Tokens:
    scored = []
    for n in range(1, max_tokens + 1):
        for words in itertools.product(range(N_VOCAB - 1), repeat=n - 1):
            for last in range(N_VOCAB) if n == max_tokens else (EOS,):
                tokens = (*words, last)
                score = sum(log_probabilities(tokens[:i], seed, options)[tokens[i]] for i in range(n))
                scored.append((score / n**options.length_penalty, tokens))
    return without_end(max(scored)[1])


def as_described(seed: int, options: BeamOptions, max_tokens: int) -> tuple[Tokens, int]:
    """VisCPM's loop, over lists; also its number of steps."""
    live: list[tuple[float, Tokens]] = [(0.0, ())]
    finished: list[tuple[float, Tokens]] = []
    for step in range(1, max_tokens + 1):
        candidates = [
            (score + p, (*tokens, token))
            for score, tokens in live
            for token, p in enumerate(log_probabilities(tokens, seed, options))
        ]
        candidates = sorted(candidates, reverse=True)[: 2 * options.n_beams]
        if len(finished) == options.n_beams:
            worst = min(score for score, _ in finished)
            if worst >= candidates[0][0] / (step - 1) ** options.length_penalty:  # the published loop counts from 0
                return without_end(max(finished)[1]), step
        live = []
        for score, tokens in candidates:
            if tokens[-1] == EOS or step == max_tokens:
                finished = sorted([*finished, (score / step**options.length_penalty, tokens)])[-options.n_beams :]
            elif len(live) < options.n_beams:
                live.append((score, tokens))
            if len(live) == options.n_beams:
                break
    return without_end(max(finished)[1]), max_tokens


def without_end(tokens: Tokens) -> Tokens:
    return tokens[:-1] if tokens[-1] == EOS else tokens


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 3.0])
def test_enough_paths_find_the_best_answer_of_all(seed, length_penalty):
    options = BeamOptions(n_beams=1000, repetition_penalty=1.3, length_penalty=length_penalty)
    assert search(seed, options, 4)[0].best.tokens == best_of_all(seed, options, 4)


@pytest.mark.parametrize("options", [BeamOptions(), BeamOptions(length_penalty=0.5), BeamOptions(2, 1.0, 1.6, 1.0)])
def test_three_paths_go_as_described(options):
    n_early = 0
    for seed in range(40):
        beams, n_steps = search(seed, options, 9)
        assert (beams.best.tokens, n_steps) == as_described(seed, options, 9)
        n_early += n_steps < 9
    assert n_early or options.length_penalty > 1  # long answers are wanted there: few searches end before the limit


def test_what_is_settled_stays_and_is_whole_at_the_end():
    beams, _ = search(3, BeamOptions(), 8)
    assert beams.settled == beams.best.tokens


def test_the_limit_cuts():
    never = np.zeros(N_VOCAB, np.bool_)
    beams = BeamSearch(BeamOptions(), never, 2)
    beams.take(logits_after((), 0)[None])
    assert not beams.is_finished
    beams.take(np.stack([logits_after((token,), 0) for token in beams.tokens]))
    assert beams.is_finished and len(beams.best.tokens) == 2 and not beams.has_ended_itself


def test_a_masked_token_is_in_no_path():
    logits = np.full((1, N_VOCAB), -np.inf, np.float32)
    logits[0, [1, 4]] = 0
    beams = BeamSearch(BeamOptions(), ENDS, 5)
    beams.take(logits)
    assert beams.tokens == [1, 4] and beams.parents == [0, 0]


def test_damaged_logits_are_refused():
    with pytest.raises(ModelFormatError, match="logits: expected numbers, got nan"):
        BeamSearch(BeamOptions(), ENDS, 5).take(np.full((1, N_VOCAB), np.nan, np.float32))


# Worked by hand -------------------------------------------------------------------------------------------------------

BOS, A, B, END = range(4)
BY_HAND = np.arange(4) == END


def logs(**probabilities: float) -> list[float]:
    """Logits whose softmax these are, of bos, a, b, end."""
    return [math.log(probabilities.get(name, 1e-9)) for name in ("bos", "a", "b", "end")]


def test_a_path_that_goes_on_is_measured_by_the_length_that_it_has():
    """One path, power 1. Step 1: "end" 0.4 (-0.916), "a" 0.35 (-1.050). Step 2: "a end" 0.35 * 0.9 (-1.155).

    -0.916 >= -1.155 / 1: the search ends, though "a end" would score -1.155 / 2 = -0.578.
    """
    beams = BeamSearch(BeamOptions(1, 1.0, 1.0, 1.0), BY_HAND, 9)
    beams.take(np.array([logs(a=0.35, b=0.25, end=0.4)], np.float32))
    assert beams.tokens == [A] and not beams.is_finished
    beams.take(np.array([logs(b=0.1, end=0.9)], np.float32))
    assert beams.is_finished and beams.best.tokens == () and beams.has_ended_itself
    assert beams.best.score == pytest.approx(math.log(0.4), abs=1e-6)


def test_a_better_path_that_goes_on_is_waited_for():
    """As before with "a" 0.55 and "end" 0.4: -0.916 < ln(0.55 * 0.9) = -0.703, so step 2 counts: -0.703 / 2 wins."""
    beams = BeamSearch(BeamOptions(1, 1.0, 1.0, 1.0), BY_HAND, 9)
    beams.take(np.array([logs(a=0.55, b=0.05, end=0.4)], np.float32))
    assert beams.tokens == [A]  # "end" came second and was not walked to: one path was live
    beams.take(np.array([logs(b=0.1, end=0.9)], np.float32))
    assert not beams.is_finished and beams.tokens == [B]  # "end" ended, b goes on
    beams.take(np.array([logs(a=0.5, end=0.5)], np.float32))  # ln(0.55 * 0.1 * 0.5) / 2 = -1.797 < -0.351
    assert beams.is_finished and beams.best.tokens == (A,)
    assert beams.best.score == pytest.approx(math.log(0.55 * 0.9) / 2, abs=1e-6)


def test_what_ends_after_the_last_live_path_does_not_count():
    """Two paths of six candidates: a, b, then "end": both places are taken before "end" is reached."""
    beams = BeamSearch(BeamOptions(2, 1.0, 1.0, 1.0), BY_HAND, 1)
    beams.take(np.array([logs(a=0.4, b=0.35, end=0.25)], np.float32))
    assert beams.best.tokens == (A,) and not beams.has_ended_itself


def test_penalty_before_temperature_and_before_the_softmax():
    """Logits bos 3, a 2, b -1, end 0; <s> was fed: 3 / 1.5 = 2. Over 0.5: 4, 4, -2, 0."""
    options = BeamOptions(2, 0.5, 1.5, 1.0, opening=(BOS,))
    beams = BeamSearch(options, BY_HAND, 9)
    beams.take(np.array([[3, 2, -1, 0]], np.float32))
    total = math.log(2 * math.exp(4) + math.exp(-2) + math.exp(0))
    assert beams.tokens == [BOS, A]
    assert [path.score for path in beams._live] == pytest.approx([4 - total] * 2)
    # Then the path with a: bos 3 -> 2, a 2 -> 4/3, a negative logit of a token that was said is multiplied: -1 -> -1.5.
    beams.take(np.array([[-9, -9, -9, 9], [3, 2, -1, 0]], np.float32))
    other = math.log(sum(math.exp(2 * each) for each in (2, 4 / 3, -1, 0)))
    assert beams._live[0].tokens == (A, BOS)
    assert beams._live[0].score == pytest.approx(4 - total + 4 - other)


def test_words_of_the_request_count_as_the_token_that_stands_for_them():
    """Token 4 is a word of the request, a stands for such words: after 4 was said, a is penalized, and 4 is not."""
    ends = np.arange(5) == END
    beams = BeamSearch(BeamOptions(1, 1.0, 2.0, 1.0), ends, 9, {4: A})
    beams.take(np.array([[0, 0, 0, 0, 9]], np.float32))
    assert beams.tokens == [4]
    beams.take(np.array([[0, 6, 0, 0, 5]], np.float32))  # a: 6 / 2 = 3, less than 5
    assert beams.tokens == [4]


def test_a_path_that_ended_worse_holds_nothing_back():
    """Of those that have ended only the best can be the answer: what it and the live ones begin with is certain."""
    beams = BeamSearch(BeamOptions(n_beams=2, length_penalty=1.0, temperature=1.0, repetition_penalty=1.0), ENDS, 9)

    def take(*rows: dict[int, float]) -> None:
        beams.take(np.array([[row.get(i, -9.0) for i in range(N_VOCAB)] for row in rows], np.float32))

    take({0: 1.0, 1: 0.9})
    assert beams.tokens == [0, 1] and beams.settled == ()
    take({2: 5.0}, {EOS: 4.0})  # the path of 1 ends
    assert beams.settled == ()
    take({EOS: 7.0, 3: 5.0, 4: 5.0}, {})  # that of 0 2 ends, too, and better
    assert beams.best.tokens == (0, 2) and (1,) in [path.tokens for path in beams._ended]
    assert not beams.is_finished and beams.settled[:2] == (0, 2)


@pytest.mark.parametrize("seed", range(8))
def test_the_best_are_found_without_sorting_all_and_ties_go_by_index(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 3, (3, 50)).astype(np.float64)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    for n_beams in (1, 3, 60):
        wanted = np.argsort(-scores, axis=None, kind="stable")[: 2 * n_beams]
        assert BeamSearch(BeamOptions(n_beams=n_beams), ENDS, 9)._best(scores) == wanted.tolist()
