"""The KV cache as a prefix of the conversation: only what differs is decoded, and what is reused is right."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from counting_model import Cache, CountingModel, image, text

import palo_cpp.llm.kv_cache as kv_cache
from palo_cpp.errors import ArgumentError
from palo_cpp.llm.context import N_SEQ_MIN
from palo_cpp.llm.kv_cache import KvCache, check_fits
from palo_cpp.segments import cells_of, n_common


def test_common_prefix():
    assert n_common([1, 2, 3], [1, 2, 4]) == 2
    assert n_common([1, 2], [1, 2, 3]) == 2
    assert n_common([], [1]) == 0
    assert cells_of([text(1, 2), image("a", 2)]) == [1, 2, ("a", 0), ("a", 1)]


def test_only_the_new_end_is_decoded():
    model = CountingModel()
    cache = Cache(model)
    first = cache.read([text(1, 2), image("a"), text(3, 4)])
    assert first.n_cached == 0
    assert model.decoded == [2, 3, 2]
    cache.release(first)
    cursor = cache.read([text(1, 2), image("a"), text(3, 4, 5, 6)])
    assert cursor.n_cached == 7 and cache.encoded == ["a"]
    assert model.decoded == [2, 3, 2, 2]
    assert model.cells == [1, 2, 1, 1, 1, 3, 4, 5, 6]


def test_the_same_prompt_decodes_its_last_token_again():
    model = CountingModel()
    cache = Cache(model)
    first = cache.read([text(1, 2, 3)])
    cache.release(first)
    again = cache.read([text(1, 2, 3)])
    assert again.n_cached == 2
    np.testing.assert_array_equal(first.logits, again.logits)


def test_another_image_is_read_from_the_image_on():
    model = CountingModel()
    cache = Cache(model)
    cache.release(cache.read([text(1), image("a"), text(2)]))
    assert cache.read([text(1), image("b"), text(2)], {"b": 9.0}).n_cached == 1
    assert model.cells == [1, 18, 18, 18, 2]


def test_advancing_and_the_next_question():
    model = CountingModel()
    cache = Cache(model)
    cursor = cache.read([text(1)])
    cache.advance(cursor, 7)
    cache.advance(cursor, 8)
    assert model.cells == [1, 7, 8]
    cache.release(cursor)
    assert cache.read([text(1, 7, 8, 9)]).n_cached == 3


def test_a_right_guess_costs_no_step():
    model = CountingModel()
    cache = Cache(model)
    cursor = cache.read([text(1)])
    logits = cache.advance(cursor, 7, guess=8)
    assert (model.decoded, model.cells, cursor.cells) == ([1, 2], [1, 7, 8], [1, 7])
    assert logits[:4].tolist() == [2, 1, 7, 0] and cursor.is_guessed(8) and not cursor.is_guessed(7)
    assert cache.advance(cursor, 8, guess=9)[:5].tolist() == [3, 1, 7, 8, 0]  # no room was asked for 9
    assert (model.decoded, cursor.cells, cursor.guess) == ([1, 2], [1, 7, 8], None)
    cache.release(cursor)
    assert cache.read([text(1, 7, 8, 9)]).n_cached == 3


def test_a_wrong_guess_leaves_nothing():
    model = CountingModel()
    cache = Cache(model)
    cursor = cache.read([text(1)])
    cache.advance(cursor, 7, guess=8)
    assert cache.advance(cursor, 9)[:5].tolist() == [3, 1, 7, 9, 0]
    assert model.cells == [1, 7, 9] and cursor.guess is None
    cache.advance(cursor, 2, guess=3)
    cache.release(cursor)
    assert model.cells == [1, 7, 9, 2]
    cache.advance(cursor, 4, guess=5)
    cache.release(cursor)
    assert cache.read([text(1, 7, 9, 2, 4, 5)]).n_cached == 5  # a guess is not part of the conversation
    assert model.cells == [1, 7, 9, 2, 4, 5]


def test_a_guess_goes_where_another_answer_takes_its_room():
    model = CountingModel(n_ctx=4)
    cache = Cache(model)
    one, other = cache.read([text(1)]), cache.read([text(2)])
    cache.advance(one, 7, guess=8)
    assert (one.n_placed, one.guess is None) == (1, False)
    cache.advance(other, 3)  # no room for both
    assert one.is_displaced and one.n_placed == 1
    cache.release(one)  # the other's cells stay
    assert model.cells == [2, 3]
    cache.release(other)
    assert cache.advance(one, 8)[:5].tolist() == [3, 1, 7, 8, 0]
    assert model.cells == [1, 7, 8] and one.n_placed == 2


def test_answers_under_way_have_a_sequence_each():
    model = CountingModel()
    cache = Cache(model)
    one, other = cache.read([text(1, 2), image("a"), text(4)]), cache.read([text(1, 2), text(3)])
    assert (one.n_cached, other.n_cached, model.decoded) == (0, 2, [2, 3, 1, 1])  # what they share is decoded once
    for token in (10, 11, 12):
        assert cache.advance(one, token)[1:7].tolist() == [1, 2, 1, 1, 1, 4]
        assert cache.advance(other, token + 10)[1:4].tolist() == [1, 2, 3]
    assert model.sequences == {0: [1, 2, 1, 1, 1, 4, 10, 11, 12], 1: [1, 2, 3, 20, 21, 22]}
    assert model.decoded[4:] == [1] * 6 and (one.n_placed, other.n_placed) == (1, 1)
    cache.release(one)
    cache.release(other)
    cache.release(cache.read([text(1, 2), image("a"), text(4, 10, 11, 12, 13)]))
    assert model.cells == [1, 2, 1, 1, 1, 4, 10, 11, 12, 13]  # the other's sequence is held for nobody


def test_answers_that_do_not_fit_together_stay_right():
    model = CountingModel(n_ctx=10)
    cache = Cache(model)
    one, other = cache.read([text(1), image("a")]), cache.read([text(2, 3, 4, 5)])
    for token in (10, 11, 12):
        assert cache.go_on(one, token)[1:5].tolist() == [1, 1, 1, 1]
        assert cache.go_on(other, token + 10)[1:5].tolist() == [2, 3, 4, 5]
    assert one.cells[4:] == [10, 11, 12] and other.cells[4:] == [20, 21, 22]
    assert one.n_placed > 1 and one.n_cached == 0


def test_images_are_encoded_again_where_their_cells_were_given_away():
    model = CountingModel(n_ctx=10)
    cache = Cache(model)
    one = cache.read([text(1), image("a"), text(2)])
    cache.read([text(3, 4, 5, 6, 7, 8)])
    assert one.is_displaced
    assert cache.advance(one, 9) is None  # nothing has changed
    assert [each.content_hash for each in cache.images_to_prefill(one.whole())] == ["a"]
    assert cache.go_on(one, 9)[1:7].tolist() == [1, 1, 1, 1, 2, 9]


def test_a_prompt_whose_images_are_missing_changes_nothing():
    model = CountingModel()
    cache = Cache(model)
    cache.release(cache.read([text(1, 2)]))
    assert cache.prefill([text(1), image("a")], {}) is None
    assert model.cells == [1, 2] and model.decoded == [2]


def test_more_answers_than_sequences_displace_the_one_used_longest_ago():
    model = CountingModel(n_ctx=200)
    cache = Cache(model)
    cursors = [cache.read([text(i)]) for i in range(N_SEQ_MIN - 1)]
    cache.advance(cursors[0], 50)
    cursors.append(cache.read([text(90)]))
    assert [i for i, cursor in enumerate(cursors) if cursor.is_displaced] == [1]
    assert cache.advance(cursors[1], 51)[:3].tolist() == [2, 1, 51]


def test_an_interrupted_read_leaves_a_prefix():
    model = CountingModel()
    cache = Cache(model)
    cache.release(cache.read([text(1, 2)]))
    model.fails = True
    with pytest.raises(KeyboardInterrupt):
        cache.read([text(1, 5), image("a")])
    model.fails = False
    assert cache.read([text(1, 5)]).n_cached == 1
    assert model.cells == [1, 5]


PICTURE = {"a": np.full((3, 2), 0.5)}


def test_reading_ahead_goes_in_pieces_and_is_a_prefix(monkeypatch):
    monkeypatch.setattr(kv_cache, "N_AHEAD", 2)
    model = CountingModel()
    cache = Cache(model)
    beginning = [text(1, 2, 3), image("a")]
    cache.prefill_ahead(beginning, PICTURE, lambda: False)
    assert model.decoded == [2, 1, 2, 1] and model.cells == [1, 2, 3, 1, 1, 1]
    cursor = cache.read([*beginning, text(4)])
    assert cursor.n_cached == 6
    cache.release(cursor)
    cache.prefill_ahead(beginning, PICTURE, lambda: False)  # it is there: nothing is cut off or decoded
    assert model.cells == [1, 2, 3, 1, 1, 1, 4] and model.decoded == [2, 1, 2, 1, 1]


def test_reading_ahead_ends_when_told_when_displaced_and_where_an_answer_is_decoded(monkeypatch):
    monkeypatch.setattr(kv_cache, "N_AHEAD", 1)
    model = CountingModel()
    cache = Cache(model)
    over = iter([False, False, True])
    cache.prefill_ahead([text(1, 2, 3, 4)], {}, lambda: next(over))
    assert model.cells == [1, 2]

    def displace() -> bool:
        if len(model.cells) == 3:
            cache.release(cache.read([text(8)]))
        return False

    cache.prefill_ahead([text(1, 2, 3, 4)], {}, displace)
    assert model.cells == [8]
    cursor = cache.read([text(9)])
    cache.prefill_ahead([text(1, 2)], {}, lambda: False)
    assert model.cells == [9]
    cache.release(cursor)
    cache.prefill_ahead([text(1, 2)], {}, lambda: False)
    assert model.cells == [1, 2]


def test_an_answer_that_nobody_holds_any_more_is_no_answer():
    model = CountingModel()
    cache = Cache(model)
    cursor = cache.read([text(9)])
    del cursor
    gc.collect()
    cache.prefill_ahead([text(1, 2)], {}, lambda: False)
    assert model.cells == [1, 2]


def test_images_that_will_be_needed():
    cache = Cache(CountingModel())
    a, b = image("a"), image("b")
    assert cache.images_to_prefill([text(1), a, text(2), b]) == [a, b]
    cache.read([text(1), a, text(2)])
    assert cache.images_to_prefill([text(1), a, text(2), b]) == [b]
    assert cache.images_to_prefill([text(1), a]) == []
    assert cache.images_to_prefill([text(3), a]) == [a]


def test_clear():
    model = CountingModel()
    cache = Cache(model)
    cache.read([text(1, 2)])
    cache.clear()
    assert model.cells == []
    assert cache.read([text(1, 2)]).n_cached == 0


def test_a_prompt_that_does_not_fit_says_by_how_much():
    assert check_fits([text(*range(50)), image("a", 49)], 100) == 99
    with pytest.raises(ArgumentError, match=r"at most 99 tokens, got 112: 13 too many"):
        check_fits([text(*range(50)), image("a", 62)], 100)


def test_reused_prefix_gives_the_logits_of_a_fresh_one(language_model):
    rows = {"p": np.random.default_rng(0).standard_normal((9, 64)).astype(np.float32) * 0.3}
    cache, picture = KvCache(language_model), image("p", 9)
    cache.release(cache.prefill([text(1, 30, 31), picture, text(40, 41, 42, 43)], rows))
    reused = cache.prefill([text(1, 30, 31), picture, text(40, 50, 51)], rows)
    assert reused.n_cached == 13
    cache.clear()
    fresh = cache.prefill([text(1, 30, 31), picture, text(40, 50, 51)], rows)
    np.testing.assert_allclose(reused.logits, fresh.logits, atol=0.03)  # f16 keys and values; observed 0.003


def test_a_shared_prefix_gives_the_logits_of_a_fresh_one(language_model):
    cache = KvCache(language_model)
    first = cache.prefill([text(1, 30, 31, 40, 41, 42, 43)], {})
    second = cache.prefill([text(1, 30, 31, 40, 50, 51)], {})
    assert second.n_cached == 4
    shared = [cache.advance(cursor, token) for token in (60, 61) for cursor in (first, second)]
    for cells, logits in (([1, 30, 31, 40, 41, 42, 43], shared[2]), ([1, 30, 31, 40, 50, 51], shared[3])):
        cache.clear()
        fresh = cache.prefill([text(*cells)], {})
        cache.advance(fresh, 60)
        np.testing.assert_allclose(cache.advance(fresh, 61), logits, atol=0.03)
