"""A full context: the oldest turns leave, said aloud; system text and images stay; words left are told honestly."""

from __future__ import annotations

import logging

import pytest
from made_up_images import N_TOKENS, content_hash

from palo_cpp.chat.chat import Chat
from palo_cpp.chat.context_budget import context_use, fit, tokens_per_word
from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.prompt import SYSTEM
from palo_cpp.families.registry import PALO
from palo_cpp.languages.detection import count_words
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.languages.text_samples import ARTICLE_1
from palo_cpp.segments import Turn


def hashes(*names: str) -> list[str]:
    return [content_hash(name) for name in names]


def image_hashes(turn: Turn) -> list[str]:
    return [image.content_hash for image in turn.images]


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_long_conversation_never_ends(loaded, images, sentences, code, caplog):
    n_system = len(loaded.language_model.tokenize(f"{SYSTEM} USER: ", add_bos=True))
    n_dropped = 0
    with Chat(loaded, "cat", lang=code) as chat, caplog.at_level(logging.WARNING, "palo_cpp.chat.chat"):
        for n in range(8):
            caplog.clear()
            n_turns = len(chat.turns)
            answer = chat.ask(sentences[code], max_tokens=40)
            n_prompt = answer.timings.n_prompt_tokens
            assert n_prompt + 40 <= chat.n_ctx and answer.finish_reason in ("length", "stop")
            assert len(chat.turns) == n_turns + 1 - answer.n_turns_dropped
            assert bool(caplog.records) == bool(answer.n_turns_dropped)
            assert answer.timings.n_cached_tokens >= (n_system + N_TOKENS if n else 0)
            assert answer.inputs.prompt.startswith(f"{SYSTEM} USER: <image>\n")
            assert image_hashes(chat.turns[0]) == hashes("cat") and len(answer.inputs.images) == 1
            n_dropped += answer.n_turns_dropped
    assert n_dropped > 0 and images.n_encoded == 1


def test_what_leaves_is_said(loaded, caplog):
    with Chat(loaded, "cat") as chat:
        chat.turns[:] = [Turn(f"Question {i}", "answer " * 20) for i in range(4)]
        with caplog.at_level(logging.WARNING, "palo_cpp.chat.chat"):
            answer = chat.ask("Now?", max_tokens=2)
    assert 0 < answer.n_turns_dropped < 4
    assert caplog.messages == [
        f"the context is full: the oldest {answer.n_turns_dropped} of 4 turns left the conversation; its images stay"
    ]
    assert answer.to_dict()["n_turns_dropped"] == answer.n_turns_dropped


def test_turns_do_not_leave_with_every_question(loaded):
    with Chat(loaded, "cat") as chat:
        left = [chat.ask(f"What is number {n}?", max_tokens=20).n_turns_dropped for n in range(16)]
    assert sum(left) > 0
    assert sum(map(bool, left)) <= len(left) // 3  # observed: 3 of 16


def test_images_stay_while_their_turns_leave(loaded):
    chat = Chat(loaded, "cat")
    chat.ask("What is this?", max_tokens=30)
    chat.add_image("dog")
    chat.ask("And this?", max_tokens=30)
    chat.add_image("cat")  # shown twice, but needed once
    chat.ask("Like this?", max_tokens=30)
    answer = chat.ask("long " * 80, max_tokens=30)
    assert answer.n_turns_dropped >= 2
    assert image_hashes(chat.turns[0]) == hashes("dog", "cat")
    assert [image.content_hash for image in answer.inputs.images] == hashes("dog", "cat")
    assert answer.inputs.prompt.count("<image>") == 2


def test_fit_moves_images_to_the_turn_that_stays(loaded, images):
    cat, dog = images.open("cat"), images.open("dog")
    history = [Turn("a " * 180, "b", images=(cat,)), Turn("c " * 290, "d", images=(dog,))]
    fitting = fit(PALO, loaded.language_model, history, Turn("e", images=(cat,)), system=SYSTEM, max_tokens=64)
    assert (fitting.n_dropped, fitting.history) == (2, ())
    assert fitting.turn.images == (dog, cat)
    roomy = fit(PALO, loaded.language_model, history[1:], Turn("e"), system=SYSTEM, max_tokens=64)
    assert (roomy.n_dropped, roomy.history) == (0, tuple(history[1:]))


def test_an_answer_has_room_but_never_more_than_there_is(loaded):
    with Chat(loaded, "cat") as chat:
        chat.turns[:] = [Turn("a " * 200, "b")]
        answer = chat.ask("c " * 150, max_tokens=100_000)
        n_left = chat.n_ctx - answer.timings.n_prompt_tokens
        assert answer.n_turns_dropped == 1 and n_left >= chat.n_ctx // 8
        assert answer.finish_reason == "stop" or (answer.finish_reason == "context" and len(answer.token_ids) > n_left)
        assert chat.ask("And then?", max_tokens=5).token_ids  # the conversation goes on


def test_what_never_fits_is_one_sentence_and_changes_nothing(loaded, images):
    with Chat(loaded, "cat") as chat:
        chat.ask("What is this?", max_tokens=3)
        turns = list(chat.turns)
        with pytest.raises(ArgumentError, match=r"question: expected a prompt of at most 511 tokens, got \d+: \d+ too"):
            chat.ask("word " * 2000)
        assert chat.turns == turns
        for n in range(80):
            chat.add_image(f"image {n}")
        chat.prepare()  # nothing to say yet
        with pytest.raises(ArgumentError, match="shorten the question, show fewer images, clear the conversation"):
            chat.ask("Which?")
        assert len(chat.pending_images) == 80 and images.n_encoded == 1


@pytest.mark.parametrize("code", LANGUAGES)
def test_words_left_are_of_the_language(loaded, code):
    text = ARTICLE_1[code]
    per_word = len(loaded.language_model.tokenize(text)) / count_words(text)
    assert tokens_per_word(loaded.language_model, code) == per_word > 1
    with Chat(loaded, "cat", lang=code) as chat:
        before = chat.context_use()
        assert before.language == code and before.n_tokens == chat.n_tokens > N_TOKENS
        assert before.n_words_left <= (512 - before.n_tokens) / per_word < before.n_words_left + 10
        chat.ask(max_tokens=30)
        after = chat.context_use()
    assert after.n_words_left < before.n_words_left and after.n_tokens > before.n_tokens + 30
    assert str(after) == (
        f"room for about {after.n_words_left} words of {LANGUAGES[code].english_name} "
        f"({after.n_tokens} of 512 tokens are taken)"
    )


def test_words_left_without_a_language_and_at_the_end(loaded):
    with Chat(loaded) as chat:
        assert chat.context_use().language == "en"
        assert chat.context_use("हिन्दी").language == "hi"
    assert context_use(loaded.language_model, 512, "en").n_words_left == 0
    assert context_use(loaded.language_model, 600, "ja").n_words_left == 0


def test_words_are_counted_in_every_script():
    counts = {code: count_words(text) for code, text in ARTICLE_1.items()}
    assert (counts["en"], counts["hi"], counts["ur"], counts["ru"]) == (30, 33, 34, 26)
    assert 15 < counts["zh"] < 25 and 30 < counts["ja"] < 45  # two characters make about a word
