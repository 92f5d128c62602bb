"""Streams read in turn, threads and asyncio on one `Palo`: nothing is decoded twice, and nobody waits for a stream."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from palo_cpp import Palo
from palo_cpp.languages.languages import LANGUAGES

OPTIONS = {"max_tokens": 24, "lang_mode": "off"}


@pytest.fixture
def decoded(palo, monkeypatch) -> list[int]:
    """Rows of each call of `LanguageModel.decode`."""
    rows: list[int] = []
    monkeypatch.setattr(palo.language_model, "decode", counting(palo.language_model.decode, rows))
    return rows


def counting(decode, rows):
    return lambda inputs, **options: (rows.append(len(inputs)), decode(inputs, **options))[1]


def in_turn(streams):
    """Read one piece of each until all have ended."""
    left = list(streams)
    while left:
        left = [stream for stream in left if next(stream, None) is not None]
    return [stream.answer for stream in streams]


def test_streams_read_in_turn_decode_no_more_rows(palo, picture, other_picture, decoded):
    alone = [palo.stream(image, "What is this?", **OPTIONS).read() for image in (picture, other_picture)]
    n_alone = sum(decoded)
    palo.clear_cache()
    decoded.clear()
    answers = in_turn([palo.stream(image, "What is this?", **OPTIONS) for image in (picture, other_picture)])
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in alone]
    assert sum(decoded) <= n_alone


def test_streams_that_do_not_fit_together_are_prefilled_twice_at_most(model_dir, picture, other_picture):
    with Palo(model_dir, n_ctx=128, n_threads=1) as palo:
        alone = [palo.stream(image, "What is this?", **OPTIONS).read() for image in (picture, other_picture)]
        n_prompt = alone[0].timings.n_prompt_tokens
        assert 2 * n_prompt > palo.language_model.n_ctx
        palo.clear_cache()
        rows: list[int] = []
        palo.language_model.decode = counting(palo.language_model.decode, rows)
        answers = in_turn([palo.stream(image, "What is this?", **OPTIONS) for image in (picture, other_picture)])
        n_answer = sum(len(answer.token_ids) for answer in answers)
        assert [answer.text for answer in answers] == [answer.text for answer in alone]
        assert sum(rows) <= 2 * (2 * n_prompt + n_answer)


@pytest.mark.parametrize("end", ["dropped", "kept", "closed"])
def test_a_stream_that_is_not_read_to_its_end_keeps_nobody_waiting(palo, picture, other_picture, end):
    expected = palo.ask(other_picture, "What?", **OPTIONS)
    stream = palo.stream(picture, "What is this?", **OPTIONS)
    next(stream)
    if end == "closed":
        stream.close()
    elif end == "dropped":
        del stream
        gc.collect()
    with ThreadPoolExecutor(1) as other_thread:
        answer = other_thread.submit(palo.ask, other_picture, "What?", **OPTIONS).result(timeout=60)
    assert answer.token_ids == expected.token_ids


def test_many_streams_share_the_context(palo, picture):
    streams = {code: palo.stream(picture, lang=code, max_tokens=6, lang_mode="off") for code in LANGUAGES}
    answers = in_turn(list(streams.values()))
    palo.clear_cache()
    for code, answer in zip(streams, answers, strict=True):
        assert answer.token_ids == palo.stream(picture, lang=code, max_tokens=6, lang_mode="off").read().token_ids


def test_threads_ask_and_stream_side_by_side(palo, picture, other_picture):
    images = {"one": picture, "other": other_picture}
    expected = {name: palo.ask(image, "What is this?", **OPTIONS).text for name, image in images.items()}
    barrier, wrong = threading.Barrier(4), []

    def work(number):
        name = ("one", "other")[number % 2]
        barrier.wait()
        for _ in range(3):
            if number < 2:
                text = palo.ask(images[name], "What is this?", **OPTIONS).text
            else:
                text = "".join(piece.text for piece in palo.stream(images[name], "What is this?", **OPTIONS))
            wrong.extend([] if text == expected[name] else [(number, text)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_asyncio_gathers_answers_and_streams(palo, picture, other_picture):
    expected = [palo.ask(image, "What is this?", **OPTIONS).text for image in (picture, other_picture)]

    async def streamed(image):
        stream, text = palo.stream(image, "What is this?", **OPTIONS), ""
        while (piece := await asyncio.to_thread(next, stream, None)) is not None:
            text += piece.text
        return text

    async def all_at_once():
        asked = [asyncio.to_thread(palo.ask, image, "What is this?", **OPTIONS) for image in (picture, other_picture)]
        return await asyncio.gather(*asked, streamed(picture), streamed(other_picture))

    answers = asyncio.run(all_at_once())
    assert [answer.text for answer in answers[:2]] == answers[2:] == expected


def test_no_lock_of_the_model_is_held_while_an_image_is_encoded(palo, picture, monkeypatch):
    held = []
    encode = palo.vision.encode

    def watched(pixels):
        def probe():
            free = palo.language_model.lock.acquire(timeout=10)
            held.append(not free)
            if free:
                palo.language_model.lock.release()

        thread = threading.Thread(target=probe)
        thread.start()
        thread.join()
        return encode(pixels)

    monkeypatch.setattr(palo.vision, "encode", watched)
    palo.ask(picture, "What is this?", max_tokens=1)
    palo.clear_cache()
    palo.describe(picture, lang=["en", "hi"], max_tokens=1)
    assert held == [False, False]


def test_a_dropped_model_frees_what_it_held(model_dir, picture):
    import weakref

    palo = Palo(model_dir, n_threads=1)
    palo.ask(picture, "What is this?", max_tokens=2)
    held = [weakref.ref(each) for each in (palo.language_model, palo.vision, palo._model, palo._model.embedder)]
    freed = palo.language_model._close
    del palo
    gc.collect()
    assert [each() for each in held] == [None] * 4 and not freed.alive
