"""The KV cache as a prefix of the conversation: only what differs is decoded, and what is reused is right."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import palo_cpp.llm.kv_cache as kv_cache
from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.prompt import ImageSegment, TextSegment
from palo_cpp.llm.kv_cache import KvCache, cells_of, check_fits, n_common
from palo_cpp.vision.embedding_cache import Features


class CountingModel:
    """A context that only counts what it is given; its logits tell what stands in it."""

    n_ctx = 100

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.cells: list[float] = []
        self.decoded: list[int] = []
        self.fails = False

    def decode(self, inputs, *, position: int, all_logits: bool = False) -> np.ndarray:
        assert position == len(self.cells)
        if self.fails:
            raise KeyboardInterrupt
        self.decoded.append(len(inputs))
        rows = []
        for row in inputs:
            self.cells.append(float(np.sum(row)))
            rows.append(np.array([len(self.cells), *self.cells, *[0] * (self.n_ctx - len(self.cells))], np.float32))
        return np.stack(rows) if all_logits else rows[-1]

    def remove(self, seq_id: int, start: int = 0) -> None:
        assert seq_id == 0
        del self.cells[start:]


def text(*tokens: int) -> TextSegment:
    return TextSegment(tokens)


def image(name: str, n_rows: int = 3, value: float = 0.5) -> ImageSegment:
    return ImageSegment(name, n_rows, lambda: Features(np.full((n_rows, 2), value, np.float32), False))


def never() -> Features:
    raise AssertionError("an image that stands in the cache is not encoded again")


def test_common_prefix():
    assert n_common([1, 2, 3], [1, 2, 4]) == 2
    assert n_common([1, 2], [1, 2, 3]) == 2
    assert n_common([], [1]) == 0
    assert cells_of([text(1, 2), image("a", 2)]) == [1, 2, ("a", 0), ("a", 1)]


def test_only_the_new_end_is_decoded():
    model = CountingModel()
    cache = KvCache(model)
    assert cache.read([text(1, 2), image("a"), text(3, 4)]).n_cached == 0
    assert model.decoded == [2, 3, 2]
    cursor = cache.read([text(1, 2), ImageSegment("a", 3, never), text(3, 4, 5, 6)])
    assert cursor.n_cached == 7
    assert model.decoded == [2, 3, 2, 2]
    assert model.cells == [1, 2, 1, 1, 1, 3, 4, 5, 6]


def test_the_same_prompt_decodes_its_last_token_again():
    model = CountingModel()
    cache = KvCache(model)
    first = cache.read([text(1, 2, 3)])
    again = cache.read([text(1, 2, 3)])
    assert again.n_cached == 2
    np.testing.assert_array_equal(first.logits, again.logits)


def test_another_image_is_read_from_the_image_on():
    model = CountingModel()
    cache = KvCache(model)
    cache.read([text(1), image("a"), text(2)])
    assert cache.read([text(1), image("b", value=9.0), text(2)]).n_cached == 1
    assert model.cells == [1, 18, 18, 18, 2]


def test_advancing_and_the_next_question():
    model = CountingModel()
    cache = KvCache(model)
    cursor = cache.read([text(1)])
    cache.advance(cursor, 7)
    cache.advance(cursor, 8)
    assert model.cells == [1, 7, 8]
    assert cache.read([text(1, 7, 8, 9)]).n_cached == 3


def test_a_right_guess_costs_no_step():
    model = CountingModel()
    cache = KvCache(model)
    cursor = cache.read([text(1)])
    logits = cache.advance(cursor, 7, guess=8)
    assert (model.decoded, model.cells, cursor.cells) == ([1, 2], [1, 7, 8], [1, 7])
    assert logits[:4].tolist() == [2, 1, 7, 0] and cursor.is_guessed(8) and not cursor.is_guessed(7)
    assert cache.advance(cursor, 8, guess=9)[:5].tolist() == [3, 1, 7, 8, 0]  # no room was asked for 9
    assert (model.decoded, cursor.cells, cursor.guess) == ([1, 2], [1, 7, 8], None)
    assert cache.read([text(1, 7, 8, 9)]).n_cached == 3


def test_a_wrong_guess_leaves_nothing():
    model = CountingModel()
    cache = KvCache(model)
    cursor = cache.read([text(1)])
    cache.advance(cursor, 7, guess=8)
    assert cache.advance(cursor, 9)[:5].tolist() == [3, 1, 7, 9, 0]
    assert model.cells == [1, 7, 9] and cursor.guess is None
    cache.advance(cursor, 2, guess=3)
    cache.release(cursor)
    assert model.cells == [1, 7, 9, 2]
    cache.advance(cursor, 4, guess=5)
    assert cache.read([text(1, 7, 9, 2, 4, 5)]).n_cached == 5  # a guess is not part of the conversation
    assert model.cells == [1, 7, 9, 2, 4, 5]


def test_a_guess_goes_where_another_conversation_comes_between():
    model = CountingModel()
    cache = KvCache(model)
    one, other = cache.read([text(1)]), cache.read([text(2)])
    cache.advance(one, 7, guess=8)
    cache.advance(other, 3)
    cache.release(one)  # the other's cells stay
    assert model.cells == [2, 3]
    assert cache.advance(one, 8)[:5].tolist() == [3, 1, 7, 8, 0]
    assert model.cells == [1, 7, 8]


def test_conversations_that_take_turns_stay_right():
    model = CountingModel()
    cache = KvCache(model)
    one, other = cache.read([text(1), image("a")]), cache.read([text(2)])
    for token in (10, 11, 12):
        np.testing.assert_array_equal(cache.advance(one, token)[1:5], [1, 1, 1, 1])
        assert model.cells[4:] == [float(t) for t in range(10, token + 1)]
        cache.advance(other, token + 10)
        assert model.cells == [2.0, *(float(t + 10) for t in range(10, token + 1))]


def test_an_interrupted_read_leaves_a_prefix():
    model = CountingModel()
    cache = KvCache(model)
    cache.read([text(1, 2)])
    model.fails = True
    with pytest.raises(KeyboardInterrupt):
        cache.read([text(1, 5), image("a")])
    model.fails = False
    assert cache.read([text(1, 5)]).n_cached == 1
    assert model.cells == [1, 5]


def test_reading_ahead_goes_in_pieces_and_is_a_prefix(monkeypatch):
    monkeypatch.setattr(kv_cache, "N_AHEAD", 2)
    model = CountingModel()
    cache = KvCache(model)
    beginning = [text(1, 2, 3), image("a")]
    cache.read_ahead(beginning, lambda: False)
    assert model.decoded == [2, 1, 2, 1] and model.cells == [1, 2, 3, 1, 1, 1]
    assert cache.read([*beginning, text(4)]).n_cached == 6
    cache.read_ahead(beginning, lambda: False)  # it is there: nothing is cut off or decoded
    assert model.cells == [1, 2, 3, 1, 1, 1, 4] and model.decoded == [2, 1, 2, 1, 1]


def test_reading_ahead_ends_when_told_when_displaced_and_where_an_answer_is_decoded(monkeypatch):
    monkeypatch.setattr(kv_cache, "N_AHEAD", 1)
    model = CountingModel()
    cache = KvCache(model)
    over = iter([False, False, True])
    cache.read_ahead([text(1, 2, 3, 4)], lambda: next(over))
    assert model.cells == [1, 2]

    def displace() -> bool:
        if len(model.cells) == 3:
            cache.release(cache.read([text(8)]))
        return False

    cache.read_ahead([text(1, 2, 3, 4)], displace)
    assert model.cells == [8]
    cursor = cache.read([text(9)])
    cache.read_ahead([text(1, 2)], lambda: False)
    assert model.cells == [9]
    cache.release(cursor)
    cache.read_ahead([text(1, 2)], lambda: False)
    assert model.cells == [1, 2]


def test_an_answer_that_nobody_holds_any_more_is_no_answer():
    model = CountingModel()
    cache = KvCache(model)
    cursor = cache.read([text(9)])
    del cursor
    gc.collect()
    cache.read_ahead([text(1, 2)], lambda: False)
    assert model.cells == [1, 2]


def test_images_that_will_be_needed():
    cache = KvCache(CountingModel())
    a, b = image("a"), image("b")
    assert cache.images_to_read([text(1), a, text(2), b]) == [a, b]
    cache.read([text(1), a, text(2)])
    assert cache.images_to_read([text(1), a, text(2), b]) == [b]
    assert cache.images_to_read([text(1), a]) == []
    assert cache.images_to_read([text(3), a]) == [a]


def test_clear():
    model = CountingModel()
    cache = KvCache(model)
    cache.read([text(1, 2)])
    cache.clear()
    assert model.cells == []
    assert cache.read([text(1, 2)]).n_cached == 0


def test_a_prompt_that_does_not_fit_says_by_how_much():
    assert check_fits([text(*range(50)), image("a", 49)], 100) == 99
    with pytest.raises(ArgumentError, match=r"at most 99 tokens, got 112: 13 too many"):
        check_fits([text(*range(50)), image("a", 62)], 100)


def test_reused_prefix_gives_the_logits_of_a_fresh_one(language_model):
    rows = np.random.default_rng(0).standard_normal((9, 64)).astype(np.float32) * 0.3
    picture = ImageSegment("p", 9, lambda: Features(rows, False))
    cache = KvCache(language_model)
    cache.read([text(1, 30, 31), picture, text(40, 41, 42, 43)])
    reused = cache.read([text(1, 30, 31), picture, text(40, 50, 51)])
    assert reused.n_cached == 13
    cache.clear()
    fresh = cache.read([text(1, 30, 31), picture, text(40, 50, 51)])
    np.testing.assert_allclose(reused.logits, fresh.logits, atol=0.03)  # f16 keys and values; observed 0.003
