"""Many answers at once on one `Palo`: each is what it is alone, whoever comes, leaves or stops reading meanwhile."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from palo_cpp import Palo
from palo_cpp.errors import ArgumentError, BusyError
from palo_cpp.models.admission import Admission

LONG_S = 60.0
SCENE = Path(__file__).parents[2] / "examples" / "scene.png"
QUESTIONS = {
    "en": "What is this?",
    "hi": "इस तस्वीर में क्या है?",
    "ja": "この画像には何がありますか？",
    "ur": "اس تصویر میں کیا ہے؟",
}
WAYS = {
    "greedy": {"max_tokens": 40},
    "sampled": {"max_tokens": 30, "temperature": 0.8, "seed": 5},
    "short": {"max_tokens": 3, "lang_mode": "off"},
}


@pytest.fixture(scope="module")
def four() -> Iterator[Palo]:
    """PALO-Nano, with room for four answers."""
    with Palo("nano", n_parallel=4, n_threads=1) as palo:
        yield palo


@pytest.fixture(scope="module")
def alone(four) -> dict[tuple[str, str], str]:
    """Language and way -> the answer, when nothing else is asked."""
    return {
        (lang, way): four.ask(SCENE, question, lang=lang, **options).text
        for lang, question in QUESTIONS.items()
        for way, options in WAYS.items()
    }


def wait_for(condition) -> None:
    until = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_answers_at_once_are_those_one_after_the_other(four, alone):
    four.clear_cache()
    before = four.counters()
    everybody = threading.Barrier(len(alone))

    def ask(key):
        lang, way = key
        everybody.wait()
        return four.stream(SCENE, QUESTIONS[lang], lang=lang, **WAYS[way]).read().text

    with ThreadPoolExecutor(len(alone)) as pool:
        assert dict(zip(alone, pool.map(ask, alone), strict=True)) == alone
    after = four.counters()
    assert after.n_together > 1 and after.n_running == 0
    assert after.n_images_encoded == before.n_images_encoded + 1
    n_rows, n_steps = after.n_rows - before.n_rows, after.n_steps - before.n_steps
    assert n_steps < 0.8 * n_rows  # several rows in a step


def test_hundreds_of_interleavings(four, alone):
    """Threads that ask, read on, leave in the middle, drop streams and go on with conversations, at random."""
    wrong: list[object] = []
    n_done = [0] * 6

    def work(number: int) -> None:
        dice = random.Random(number)
        while n_done[number] < 40:
            lang, way = key = dice.choice(list(alone))
            what = dice.choice(["ask", "read", "leave", "drop", "two questions"])
            if what == "ask":
                got = four.ask(SCENE, QUESTIONS[lang], lang=lang, **WAYS[way]).text
            elif what == "two questions":
                with four.chat(SCENE, lang=lang) as chat:
                    got = chat.ask(QUESTIONS[lang], **WAYS[way]).text
                    chat.ask(QUESTIONS[lang], max_tokens=2)
            else:
                stream = four.stream(SCENE, QUESTIONS[lang], lang=lang, **WAYS[way])
                got = "".join(piece.text for piece, _ in zip(stream, range(100 if what == "read" else 2), strict=False))
                if what == "leave":
                    stream.close()
            is_right = alone[key].startswith(got) if what in ("leave", "drop") else got == alone[key]
            wrong.extend([] if is_right else [(key, what, got, alone[key])])
            n_done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(n_done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG_S)
    assert n_done == [40] * 6
    assert wrong == []
    gc.collect()  # streams that were dropped
    wait_for(lambda: four.counters().n_running == 0)


def test_the_second_question_beside_three_others_repeats_nothing(four):
    four.clear_cache()
    others = [np.full((40, 60, 3), 60 * n, np.uint8) for n in (1, 2, 3)]
    chat = four.chat(SCENE, lang="hi")
    chat.ask(QUESTIONS["hi"], max_tokens=12)
    stop = threading.Event()

    def keep_asking(image):
        while not stop.is_set():
            four.ask(image, "What is this?", max_tokens=20)

    threads = [threading.Thread(target=keep_asking, args=(image,)) for image in others]
    for thread in threads:
        thread.start()
    wait_for(lambda: four.counters().n_running == 3)
    time.sleep(0.2)
    n_encoded = four.counters().n_images_encoded
    timings = chat.ask("और क्या है?", max_tokens=6).timings
    stop.set()
    for thread in threads:
        thread.join(LONG_S)
    n_question = len(four.language_model.tokenize("USER: और क्या है? केवल हिन्दी में उत्तर दें। ASSISTANT:"))
    assert timings.n_images_encoded == 0 and four.counters().n_images_encoded == n_encoded
    assert timings.n_prompt_tokens - timings.n_cached_tokens <= n_question + 8


def test_a_thread_that_stops_reading_keeps_nobody_waiting(four, alone):
    stuck = four.stream(SCENE, QUESTIONS["ja"], lang="ja", max_tokens=40)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(next, stuck).result(LONG_S)
    begun_at = time.perf_counter()
    assert four.ask(SCENE, QUESTIONS["hi"], lang="hi", **WAYS["greedy"]).text == alone["hi", "greedy"]
    assert time.perf_counter() - begun_at < LONG_S
    assert "".join(piece.text for piece in stuck)


def test_closing_from_another_thread_ends_it_within_a_step(four):
    stream = four.stream(SCENE, "What is this?", max_tokens=1000, temperature=1.5, seed=1, lang_mode="off")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(stream.read)
        wait_for(lambda: four.counters().n_running == 1)
        stream.close()
        assert four.counters().n_running == 0
        answer = reading.result(LONG_S)
    assert answer is stream.answer and answer.finish_reason == "cancelled"


def test_asyncio_reads_answers_side_by_side_and_a_cancelled_task_frees_its_room(four, alone):
    async def read(lang):
        stream = four.stream(SCENE, QUESTIONS[lang], lang=lang, **WAYS["greedy"])
        return "".join([piece.text async for piece in stream])

    async def all_at_once():
        slow = {"should_stop": lambda: bool(time.sleep(0.3)), "lang_mode": "off"}
        long, begun = four.stream(SCENE, "What is this?", **slow), asyncio.Event()

        async def wait_for_it():
            async for _ in long:
                begun.set()

        task = asyncio.create_task(wait_for_it())
        await begun.wait()
        task.cancel()
        answers = await asyncio.gather(*map(read, QUESTIONS))
        with pytest.raises(asyncio.CancelledError):
            await task
        return answers, long

    answers, long = asyncio.run(all_at_once())
    assert answers == [alone[lang, "greedy"] for lang in QUESTIONS]
    wait_for(lambda: long.has_ended)
    assert four.counters().n_running == 0


# ---- who waits, and who is refused


def test_too_many_questions_are_refused_and_say_when_to_come_back():
    with Palo("nano", n_parallel=1, n_waiting=1, n_threads=1) as palo:
        first = palo.stream(SCENE, "What is this?")
        next(first)
        second = palo.stream(SCENE, "What is this?")
        with pytest.raises(
            BusyError, match=r"queue: expected at most 1 questions that wait.*; ask again in"
        ) as refused:
            palo.ask(SCENE, "What is this?")
        assert refused.value.retry_after_s >= 1
        assert palo.counters().n_waiting == 1
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(second.read)
            first.close()
            assert waiting.result(LONG_S).text
        del second
        assert palo.ask(SCENE, "What is this?").text


@pytest.mark.parametrize("way", ["close", "drop"])
def test_who_leaves_the_queue_lets_the_next_one_in(way):
    admission = Admission(1, 1)
    first, second = admission.enter(), admission.enter()
    first.wait()
    if way == "close":
        second.leave()
    del second
    third = admission.enter()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(third.wait)
        assert not waiting.done()
        first.leave()
        waiting.result(LONG_S)
    assert admission.n_waiting == 0


@pytest.mark.parametrize(("name", "value"), [("n_parallel", 0), ("n_parallel", 17), ("n_waiting", -1)])
def test_numbers_out_of_range(name, value):
    with pytest.raises(ArgumentError, match=f"{name}: expected"):
        Palo("nano", **{name: value})
