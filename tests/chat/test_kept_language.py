"""An answer in another language is thrown away and asked for once more, and nothing is shown before that is decided."""

from __future__ import annotations

import numpy as np
import pytest
from loaded_models import FixedConstraints
from multilingual_text import ANSWERS, UDHR

from palo_cpp.chat.chat import Chat
from palo_cpp.chat.language_policy import LanguagePolicy, is_determined_by_script, judge_beginning
from palo_cpp.decoding.language_constraint import LanguageConstraints
from palo_cpp.errors import ArgumentError
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.languages.scripts import COMMON, script_of
from palo_cpp.llm.kv_cache import KvCache

EOS = 2
SHARING = ["en", "zh", "es", "fr", "ar", "ur", "ja"]


class Says:
    """A constraint that leaves the model one thing to say."""

    def __init__(self, model, text: str) -> None:
        self._tokens = [*model.tokenize_continued(text), EOS]
        self._n_vocab = model.n_vocab
        self._n_said = 0

    def allowed(self):
        allowed = np.zeros(self._n_vocab, np.bool_)
        allowed[self._tokens[self._n_said]] = True
        return allowed

    def accept(self, _token: int) -> None:
        self._n_said += 1


@pytest.fixture
def saying(loaded):
    """A model whose answers are, one after the other, the texts given."""

    def make(*texts: str):
        loaded.constraints = FixedConstraints(*([Says(loaded.language_model, text)] for text in texts))
        return loaded

    return make


def needs_check(code: str, mode: str) -> bool:
    return LanguagePolicy(code, mode, None, lambda: None).needs_check


def in_pieces(stream) -> list[str]:
    return [piece.text for piece in stream]


def test_which_languages_a_script_tells():
    assert [code for code in LANGUAGES if not is_determined_by_script(code)] == SHARING
    assert [code for code in LANGUAGES if needs_check(code, "strict")] == SHARING
    assert all(needs_check(code, "prefer") and not needs_check(code, "off") for code in LANGUAGES)


@pytest.mark.parametrize("code", ["hi", "bn", "ru"])
def test_the_first_word_tells_a_script_of_its_own(code):
    first = UDHR[code].split()[0]
    assert judge_beginning(first, code) is None
    assert judge_beginning(f"{first} ", code) is True
    assert judge_beginning("The ", code) is None


@pytest.mark.parametrize("code", SHARING)
def test_beginnings_are_judged_by_their_language(code):
    assert judge_beginning("", code) is None
    assert judge_beginning("3", code) is None
    assert judge_beginning(UDHR[code], code) is True
    other = {"en": "fr", "zh": "ja", "es": "en", "fr": "es", "ar": "ur", "ur": "ar", "ja": "zh"}[code]
    assert judge_beginning(UDHR[other], code) is False
    assert not [text for text in ANSWERS[code] if judge_beginning(text, code) is False]
    assert not [n for n in range(0, len(UDHR[code]), 5) if judge_beginning(UDHR[code][:n], code) is False]
    n_first = next(n for n in range(1, 200) if judge_beginning(UDHR[code][:n], code))
    assert n_first < 60


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("way", ["ask", "stream"])
def test_a_right_answer_comes_as_it_is(saying, code, way):
    chat = Chat(saying(UDHR[code]), "cat", lang=code)
    if way == "ask":
        answer = chat.ask()
    else:
        stream = chat.stream()
        pieces = in_pieces(stream)
        assert "".join(pieces) == UDHR[code]
        assert len(pieces) > 10  # the beginning in one, the rest as it comes
        answer = stream.answer
    assert (answer.text, answer.language_ok, answer.language_detected) == (UDHR[code], True, code)
    assert (answer.timings.n_retries, answer.timings.retry_s) == (0, 0.0)
    assert LANGUAGES[code].insistence not in answer.inputs.prompt


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("way", ["ask", "stream"])
def test_a_wrong_answer_is_asked_for_once_more(saying, images, code, way):
    wrong = UDHR["fr" if code == "en" else "ja" if code == "zh" else "en"]
    chat = Chat(saying(wrong, UDHR[code]), "cat", lang=code)
    if way == "ask":
        answer = chat.ask()
    else:
        stream = chat.stream()
        assert "".join(in_pieces(stream)) == UDHR[code]
        answer = stream.answer
    assert (answer.text, answer.language_ok) == (UDHR[code], True)
    assert answer.inputs.prompt.count(LANGUAGES[code].insistence) == 1
    timings = answer.timings
    assert timings.n_retries == 1 and timings.retry_s > 0 and timings.encode_s > 0
    assert timings.n_images_encoded == images.n_encoded == 1
    assert timings.n_cached_tokens == 0  # when the question came; the second attempt found image and system text
    assert [turn.answer for turn in chat.turns] == [UDHR[code]]


def test_the_first_attempt_gives_its_sequence_back_before_the_second(saying, monkeypatch):
    events = []
    for name in ("place", "release"):
        real = getattr(KvCache, name)

        def noted(*arguments, name=name, real=real):
            events.append(name)
            return real(*arguments)

        monkeypatch.setattr(KvCache, name, noted)
    Chat(saying(UDHR["en"], UDHR["hi"]), "cat", lang="hi").ask()
    assert events == ["place", "release"] * 2


