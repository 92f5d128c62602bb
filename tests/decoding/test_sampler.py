"""Choosing tokens: greedy, by chance, under a mask; and the options for it."""

from __future__ import annotations

import numpy as np
import pytest

from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.decoding.sampler import Sampler
from palo_cpp.errors import ArgumentError, ModelFormatError


def test_greedy_takes_the_likeliest_and_the_first_of_equals():
    sampler = Sampler(DecodingOptions())
    assert sampler.seed is None
    assert sampler.pick(np.array([0.0, 3.0, 3.0, -1.0], np.float32)) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_numbers_mean_damaged_weights(temperature, bad):
    with pytest.raises(ModelFormatError, match="weights are damaged"):
        Sampler(DecodingOptions(temperature=temperature)).pick(np.array([0.0, bad, 1.0], np.float32))


def draws(n: int, logits: list[float], **options) -> list[int]:
    sampler = Sampler(DecodingOptions(**options))
    return [sampler.pick(np.array(logits, np.float32)) for _ in range(n)]


def test_seed_decides_and_none_differs():
    logits = list(np.linspace(0, 1, 50))
    assert draws(20, logits, temperature=1.0, seed=7) == draws(20, logits, temperature=1.0, seed=7)
    assert draws(20, logits, temperature=1.0, seed=7) != draws(20, logits, temperature=1.0, seed=8)
    assert draws(20, logits, temperature=1.0) != draws(20, logits, temperature=1.0)


def test_frequencies_follow_the_softmax():
    logits = np.log([0.6, 0.3, 0.1])
    counts = np.bincount(draws(3000, list(logits), temperature=1.0, seed=1), minlength=3) / 3000
    np.testing.assert_allclose(counts, [0.6, 0.3, 0.1], atol=0.03)
    hot = np.bincount(draws(3000, list(logits), temperature=2.0, seed=1), minlength=3) / 3000
    expected = np.sqrt([0.6, 0.3, 0.1]) / np.sqrt([0.6, 0.3, 0.1]).sum()
    np.testing.assert_allclose(hot, expected, atol=0.03)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"top_k": 1}, {3}),
        ({"top_k": 2}, {3, 1}),
        ({"top_k": 0}, {0, 1, 2, 3}),
        ({"top_p": 0.5}, {3}),  # probabilities 0.1, 0.25, 0.05, 0.6
        ({"top_p": 0.8}, {3, 1}),
        ({"min_p": 0.4}, {3, 1}),
        ({"min_p": 1.0}, {3}),
    ],
)
def test_filters_keep_what_they_should(options, allowed):
    logits = list(np.log([0.1, 0.25, 0.05, 0.6]))
    assert set(draws(400, logits, temperature=1.0, seed=3, **options)) == allowed


def test_under_a_mask_the_likeliest_of_what_is_allowed():
    sampler = Sampler(DecodingOptions())
    logits = np.array([0.0, 3.0, 2.0, -1.0], np.float32)
    assert sampler.pick(logits, np.array([True, False, True, True])) == 2
    assert sampler.pick(logits, np.array([True, True, True, True])) == 1
    logits[2:] = -np.inf
    assert sampler.pick(logits, np.array([False, False, True, True])) == 2  # though the model rules them out


def test_under_a_mask_chance_draws_from_what_is_allowed():
    sampler = Sampler(DecodingOptions(temperature=1.0, seed=1))
    mask = np.array([True, False, True, False])
    drawn = [sampler.pick(np.log(np.array([0.1, 0.6, 0.2, 0.1], np.float32)), mask) for _ in range(1000)]
    assert set(drawn) == {0, 2}
    assert abs(np.mean(np.array(drawn) == 2) - 2 / 3) < 0.05


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_k": -1},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"seed": -1},
        {"seed": 2**32 - 1},
        {"stop": ("",)},
        {"stop": (3,)},
    ],
)
def test_options_out_of_range(options):
    (name,) = options
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        DecodingOptions(**options)


