"""One conversation on the tiny LLaMA, with images that are made up: turns, reuse, stopping, limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up_images import IMAGE_NAMES, content_hash

from palo_cpp.chat.answer import InputImage
from palo_cpp.chat.chat import Chat
from palo_cpp.errors import ArgumentError, ImageError
from palo_cpp.languages.languages import LANGUAGES


def test_an_answer_tells_everything(loaded):
    answer = Chat(loaded, "cat").ask("What is this?", max_tokens=12)
    assert answer.finish_reason == "length"
    assert len(answer.token_ids) == 12 == answer.timings.n_generated
    data = b"".join(map(loaded.language_model.token_bytes, answer.token_ids))
    assert answer.text == data.decode().strip()
    assert answer.language is None
    assert answer.inputs.prompt.endswith("USER: <image>\nWhat is this? ASSISTANT:")
    assert answer.inputs.images == (InputImage((30, 20), "pad", 6, content_hash("cat")),)
    timings = answer.timings
    assert timings.image_s == 0.25 and timings.encode_s > 0 and timings.prefill_s > 0 and timings.decode_s > 0
    assert timings.first_token_s >= timings.image_s + timings.encode_s + timings.prefill_s
    assert timings.n_cached_tokens == 0 and timings.tokens_per_s > 0
    assert str(answer) == answer.text


def test_timings_tell_whether_an_image_was_encoded(loaded):
    with Chat(loaded, "cat") as chat:
        assert [chat.ask(max_tokens=1).timings.n_images_encoded for _ in range(2)] == [1, 0]
    assert Chat(loaded, "known").ask(max_tokens=1).timings.n_images_encoded == 0
    assert Chat(loaded).ask("What is this?", max_tokens=1).timings.n_images_encoded == 0


def test_to_dict_is_json(loaded):
    import json

    answer = Chat(loaded, "cat").ask("¿Qué?", max_tokens=3)
    told = json.loads(json.dumps(answer.to_dict()))
    assert told["token_ids"] == list(answer.token_ids)
    assert told["inputs"]["images"][0]["size"] == [30, 20]
    assert told["timings"]["n_generated"] == 3


def test_a_notebook_shows_the_text_in_its_direction(loaded):
    answer = replace(Chat(loaded, "cat").ask("What?", max_tokens=1), text="<b>یہ\nکیا", language="ur")
    assert answer.n_images == 1
    assert answer._repr_html_() == '<p lang="ur" dir="rtl">&lt;b&gt;یہ<br>کیا</p>'
    unseen = replace(Chat(loaded).ask("What?", max_tokens=1), text="A cat.", language=None, language_detected=None)
    assert unseen.n_images == 0
    assert unseen._repr_html_() == ('<p lang="" dir="auto">A cat.</p><p><small>The model saw no image.</small></p>')


def test_stream_and_ask_agree(loaded):
    whole = Chat(loaded, "cat").ask("What is this?", max_tokens=40)
    loaded.prefix.cache.clear()
    stream = Chat(loaded, "cat").stream("What is this?", max_tokens=40)
    assert stream.answer is None
    pieces = [piece.text for piece in stream]
    assert "".join(pieces) == whole.text == stream.answer.text
    assert stream.answer.token_ids == whole.token_ids
    assert len(pieces) > 5
    assert list(stream) == []


def test_second_question_costs_only_itself(loaded, images):
    with Chat(loaded, "cat") as chat:
        first = chat.ask("What is this?", max_tokens=10)
        second = chat.ask("And what else?", max_tokens=10)
    assert images.n_encoded == 1
    n_new = second.timings.n_prompt_tokens - second.timings.n_cached_tokens
    # the answer's last token was never decoded; then </s> and the question
    assert n_new == 2 + len(loaded.language_model.tokenize_continued("USER: And what else? ASSISTANT:")) + 1
    assert second.timings.image_s == second.timings.encode_s == 0
    assert first.text in second.inputs.prompt


def test_cached_conversation_answers_as_a_fresh_one(loaded):
    chat = Chat(loaded, "cat")
    chat.ask("What is this?", max_tokens=8)
    warm = chat.ask("And what else?", max_tokens=16)
    loaded.prefix.cache.clear()
    cold = Chat(loaded, turns=chat.turns[:1]).ask("And what else?", max_tokens=16)
    assert cold.timings.n_cached_tokens == 0
    assert cold.token_ids == warm.token_ids


def test_the_image_matters(loaded):
    cat = Chat(loaded, "cat").ask("What is this?", max_tokens=12)
    dog = Chat(loaded, "dog").ask("What is this?", max_tokens=12)
    none = Chat(loaded).ask("What is this?", max_tokens=12)
    assert len({cat.token_ids, dog.token_ids, none.token_ids}) == 3
    assert none.inputs.images == ()


def test_two_conversations_at_once_do_not_mix(loaded):
    alone = {name: Chat(loaded, name).ask("What is this?", max_tokens=15).token_ids for name in ("cat", "dog")}
    streams = {name: Chat(loaded, name).stream("What is this?", max_tokens=15) for name in alone}
    while any(stream.answer is None for stream in streams.values()):
        for stream in streams.values():
            next(stream, None)
    assert {name: stream.answer.token_ids for name, stream in streams.items()} == alone


def test_closing_a_stream_stops_and_keeps_what_was_said(loaded):
    chat = Chat(loaded, "cat")
    stream = chat.stream("What is this?", max_tokens=100)
    said = [next(stream).text for _ in range(4)]
    stream.close()
    assert stream.answer.finish_reason == "cancelled"
    assert stream.answer.text == "".join(said)
    assert len(stream.answer.token_ids) < 100
    assert chat.turns[-1].answer_ids == stream.answer.token_ids
    n_tokens = loaded.language_model.n_tokens()
    assert list(stream) == [] and loaded.language_model.n_tokens() == n_tokens
    assert "".join(said) in chat.ask("More?", max_tokens=3).inputs.prompt


def test_a_stream_nobody_read_leaves_no_turn(loaded):
    chat = Chat(loaded, "cat")
    stream = chat.stream("What is this?")
    stream.close()
    assert (stream.answer.text, stream.answer.finish_reason, chat.turns) == ("", "cancelled", [])
    assert stream.answer.timings.first_token_s == 0


def test_a_new_question_stops_the_answer_before(loaded):
    chat = Chat(loaded, "cat")
    stream = chat.stream("What is this?", max_tokens=100)
    next(stream)
    chat.ask("Else?", max_tokens=3)
    assert stream.answer.finish_reason == "cancelled"
    assert [turn.question for turn in chat.turns] == ["What is this?", "Else?"]


def test_ctrl_c_while_decoding_keeps_what_was_said(loaded, monkeypatch):
    chat = Chat(loaded, "cat")
    advance, n_calls = loaded.prefix.cache.advance, 0

    def interrupted(cursor, token, *others):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 5:
            raise KeyboardInterrupt
        return advance(cursor, token, *others)

    monkeypatch.setattr(loaded.prefix.cache, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.ask("What is this?", max_tokens=50)
    (turn,) = chat.turns
    assert b"".join(map(loaded.language_model.token_bytes, turn.answer_ids)).decode().strip() == turn.answer
    assert len(turn.answer_ids) == 4  # the fifth may still have grown, and was not shown
    assert len(chat.ask("More?", max_tokens=4).token_ids) == 4


def test_with_statement_ends_a_stream(loaded):
    with Chat(loaded, "cat").stream("What is this?", max_tokens=50) as stream:
        next(stream)
    assert stream.answer.finish_reason == "cancelled"


def test_generator_protocol_returns_the_answer(loaded):
    stream = Chat(loaded, "cat").stream("What is this?", max_tokens=2)
    with pytest.raises(StopIteration) as end:
        while True:
            next(stream)
    assert end.value.value is stream.answer


def test_language_words_the_question(loaded):
    chat = Chat(loaded, "cat", lang="Hindi")
    assert chat.lang == "hi"
    answer = chat.ask(max_tokens=2)
    assert answer.language == "hi"
    assert LANGUAGES["hi"].default_question in answer.inputs.prompt
    answer = chat.ask("What colour is it?", lang="اردو", max_tokens=2)
    assert answer.language == "ur"
    assert f"What colour is it? {LANGUAGES['ur'].answer_request}" in answer.inputs.prompt
    assert chat.lang == "hi"
    plain = Chat(loaded, "cat").ask(max_tokens=2)
    assert plain.language is None and LANGUAGES["en"].default_question in plain.inputs.prompt


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_a_default_question_that_is_answered(loaded, code):
    answer = Chat(loaded, "cat", lang=code).ask(max_tokens=5)
    assert answer.language == code and answer.timings.n_generated == 5


def test_context_full_is_said(loaded):
    answer = Chat(loaded, "cat").ask("What is this?", max_tokens=10_000)
    n_room = loaded.language_model.n_ctx - answer.timings.n_prompt_tokens
    assert answer.finish_reason in ("context", "stop")
    assert answer.finish_reason == "stop" or answer.timings.n_generated == n_room + 1


def test_a_question_that_does_not_fit_changes_nothing(loaded):
    chat = Chat(loaded, "cat")
    chat.ask("What is this?", max_tokens=3)
    n_tokens, turns = loaded.language_model.n_tokens(), list(chat.turns)
    with pytest.raises(
        ArgumentError, match=r"question: expected a prompt of at most 511 tokens, got \d+: \d+ too many"
    ):
        chat.ask("word " * 2000)
    assert (loaded.language_model.n_tokens(), chat.turns) == (n_tokens, turns)
    assert chat.n_tokens < chat.n_ctx == 512
    chat.ask("Short?", max_tokens=3)


def test_clear_keeps_the_image(loaded, images):
    chat = Chat(loaded, "cat")
    first = chat.ask("What is this?", max_tokens=10)
    chat.clear()
    assert chat.turns == []
    assert chat.ask("What is this?", max_tokens=10).token_ids == first.token_ids
    assert images.n_encoded == 1


def test_another_image_begins_anew(loaded):
    dog = Chat(loaded, "dog").ask("What is this?", max_tokens=10)
    chat = Chat(loaded, "cat")
    chat.ask("What is this?", max_tokens=10)
    with pytest.raises(ImageError):
        chat.set_image("broken")
    assert len(chat.turns) == 1  # a wrong path loses nothing
    chat.set_image("dog")
    assert chat.turns == []
    assert chat.ask("What is this?", max_tokens=10).token_ids == dog.token_ids
    chat.set_image(None)
    assert chat.ask("What?", max_tokens=2).inputs.images == ()


def test_seed_is_told_and_repeats(loaded):
    one = Chat(loaded, "cat").ask("What?", max_tokens=20, temperature=1.5)
    assert one.inputs.seed is not None
    again = Chat(loaded, "cat").ask("What?", max_tokens=20, temperature=1.5, seed=one.inputs.seed)
    assert again.token_ids == one.token_ids
    assert Chat(loaded, "cat").ask("What?", max_tokens=20).inputs.seed is None


def test_wrong_arguments(loaded):
    chat = Chat(loaded, "cat")
    for call, message in (
        (lambda: chat.ask("a", tempreature=1), "options: expected max_tokens, .* got tempreature"),
        (lambda: chat.ask("a", max_tokens=0), "max_tokens: expected"),
        (lambda: chat.ask("a", lang="tlh"), "hi"),
        (lambda: chat.ask(3), "question: expected text, got int"),
        (lambda: Chat(loaded).ask(), "no image to describe"),
        (lambda: Chat(loaded).ask("  "), "no image to describe"),
        (lambda: chat.ask("\ud83d"), "surrogate"),
        (lambda: Chat(loaded, lang="Klingon"), "hi"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
    with pytest.raises(ImageError):
        Chat(loaded, "broken")


def test_closed_chat(loaded):
    with Chat(loaded, "cat") as chat:
        stream = chat.stream("What?", max_tokens=50)
        next(stream)
    assert stream.answer.finish_reason == "cancelled"
    with pytest.raises(ArgumentError, match="closed"):
        chat.ask("What?")
    with pytest.raises(ArgumentError, match="closed"):
        chat.set_image("dog")


def test_images_stand_in_the_turns_that_show_them(loaded, images):
    chat = Chat(loaded, "cat")
    chat.add_image("dog")
    first = chat.ask("Which two?", max_tokens=4)
    second = chat.ask("Else?", max_tokens=4)
    chat.add_image("bird")
    third = chat.ask("And this?", max_tokens=4)
    assert [len(answer.inputs.images) for answer in (first, second, third)] == [2, 2, 3]
    assert [image.content_hash for image in third.inputs.images] == [content_hash(name) for name in IMAGE_NAMES]
    assert third.inputs.prompt.endswith("</s>USER: <image>\nAnd this? ASSISTANT:")
    assert [len(turn.images) for turn in chat.turns] == [2, 0, 1] and chat.pending_images == []
    assert [answer.timings.n_images_encoded for answer in (first, second, third)] == [2, 0, 1]
    assert [answer.timings.image_s for answer in (first, second, third)] == [0.5, 0, 0.25]
    assert images.n_encoded == 3
    with pytest.raises(ImageError):
        chat.add_image("broken")
    chat.clear()
    assert [image.content_hash for image in chat.pending_images] == [content_hash(name) for name in IMAGE_NAMES]