def test_two_wrong_answers_are_told(saying):
    answer = Chat(saying(UDHR["en"], UDHR["es"]), "cat", lang="fr").ask()
    assert (answer.text, answer.language_ok, answer.language_detected) == (UDHR["es"], False, "es")
    assert answer.timings.n_retries == 1
    assert answer.to_dict()["language_ok"] is False


def test_off_takes_what_comes_and_tells(saying):
    chat = Chat(saying(UDHR["en"]), "cat", lang="fr")
    stream = chat.stream(lang_mode="off")
    assert len(in_pieces(stream)) > 20
    assert (stream.answer.text, stream.answer.language_ok) == (UDHR["en"], False)
    assert stream.answer.timings.n_retries == 0


def test_a_short_answer_is_judged_at_its_end(saying):
    stream = Chat(saying("Two dogs.", "Deux chiens."), "cat", lang="fr").stream()
    assert "".join(in_pieces(stream)) == "Deux chiens."  # the second attempt comes as it comes
    assert stream.answer.timings.n_retries == 1
    stream = Chat(saying("3"), "cat", lang="fr").stream()
    assert in_pieces(stream) == ["3"]
    assert (stream.answer.language_ok, stream.answer.language_detected) == (None, None)


def test_an_answer_that_drifts_late_is_retried_only_where_nothing_was_shown(saying):
    drifting = f"Voici une image. {UDHR['en']} {UDHR['en']}"
    answer = Chat(saying(drifting, UDHR["fr"]), "cat", lang="fr").ask()
    assert (answer.text, answer.timings.n_retries) == (UDHR["fr"], 1)
    stream = Chat(saying(f"Il y a une image ici. {UDHR['en']} {UDHR['en']}"), "cat", lang="fr").stream()
    assert "".join(in_pieces(stream)).startswith("Il y a")
    assert (stream.answer.language_ok, stream.answer.timings.n_retries) == (False, 0)


def test_where_the_stronger_question_does_not_fit_the_answer_stays(saying, monkeypatch):
    loaded = saying(UDHR["en"])
    chat = Chat(loaded, "cat", lang="fr")
    stream = chat.stream()

    def full(*_arguments, **_options):
        raise ArgumentError("context: expected room, got none; shorten the question")

    monkeypatch.setattr("palo_cpp.chat.chat.fit", full)
    assert "".join(in_pieces(stream)) == UDHR["en"]
    assert (stream.answer.language_ok, stream.answer.timings.n_retries) == (False, 0)


def test_stopped_before_anything_was_shown_nothing_was_said(saying):
    chat = Chat(saying("La la la la la la la la", UDHR["fr"], ""), "cat", lang="fr")
    stream = chat.stream()
    chat.close()
    assert (stream.answer.text, stream.answer.token_ids, stream.answer.finish_reason) == ("", (), "cancelled")
    assert chat.turns == []


def test_stopped_later_what_was_shown_stays(saying):
    chat = Chat(saying(UDHR["fr"]), "cat", lang="fr")
    stream = chat.stream()
    shown = next(stream).text
    stream.close()
    assert stream.answer.text == shown.rstrip() and chat.turns[0].answer == stream.answer.text


def test_a_conversation_has_a_mode_that_a_question_may_change(saying):
    chat = Chat(saying(UDHR["en"], UDHR["en"], UDHR["fr"]), "cat", lang="fr", lang_mode="off")
    assert chat.ask().timings.n_retries == 0
    assert chat.ask(lang_mode="prefer").timings.n_retries == 1
    with pytest.raises(ArgumentError, match="lang_mode: expected strict, prefer, off, got 'lax'"):
        Chat(saying(), "cat", lang_mode="lax")


@pytest.mark.parametrize("code", LANGUAGES)
def test_without_a_language_nothing_is_promised(saying, code):
    answer = Chat(saying(UDHR[code]), "cat").ask("What is this?")
    assert (answer.language, answer.language_ok, answer.language_detected) == (None, None, code)


# --- A model of random weights ---


@pytest.fixture
def keeping(loaded):
    loaded.constraints = LanguageConstraints(loaded.language_model)
    return loaded


@pytest.mark.parametrize("code", LANGUAGES)
def test_under_strict_random_weights_write_only_the_script(keeping, code):
    own = {COMMON, *LANGUAGES[code].letters}
    foreign_when_off = set()
    for i in range(4):
        chat = Chat(keeping, "cat", lang=code)
        for options in ({}, {"temperature": 1.5, "seed": i}):
            answer = chat.ask(f"What is this {i}?", max_tokens=30, lang_mode="strict", **options)
            assert {script_of(character) for character in answer.text} <= own
            assert answer.token_ids
        off = chat.edit(f"What is this {i}?", max_tokens=30, lang_mode="off", temperature=1.5, seed=i)
        foreign_when_off |= {script_of(character) for character in off.text} - own
    assert foreign_when_off
