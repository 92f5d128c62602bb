"""What a question costs, by exact numbers: only the text that is new, however the conversation got there."""

from __future__ import annotations

import pytest
from made_up_images import N_TOKENS

from palo_cpp.chat.chat import Chat
from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.prompt import SYSTEM
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.segments import n_common


def n_new(answer) -> int:
    return answer.timings.n_prompt_tokens - answer.timings.n_cached_tokens


def question_tokens(loaded, question: str) -> list[int]:
    """Of a first question, from behind the image on."""
    return loaded.language_model.tokenize(f"\n{question} ASSISTANT:")


@pytest.fixture
def decoded(loaded, monkeypatch) -> list[tuple[int, int]]:
    """(position, rows) of every call that decodes."""
    calls: list[tuple[int, int]] = []
    decode = loaded.language_model.decode

    def counting(inputs, *, position, **options):
        calls.append((position, len(inputs)))
        return decode(inputs, position=position, **options)

    monkeypatch.setattr(loaded.language_model, "decode", counting)
    return calls


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_follow_up_costs_its_text(loaded, images, sentences, decoded, code):
    with Chat(loaded, "cat") as chat:
        first = chat.ask(sentences[code], max_tokens=6)
        del decoded[:]
        second = chat.ask(sentences[code], max_tokens=1)
    assert first.finish_reason == "length"
    # The last token of an answer that was cut was never decoded, unless it began a character: then it is gone. After it
    # come </s> and the new text.
    n_last = int(first.timings.n_generated == len(first.token_ids))
    n_expected = n_last + 1 + len(loaded.language_model.tokenize(f"USER: {sentences[code]} ASSISTANT:"))
    assert n_new(second) == n_expected == sum(n for _, n in decoded)
    assert (second.timings.n_images_encoded, second.timings.encode_s, images.n_encoded) == (0, 0, 1)


def test_an_edited_question_costs_what_differs(loaded, images, sentences):
    with Chat(loaded, "cat") as chat:
        chat.ask("What is this red thing?", max_tokens=5)
        edited = chat.edit("What is this blue thing?", max_tokens=5)
        old, new = (question_tokens(loaded, f"What is this {colour} thing?") for colour in ("red", "blue"))
        assert n_new(edited) == len(new) - n_common(old, new) < len(new)
        assert [turn.question for turn in chat.turns] == ["What is this blue thing?"]
        assert edited.inputs.images and images.n_encoded == 1
        again = chat.edit("What is this blue thing?", max_tokens=5)
        assert n_new(again) == 1 and again.token_ids == edited.token_ids
        for sentence in sentences.values():
            assert n_new(chat.edit(sentence, max_tokens=1)) <= len(question_tokens(loaded, sentence))
    assert images.n_encoded == 1


def test_going_back_keeps_what_was_before(loaded, images):
    with Chat(loaded, "cat") as chat:
        first = chat.ask("What is this?", max_tokens=4)
        second = chat.ask("And what else?", max_tokens=4)
        undone = chat.undo()
        assert (undone.question, undone.answer_ids) == ("And what else?", second.token_ids)
        repeated = chat.ask("And what else?", max_tokens=4)
        assert n_new(repeated) == 1 and repeated.token_ids == second.token_ids
        chat.undo()
        chat.undo()
        assert (chat.turns, len(chat.pending_images)) == ([], 1)
        assert chat.ask("What is this?", max_tokens=4).token_ids == first.token_ids
        chat.clear()
        with pytest.raises(ArgumentError, match="undo: expected a question to take back"):
            chat.undo()
        with pytest.raises(ArgumentError, match="instead: expected a turn"):
            chat.edit("What?")
    assert images.n_encoded == 1


def test_another_language_keeps_the_common_beginning(loaded, images):
    with Chat(loaded, "cat", lang="en") as chat:
        chat.ask("Is this 3 or 4?", max_tokens=3)
        wordings = {}
        for code, language in LANGUAGES.items():
            answer = chat.edit("Is this 3 or 4?", lang=code, lang_mode="off", max_tokens=3)
            wordings[code] = question_tokens(loaded, chat.turns[0].question)
            assert language.code == "en" or language.answer_request in chat.turns[0].question
            assert chat.turns[0].asked == "Is this 3 or 4?"
            if code != "en":
                kept = question_tokens(loaded, "Is this 3 or 4?")[: -len(loaded.language_model.tokenize("ASSISTANT:"))]
                assert n_new(answer) <= len(wordings[code]) - len(kept)
    assert images.n_encoded == 1


def test_the_system_text_is_read_once_in_a_process(loaded, decoded):
    n_system = len(loaded.language_model.tokenize(f"{SYSTEM} USER:", add_bos=True))
    Chat(loaded, "cat").ask("What is this?", max_tokens=2)
    assert decoded[0][0] == 0
    del decoded[:]
    with Chat(loaded, "dog") as second:  # another conversation, another image
        second.ask("What is this?", max_tokens=2)
        second.set_image("cat")  # replaced
        second.ask("What is this?", max_tokens=2)
        second.undo()
        second.add_image("dog")
        second.ask("And these?", max_tokens=2)
        second.set_image(None)
        second.ask("No image?", lang="ur", max_tokens=2)
    Chat(loaded).ask("Hello", max_tokens=2)
    Chat(loaded, "bird").ask("What?", max_tokens=2)
    assert min(position for position, _ in decoded) >= n_system


def test_a_failed_edit_loses_nothing(loaded):
    with Chat(loaded, "cat") as chat:
        chat.ask("What is this?", max_tokens=3)
        turns = list(chat.turns)
        with pytest.raises(ArgumentError, match="at most 511 tokens"):
            chat.edit("word " * 2000)
        chat.stream("Never read", instead=True).close()
        assert chat.turns == turns
        stream = chat.stream("Begun", instead=True, max_tokens=30)
        next(stream)
        stream.close()
        assert [turn.question for turn in chat.turns] == ["Begun"] and len(chat.turns[0].images) == 1


def test_a_second_image_keeps_the_first(loaded, images):
    with Chat(loaded, "cat") as chat:
        chat.ask("What is this?", max_tokens=4)
        chat.add_image("dog")
        answer = chat.ask("And this?", max_tokens=4)
    n_before = 1 + 1 + len(loaded.language_model.tokenize("USER: "))
    assert n_new(answer) == n_before + N_TOKENS + len(question_tokens(loaded, "And this?"))
    assert answer.timings.n_images_encoded == 1 and images.n_encoded == 2
