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
            if worst >= candidates[0][0] / step**options.length_penalty:
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
