"""What is done while the user types: nothing of it is done again, nothing waits for it in vain, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from made_up_images import N_TOKENS

import palo_cpp.llm.kv_cache as kv_cache
from palo_cpp.chat.chat import Chat
from palo_cpp.errors import ArgumentError, PaloError
from palo_cpp.families.palo.prompt import SYSTEM
from palo_cpp.languages.languages import LANGUAGES

LONG_S = 20.0  # nothing here takes that long


def wait(chat: Chat) -> None:
    chat._ahead.wait()


def n_new(answer) -> int:
    return answer.timings.n_prompt_tokens - answer.timings.n_cached_tokens


def when_a_question_comes(chat: Chat, do: Callable[[], None]) -> None:
    """Do something when a question has told the early start to end."""
    early, stop = chat._ahead, chat._ahead.stop

    def stop_once() -> None:
        early.stop = stop
        stop()
        do()

    early.stop = stop_once


class Gate:
    """Holds whoever comes through until it is opened."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, name: str = "") -> None:
        if not self.names or name in self.names:
            self.reached.set()
            assert self.opened.wait(LONG_S)


@pytest.fixture
def cold(loaded, images):
    """Token ids of an answer that nothing helped."""

    def ask(name: str | None, question: str, **options) -> tuple[int, ...]:
        answer = Chat(loaded, name).ask(question, **options)
        loaded.prefix.cache.clear()
        images.n_encoded = 0
        return answer.token_ids

    return ask


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_question_finds_everything_done(loaded, images, sentences, cold, code):
    expected = cold("cat", sentences[code], max_tokens=8)
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        wait(chat)
        assert images.n_encoded == 1
        answer = chat.ask(sentences[code], max_tokens=8)
        timings = answer.timings
        assert (timings.n_images_encoded, timings.encode_s, timings.image_s, images.n_encoded) == (0, 0, 0, 1)
        assert timings.early_s > 0.25  # with the 0.25 s that opening the image is said to have taken
        assert n_new(answer) == len(loaded.language_model.tokenize(f"\n{sentences[code]} ASSISTANT:")) - 2
        chat.prepare()
        wait(chat)
        answer = chat.ask(sentences[code], max_tokens=1)
        n_question = len(loaded.language_model.tokenize(f"USER: {sentences[code]} ASSISTANT:"))
        assert n_new(answer) == n_question - len(loaded.language_model.tokenize("USER:"))
        assert answer.timings.early_s < 0.25
    assert chat.turns[0].answer_ids == expected


def test_a_conversation_without_an_image_begins_early_too(loaded, cold):
    expected = cold(None, "Hello?", max_tokens=4)
    with Chat(loaded) as chat:
        chat.prepare()
        wait(chat)
        answer = chat.ask("Hello?", max_tokens=4)
    assert answer.timings.n_cached_tokens >= len(loaded.language_model.tokenize(f"{SYSTEM} USER:", add_bos=True))
    assert answer.token_ids == expected


def test_it_returns_at_once_and_a_question_waits_for_the_encoding(loaded, images, cold):
    expected = cold("cat", "What is this?", max_tokens=6)
    images.during = gate = Gate("cat")
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        assert gate.reached.wait(LONG_S)
        when_a_question_comes(chat, threading.Timer(0.5, gate.opened.set).start)
        answer = chat.ask("What is this?", max_tokens=6)
    assert answer.token_ids == expected
    assert (images.n_encoded, answer.timings.n_images_encoded) == (1, 0)
    assert answer.timings.encode_s > 0.02  # it waited, and says so


def test_another_image_meanwhile(loaded, images, cold):
    expected = cold("dog", "What is this?", max_tokens=6)
    images.during = gate = Gate("cat")
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        assert gate.reached.wait(LONG_S)
        chat.set_image("dog")
        chat.prepare()
        wait(chat)  # although the cat is still being encoded
        answer = chat.ask("What is this?", max_tokens=6)
        gate.opened.set()
    assert answer.token_ids == expected
    assert (answer.timings.n_images_encoded, images.n_encoded) == (0, 2)


def test_one_more_image_meanwhile_is_no_reason_to_encode_the_first_again(loaded, images):
    images.during = gate = Gate("cat")
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        assert gate.reached.wait(LONG_S)
        chat.add_image("dog")
        chat.prepare()
        gate.opened.set()
        wait(chat)
        answer = chat.ask("Which two?", max_tokens=3)
    assert (answer.timings.n_images_encoded, images.n_encoded) == (0, 2)


def test_a_question_comes_between_two_pieces(loaded, monkeypatch, cold):
    expected = cold("cat", "What is this?", max_tokens=6)
    monkeypatch.setattr(kv_cache, "N_AHEAD", 7)
    gate, n_pieces, decode = Gate(), [], loaded.language_model.decode

    def slow(inputs, **options):
        n_pieces.append(len(inputs))
        if len(n_pieces) == 3:
            gate()
        return decode(inputs, **options)

    monkeypatch.setattr(loaded.language_model, "decode", slow)
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        assert gate.reached.wait(LONG_S)
        when_a_question_comes(chat, gate.opened.set)
        answer = chat.ask("What is this?", max_tokens=6)
    assert n_pieces[:3] == [7, 7, 7] and answer.token_ids == expected
    assert answer.timings.n_cached_tokens == 21  # the piece that was under way was not lost, and no other was begun


