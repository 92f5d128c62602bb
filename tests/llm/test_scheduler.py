"""Threads that wait for their tokens together: one step for all, prompts in pieces between, nobody kept waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import pytest
from counting_model import Cache, CountingModel, image, text

from palo_cpp.errors import AnswerStopped, OutOfMemoryError
from palo_cpp.llm import scheduler
from palo_cpp.llm.cursor import Cursor
from palo_cpp.llm.step import N_AMONG_PROMPTS, N_BESIDE
from palo_cpp.segments import cells_of

LONG_S = 20.0  # nothing here takes that long


class Gate:
    """Holds the step that is under way until it is opened."""

    def __init__(self, model: CountingModel) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self._model = model
        model.during = self

    def __call__(self) -> None:
        self._model.during = lambda: None  # the next ones go through
        self.reached.set()
        assert self.opened.wait(LONG_S)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def patient(monkeypatch):
    """Steps wait as long as they need to for the answers of the last one."""
    for name in ("_SHORTEST_WAIT_S", "_LONGEST_WAIT_S"):
        monkeypatch.setattr(scheduler, name, LONG_S)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def behind_a_step(cache: Cache, model: CountingModel, threads: ThreadPoolExecutor, *works: Callable[[], object]):
    """Let these come, one after the other, while a step for another answer is under way."""
    other = cache.read([text(99)])
    gate = Gate(model)
    first = threads.submit(cache.advance, other, 98)
    assert gate.reached.wait(LONG_S)
    coming: list[Future[object]] = []
    for work in works:
        coming.append(threads.submit(work))
        wait_for(lambda: len(cache._scheduler._jobs) > len(coming))
    model.decoded.clear()
    gate.opened.set()
    first.result(LONG_S)
    cache.release(other)
    return coming


def test_a_step_takes_a_row_of_each_answer_that_waits(threads):
    model = CountingModel(n_parallel=4)
    cache = Cache(model)
    cursors = [cache.read([text(i, 10 + i)]) for i in range(3)]
    coming = behind_a_step(
        cache, model, threads, *(lambda c=cursor, i=i: cache.advance(c, 50 + i) for i, cursor in enumerate(cursors))
    )
    for i, waited in enumerate(coming):
        assert waited.result(LONG_S)[:4].tolist() == [3, i, 10 + i, 50 + i]
    assert model.decoded[-1] == (1, 1, 1) and cache.counts.n_together == 3


@pytest.mark.usefixtures("patient")
def test_threads_that_go_on_stay_together(threads):
    model = CountingModel(n_parallel=4)
    cache = Cache(model)
    cursors = [cache.read([text(i)]) for i in range(4)]
    everybody = threading.Barrier(4)

    def answer(cursor: Cursor) -> list[float]:
        everybody.wait()
        for token in range(20, 40):
            logits = cache.advance(cursor, token)
        cache.release(cursor)
        return logits[:22].tolist()

    model.decoded.clear()
    model.during = lambda: time.sleep(0.005)
    found = list(threads.map(answer, cursors))
    assert found == [[21, i, *range(20, 40)] for i in range(4)]
    assert model.decoded.count((1, 1, 1, 1)) >= 15  # at the beginning and at the end, some are fewer


@pytest.mark.usefixtures("patient")
def test_one_that_nobody_pulls_is_waited_for_once(threads):
    model = CountingModel(n_parallel=2)
    cache = Cache(model)
    one, other = cache.read([text(1)]), cache.read([text(2)])
    gate = Gate(model)
    coming = [threads.submit(cache.advance, cursor, 7) for cursor in (one, other)]
    assert gate.reached.wait(LONG_S)
    wait_for(lambda: len(cache._scheduler._jobs) == 2)
    gate.opened.set()
    [each.result(LONG_S) for each in coming]
    scheduler._LONGEST_WAIT_S = scheduler._SHORTEST_WAIT_S = 0.2  # monkeypatched
    waits = []
    for token in range(8, 12):
        begun_at = time.perf_counter()
        cache.advance(one, token)
        waits.append(time.perf_counter() - begun_at)
    assert sum(wait > 0.1 for wait in waits) <= 1
    assert cache.is_alone(one)


@pytest.mark.usefixtures("patient")
def test_two_that_one_thread_reads_in_turn_never_wait():
    cache = Cache(CountingModel())
    one, other = cache.read([text(1)]), cache.read([text(2)])
    begun_at = time.perf_counter()
    for token in range(10):
        cache.advance(one, token)
        cache.advance(other, token, guess=90)  # nothing else comes from other threads: the guess is decoded
        assert other.guess is not None
    assert time.perf_counter() - begun_at < LONG_S / 4


def test_a_guess_is_not_decoded_beside_others(threads):
    model = CountingModel(n_parallel=2)
    cache = Cache(model)
    one, other = cache.read([text(1)]), cache.read([text(2)])
    coming = behind_a_step(
        cache, model, threads, lambda: cache.advance(one, 7, guess=8), lambda: cache.advance(other, 7, guess=8)
    )
    [each.result(LONG_S) for each in coming]
    assert model.decoded[-1] == (1, 1) and one.guess is None and other.guess is None


@pytest.mark.usefixtures("patient")
def test_a_prompt_is_read_in_pieces_between_the_steps_of_others(threads):
    model = CountingModel(n_ctx=200, n_parallel=2)
    model.during = lambda: time.sleep(0.002)
    cache = Cache(model)
    running = cache.read([text(1)])
    cache.advance(running, 5)
    ended = threading.Event()

    def decode() -> int:
        n = 0
        while not ended.is_set():
            cache.advance(running, 6)
            n += 1
        cache.release(running)
        return n

    def read() -> Cursor:
        cursor = cache.read([text(*range(100, 100 + 3 * N_BESIDE)), image("a"), text(3)])
        ended.set()
        return cursor

    model.decoded.clear()
    decoding = threads.submit(decode)
    wait_for(lambda: len(model.decoded) > 3)
    assert threads.submit(read).result(LONG_S).logits[0] == 3 * N_BESIDE + 4
    assert decoding.result(LONG_S) >= 5
    pieces = [i for i, n in enumerate(model.decoded) if n != 1]
    assert [model.decoded[i] for i in pieces] == [N_BESIDE, N_BESIDE, N_BESIDE, 3]
    assert all(later - earlier > 1 for earlier, later in pairwise(pieces))


def test_prompts_alone_are_read_as_one_piece_and_a_short_one_need_not_wait_for_a_long_one(threads):
    model = CountingModel(n_ctx=500, n_parallel=3)
    cache = Cache(model)
    prompts = [text(7, *range(100, 400)), text(8, 1, 2, 3), text(9, 1, 2)]
    order: list[int] = []

    def read(prompt) -> Cursor:
        cursor = cache.read([prompt])
        order.append(prompt.tokens[0])
        return cursor

    coming = behind_a_step(cache, model, threads, *(lambda p=prompt: read(p) for prompt in prompts))
    for prompt, waited in zip(prompts, coming, strict=True):
        assert waited.result(LONG_S).logits[1 : 1 + len(prompt)].tolist() == list(prompt.tokens)
    assert order[-1] == 7 and max(max(n) if isinstance(n, tuple) else n for n in model.decoded) <= N_AMONG_PROMPTS + 301
    assert any(isinstance(n, tuple) for n in model.decoded)


def test_what_two_prompts_share_is_decoded_once_and_kept_conversations_go_on():
    model = CountingModel(n_parallel=3)
    cache = Cache(model)
    shown = [text(1, 2), image("a")]
    for question in (5, 6, 7):
        cache.release(cache.read([*shown, text(question)]))
    assert model.decoded == [2, 3, 1, 1, 1]
    for question in (5, 6, 7):
        cursor = cache.read([*shown, text(question, 8)])
        assert (cursor.n_cached, cursor.logits[6:8].tolist()) == (6, [question, 8])
        cache.release(cursor)
    assert cache.encoded == ["a"] and cache.counts.n_rows_repeated == 0
    assert cache.counts.n_rows_reused == 2 * 5 + 3 * 6


def test_what_is_decoded_once_more_is_counted():
    cache = Cache(CountingModel())  # keeps one conversation
    for prompt in ([text(1, 2, 3)], [text(9, 8)], [text(1, 2, 3, 4)]):
        cache.release(cache.read(prompt))
    assert cache.counts.n_rows_repeated == 3


@pytest.mark.parametrize("at", ["prompt", "token"])
def test_an_answer_is_stopped_from_another_thread(threads, at):
    model = CountingModel(n_ctx=300, n_parallel=2)
    cache = Cache(model)
    cursor = Cursor([text(*range(100, 300))])
    if at == "token":
        assert cache.place(cursor, {})
        work = lambda: cache.advance(cursor, 7)  # noqa: E731
    else:
        work = lambda: cache.place(cursor, {})  # noqa: E731
    other = cache.read([text(99)])
    gate = Gate(model)
    first = threads.submit(cache.advance, other, 98)
    assert gate.reached.wait(LONG_S)
    waiting = threads.submit(work)
    wait_for(lambda: len(cache._scheduler._jobs) == 2)
    stopping = threads.submit(cache.stop, cursor)
    wait_for(lambda: cursor.is_stopped)
    model.decoded.clear()
    gate.opened.set()
    with pytest.raises(AnswerStopped):
        waiting.result(LONG_S)
    first.result(LONG_S)
    stopping.result(LONG_S)
    assert model.decoded == [1] and cache.n_running == 1
    assert cache.advance(other, 97)[:4].tolist() == [3, 99, 98, 97]


def test_a_prompt_that_nobody_waits_for_any_more_is_left():
    model = CountingModel(n_ctx=400)
    cache = Cache(model)
    cursor = Cursor([text(*range(50)), image("a"), text(1)], should_stop=lambda: len(model.decoded) == 1)
    with pytest.raises(AnswerStopped):
        cache.place(cursor, {"a": [[0.5, 0.5]] * 3})
    assert model.decoded == [50]


def test_an_error_is_everybodys_and_ctrl_c_only_that_threads(threads, monkeypatch):
    model = CountingModel(n_parallel=2)
    cache = Cache(model)
    one, other = cache.read([text(1)]), cache.read([text(2)])
    decode_many, failures = model.decode_many, [OutOfMemoryError("full"), KeyboardInterrupt()]

    def failing(tokens):
        rows = decode_many(tokens)
        if failures:
            raise failures.pop(0)
        return rows

    monkeypatch.setattr(model, "decode_many", failing)
    works = [lambda: cache.advance(one, 7), lambda: cache.advance(other, 7)]
    for waited in behind_a_step(cache, model, threads, *works):
        with pytest.raises(OutOfMemoryError):
            waited.result(LONG_S)
    ends = []
    for waited in behind_a_step(cache, model, threads, *works):
        try:
            ends.append(waited.result(LONG_S)[0])
        except KeyboardInterrupt:
            ends.append("interrupted")
    assert sorted(map(str, ends)) == ["2.0", "interrupted"]
    assert sorted(cursor.cells for cursor in (one, other)) in ([[1], [2, 7]], [[1, 7], [2]])
    assert [model.sequences[c.sequence.seq_id] for c in (one, other)] == [one.cells, other.cells]


@pytest.mark.usefixtures("patient")
def test_where_room_ends_the_last_to_come_gives_way_and_goes_on_later(threads):
    model = CountingModel(n_ctx=24)  # for both answers together
    model.during = lambda: time.sleep(0.005)
    cache = Cache(model)
    prompts = [text(1, 2, 3), text(4, 5, 6)]
    everybody = threading.Barrier(2)

    cursors = [cache.read([prompt]) for prompt in prompts]

    def answer(cursor: Cursor) -> list[float]:
        everybody.wait()
        for token in range(50, 68):
            logits = cache.advance(cursor, token)
        cache.release(cursor)
        return logits[1:22].tolist()

    found = list(threads.map(answer, cursors))
    assert found == [[*prompt.tokens, *range(50, 68)] for prompt in prompts]
    assert cache.n_displaced >= 1
    assert cells_of([prompts[0]]) == [1, 2, 3]