def test_one_stop_string_may_be_given_as_text():
    assert DecodingOptions(stop="END").stop == ("END",)
    assert DecodingOptions(stop=None).stop == ()


@pytest.mark.parametrize("n_vocab", [50, 700, 5003])  # fewer than llama.cpp gets, no whole number of columns, many
@pytest.mark.parametrize("top_k", [1, 7, 40])
@pytest.mark.parametrize("is_coarse", [False, True])  # many values alike
def test_top_k_draws_as_if_all_others_were_forbidden(n_vocab, top_k, is_coarse):
    rng = np.random.default_rng(n_vocab + top_k)
    options = DecodingOptions(temperature=1.0, top_k=top_k, seed=5)
    a, b = Sampler(options), Sampler(options)
    for number in range(40):
        logits = rng.normal(size=n_vocab).astype(np.float32)
        logits = np.round(logits * 2) / 2 if is_coarse else logits
        allowed = rng.random(n_vocab) < 0.3 if number % 2 else np.ones(n_vocab, bool)
        values = np.where(allowed, logits, -np.inf)
        kept = values >= np.sort(values)[-min(top_k, allowed.sum())]
        assert a.pick(logits, allowed if number % 2 else None) == b.pick(logits, kept)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("filters", [{}, {"top_k": 50}, {"top_p": 0.7}, {"min_p": 0.02}, {"top_k": 80, "top_p": 0.8}])
@pytest.mark.parametrize("is_masked", [False, True])
def test_many_tokens_are_drawn_as_often_as_they_are_likely(temperature, filters, is_masked):
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=1000).astype(np.float32)
    allowed = rng.random(1000) < 0.7 if is_masked else np.ones(1000, bool)
    order = np.argsort(np.where(allowed, -logits, np.inf))[: allowed.sum()]
    order = order[: filters.get("top_k", len(order))]
    likely = np.exp(logits[order].astype(np.float64))
    before = (np.cumsum(likely) - likely) / likely.sum()
    kept = order[(before < filters.get("top_p", 1.0)) & (likely >= filters.get("min_p", 0.0) * likely[0])]
    expected = np.zeros(1000)
    expected[kept] = np.exp((logits[kept].astype(np.float64) - logits[kept].max()) / temperature)
    expected /= expected.sum()
    sampler = Sampler(DecodingOptions(temperature=temperature, seed=1, **filters))
    drawn = [sampler.pick(logits, allowed if is_masked else None) for _ in range(4000)]
    assert set(drawn) <= set(kept)
    # A distance that chance exceeds once in thousands of such tests (Dvoretzky, Kiefer, Wolfowitz).
    distance = np.abs(np.cumsum(np.bincount(drawn, minlength=1000) / 4000) - np.cumsum(expected)).max()
    assert distance < np.sqrt(np.log(2 / 1e-5) / (2 * 4000))


def test_extreme_logits_and_temperatures():
    logits = np.array([-3.4e38, 3.4e38, -np.inf, 3.4e38], np.float32)
    assert set(draws(50, list(logits), temperature=1e-30, seed=1)) == {1, 3}
    assert set(draws(50, list(logits), temperature=100.0, seed=1)) == {1, 3}
    sampler = Sampler(DecodingOptions(temperature=1.0, seed=1, top_p=0.9))
    assert sampler.pick(logits, np.array([True, False, True, False])) == 0
    assert sampler.pick(logits, np.array([False, False, True, False])) == 2


def test_candidates_of_an_earlier_token_are_forgotten():
    sampler = Sampler(DecodingOptions(temperature=1.0, seed=5))
    logits = np.zeros(1000, np.float32)
    sampler.pick(logits)
    few = np.zeros(1000, bool)
    few[[3, 500]] = True
    assert {sampler.pick(logits, few) for _ in range(50)} == {3, 500}