def test_it_reads_in_pieces_that_end_at_the_image(loaded, monkeypatch):
    monkeypatch.setattr(kv_cache, "N_AHEAD", 4)
    rows, decode = [], loaded.language_model.decode
    monkeypatch.setattr(
        loaded.language_model, "decode", lambda inputs, **o: (rows.append(len(inputs)), decode(inputs, **o))[1]
    )
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        wait(chat)
    assert rows[-3:] == [4, N_TOKENS - 4, 2] and max(rows) == 4


def test_what_fails_shows_when_the_question_comes(loaded, images):
    def fail(_name: str) -> None:
        raise PaloError("encoder: expected memory, got none; close other programs")

    images.during = fail
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        wait(chat)
        with pytest.raises(PaloError, match="encoder: expected memory"):
            chat.ask("What is this?")
        images.during = lambda _name: None
        chat.prepare()
        wait(chat)
        assert chat.ask("What is this?", max_tokens=3).timings.n_images_encoded == 0


def test_ctrl_c_while_a_question_waits_loses_nothing(loaded, images, cold):
    expected = cold("cat", "What is this?", max_tokens=6)
    images.during = gate = Gate("cat")
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        assert gate.reached.wait(LONG_S)
        interrupt = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
        when_a_question_comes(chat, interrupt.start)
        with pytest.raises(KeyboardInterrupt):
            chat.ask("What is this?", max_tokens=6)
        assert chat.turns == [] and len(chat.pending_images) == 1
        gate.opened.set()
        answer = chat.ask("What is this?", max_tokens=6)
    assert (answer.token_ids, images.n_encoded) == (expected, 1)


def test_it_gives_way_to_another_conversation(loaded, images):
    stream = Chat(loaded, "dog").stream("What is this?", max_tokens=40)
    next(stream)
    n_tokens = loaded.language_model.n_tokens()
    with Chat(loaded, "cat") as chat:
        chat.prepare()
        wait(chat)
        assert loaded.language_model.n_tokens() == n_tokens  # the image is encoded, the context is the other's
        assert images.n_encoded == 2
        rest = stream.read()
        answer = chat.ask("What is this?", max_tokens=3)
    assert rest.timings.n_generated == len(rest.token_ids) > 1
    assert answer.timings.n_images_encoded == 0


def test_nothing_begins_while_an_answer_is_coming(loaded):
    with Chat(loaded, "cat") as chat:
        stream = chat.stream("What is this?", max_tokens=20)
        next(stream)
        chat.prepare()
        assert chat._ahead is None
        stream.read()
        chat.prepare()
        chat.prepare()  # the same beginning: goes on
        wait(chat)
        assert len(chat.turns[0].answer_ids) == len(stream.answer.token_ids) > 1
    with pytest.raises(ArgumentError, match="closed"):
        chat.prepare()


def test_turns_that_will_leave_are_not_read_ahead(loaded):
    with Chat(loaded, "cat") as chat:
        while not chat.ask("What is this?", max_tokens=40).n_turns_dropped:
            chat.prepare()
            wait(chat)
            assert loaded.language_model.n_tokens() + loaded.language_model.n_ctx // 8 <= loaded.language_model.n_ctx


def test_many_conversations_in_threads(loaded, cold):
    names = [f"image {n}" for n in range(6)]
    expected = {name: cold(name, "What is this?", max_tokens=8) for name in names}
    told: dict[str, tuple[int, ...]] = {}

    def talk(name: str) -> None:
        with Chat(loaded, "first") as chat:
            chat.prepare()
            chat.set_image(name)
            chat.prepare()
            time.sleep(0.01 * (hash(name) % 3))
            told[name] = chat.ask("What is this?", max_tokens=8).token_ids

    threads = [threading.Thread(target=talk, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == expected


# ---- the real encoder


def test_on_a_real_model(palo, picture, other_picture):
    expected = palo.ask(other_picture, "यह क्या है?", max_tokens=8)
    palo.clear_cache()
    with palo.chat(picture) as chat:
        chat.prepare()
        chat.set_image(other_picture)
        chat.prepare()
        wait(chat)
        answer = chat.ask("यह क्या है?", max_tokens=8)
    assert answer.token_ids == expected.token_ids
    assert (answer.timings.n_images_encoded, answer.timings.encode_s, answer.timings.image_s) == (0, 0, 0)
    assert n_new(answer) == len(palo.language_model.tokenize("\nयह क्या है? ASSISTANT:")) - 2
    assert answer.timings.early_s > 0


def test_closing_the_model_and_leaving_the_interpreter_meanwhile_is_quiet(model_dir):
    code = f"""
import numpy as np
from palo_cpp import Palo
for closes in (True, False):
    palo = Palo({str(model_dir)!r}, n_threads=1)
    chat = palo.chat(np.zeros((9, 7, 3), np.uint8))
    chat.prepare()
    if closes:
        palo.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
