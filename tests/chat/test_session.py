"""A conversation to a file and back: nothing is read again that need not be, and no file reaches beyond its own."""

from __future__ import annotations

import dataclasses
import logging
from importlib import metadata

import checkpoints
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from palo_cpp.convert import convert

from palo_cpp import Palo
from palo_cpp.chat.session_file import read_kv, read_session, write_session
from palo_cpp.errors import ArgumentError, PaloError, SessionError

LIMIT = {"max_tokens": 6}
NEXT = "And now?"


@pytest.fixture
def path(palo, picture, tmp_path):
    """A conversation of two turns."""
    # A random model's answers are in no language: it would be asked again, and the second time find all cached.
    with palo.chat(picture, lang="hi", lang_mode="off") as chat:
        chat.ask("यह क्या है?", **LIMIT)
        chat.ask("¿Dónde?", **LIMIT)
        chat.save(tmp_path / "a.palo")
    return tmp_path / "a.palo"


def asked(palo, path, question=NEXT):
    palo.clear_cache()
    with palo.load_chat(path) as chat:
        return chat.ask(question, **LIMIT)


def no_encoding(palo, monkeypatch):
    monkeypatch.setattr(palo.vision, "encode", lambda _: pytest.fail("an image was encoded"))


def test_the_next_question_reads_only_itself_and_has_the_same_answer(palo, picture, tmp_path, monkeypatch):
    with palo.chat(picture, lang="hi", lang_mode="strict") as chat:
        turns = [chat.ask("यह क्या है?", **LIMIT), chat.ask("¿Dónde?", **LIMIT)]
        chat.save(tmp_path / "a.palo")
        expected = chat.ask(NEXT, **LIMIT)
    palo.clear_cache()
    no_encoding(palo, monkeypatch)
    with palo.load_chat(tmp_path / "a.palo") as again:
        assert (again.lang, again.lang_mode) == ("hi", "strict")
        assert [turn.answer for turn in again.turns] == [turn.text for turn in turns]
        answer = again.ask(NEXT, **LIMIT)
    assert (answer.text, answer.token_ids) == (expected.text, expected.token_ids)
    assert answer.inputs == expected.inputs
    assert answer.timings.n_prompt_tokens == expected.timings.n_prompt_tokens
    assert answer.timings.n_cached_tokens == expected.timings.n_cached_tokens
    # All but the end of the last answer and the new text.
    last = turns[-1].timings
    assert answer.timings.n_cached_tokens >= last.n_prompt_tokens + last.n_generated - 1
    assert answer.timings.n_images_encoded == 0


def test_logits_equal_the_uninterrupted_ones(palo, picture, tmp_path):
    logits = []
    with palo.chat(picture) as chat:
        chat.ask("What?", **LIMIT)
        chat.save(tmp_path / "a.palo")
        model = palo.language_model
        n = model.n_tokens()
        logits.append(model.decode([5, 6, 7], position=n))
    palo.clear_cache()
    model.decode([1, 9], position=0)
    palo.clear_cache()
    palo.load_chat(tmp_path / "a.palo")
    assert model.n_tokens() == n
    logits.append(model.decode([5, 6, 7], position=n))
    np.testing.assert_array_equal(*logits)


def test_ten_languages(palo, picture, sentences, tmp_path):
    for code, sentence in sentences.items():
        palo.clear_cache()
        with palo.chat(picture, lang=code) as chat:
            answer = chat.ask(sentence, max_tokens=3)
            chat.save(tmp_path / f"{sentence[:5]}.palo")
        with palo.load_chat(tmp_path / f"{sentence[:5]}.palo") as again:
            (turn,) = again.turns
            assert (again.lang, turn.asked, turn.answer, turn.answer_ids) == (
                code,
                sentence,
                answer.text,
                answer.token_ids,
            )


def test_without_keys_and_values_the_pixels_are_enough(palo, path, tmp_path):
    expected = asked(palo, path)
    palo.clear_cache()
    with palo.load_chat(path) as chat:
        chat.save(tmp_path / "b.palo", with_kv=False)
    assert (tmp_path / "b.palo").stat().st_size < 20_000 < path.stat().st_size
    answer = asked(palo, tmp_path / "b.palo")
    assert answer.token_ids == expected.token_ids
    assert (answer.timings.n_cached_tokens, answer.timings.n_images_encoded) == (0, 1)


def test_several_images_and_one_that_was_not_asked_about_yet(palo, picture, other_picture, tmp_path):
    with palo.chat(picture) as chat:
        chat.ask("One?", **LIMIT)
        chat.add_image(other_picture)
        chat.ask("Two?", **LIMIT)
        chat.add_image(picture)
        chat.save(tmp_path / "a.palo")
        expected = chat.ask("Three?", **LIMIT)
    assert len(read_session(tmp_path / "a.palo").images) == 2
    answer = asked(palo, tmp_path / "a.palo", "Three?")
    assert answer.token_ids == expected.token_ids and answer.inputs == expected.inputs
    assert answer.timings.n_cached_tokens == expected.timings.n_cached_tokens


def test_an_image_is_added_only_if_it_is_new(palo, picture, other_picture, path):
    with palo.load_chat(path) as chat:
        assert not chat.add_image(picture, if_new=True) and chat.pending_images == []
        assert chat.add_image(other_picture, if_new=True)
        assert not chat.add_image(other_picture, if_new=True) and len(chat.pending_images) == 1
        assert chat.add_image(picture) and len(chat.pending_images) == 2


def test_saving_stops_an_answer_that_is_still_coming(palo, picture, tmp_path):
    with palo.chat(picture) as chat:
        stream = chat.stream("What?", max_tokens=500)
        next(stream)
        chat.save(tmp_path / "a.palo")
        assert stream.answer.finish_reason == "cancelled"
    assert palo.load_chat(tmp_path / "a.palo").turns[0].answer == stream.answer.text


def test_an_empty_conversation(palo, tmp_path):
    with palo.chat(system="Be brief.") as chat:
        chat.save(tmp_path / "a.palo")
    with palo.load_chat(tmp_path / "a.palo") as again:
        assert again.turns == []
        assert again.ask("What?", **LIMIT).inputs.prompt.startswith("Be brief. USER")


def test_what_another_conversation_displaced_is_read_again(palo, picture, tmp_path):
    with palo.chat(picture) as chat:
        chat.ask("What?", **LIMIT)
        palo.ask(None, "Something else entirely", **LIMIT)
        chat.save(tmp_path / "a.palo")
        n_cells = read_session(tmp_path / "a.palo").n_cells
        assert 0 < n_cells < chat.n_tokens - 20  # the text before the image
        expected = chat.ask(NEXT, **LIMIT)
    assert asked(palo, tmp_path / "a.palo").token_ids == expected.token_ids


def test_saving_changes_nothing_and_loading_again_saves_the_same(palo, path, tmp_path):
    with palo.load_chat(path) as chat:
        chat.save(tmp_path / "b.palo")
        assert (tmp_path / "b.palo").read_bytes() == path.read_bytes()
        chat.ask(NEXT, **LIMIT)
        chat.save(tmp_path / "b.palo")
        n = chat.ask("What?", **LIMIT).timings.n_cached_tokens
    assert asked(palo, tmp_path / "b.palo", "What?").timings.n_cached_tokens == n


def test_undo_and_clear_after_loading(palo, path):
    with palo.load_chat(path) as chat:
        chat.undo()
        assert chat.ask("¿Dónde?", **LIMIT).timings.n_cached_tokens > 40
        chat.clear()
        assert chat.ask("What?", **LIMIT).timings.n_cached_tokens == 0  # nothing of the file counts any more


# --- other models, other versions, smaller contexts


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "palo_cpp.chat.save"]


def test_another_model_reads_the_conversation_again(path, tmp_path, caplog):
    convert(checkpoints.write_checkpoint(tmp_path / "PALO-Other", seed=7), tmp_path / "other")
    with Palo(tmp_path / "other", n_threads=1) as other, other.load_chat(path) as chat:
        assert [turn.asked for turn in chat.turns] == ["यह क्या है?", "¿Dónde?"]
        answer = chat.ask(NEXT, **LIMIT)
    assert answer.timings.n_cached_tokens == 0 and answer.timings.n_images_encoded == 1
    (line,) = warned(caplog)
    assert line.startswith("a.palo: it was held with PALO-Small, and this is PALO-Other; ")


def test_a_file_says_which_versions_wrote_it(path):
    session = read_session(path)
    assert session.palo_cpp == metadata.version("palo-cpp")
    assert session.model.llama_cpp == metadata.version("llama-cpp-python")


def test_another_version_of_llama_cpp(palo, path, tmp_path, caplog):
    session = read_session(path)
    kv = read_kv(path, session, palo.language_model.n_state_bytes(session.n_cells))
    older = dataclasses.replace(session, model=dataclasses.replace(session.model, llama_cpp="0.2.0\x1b[2J"))
    write_session(tmp_path / "b.palo", older, kv)
    assert asked(palo, tmp_path / "b.palo").timings.n_cached_tokens == 0
    assert "written by llama-cpp-python 0.2.0?[2J, and this is 0." in warned(caplog)[0]


def test_a_smaller_context(model_dir, path, caplog):
    with Palo(model_dir, n_ctx=64, n_threads=1) as small, small.load_chat(path) as chat:
        assert len(chat.turns) == 2
    assert "tokens of context, and there are 64" in warned(caplog)[0]


def test_the_files_of_a_model_may_move_and_be_touched(model_dir, path, tmp_path, caplog):
    import shutil

    shutil.copytree(model_dir, tmp_path / "moved", copy_function=shutil.copyfile)
    with (
        Palo(tmp_path / "moved", n_threads=1) as moved,
        caplog.at_level(logging.WARNING),
        moved.load_chat(path) as chat,
    ):
        assert chat.ask(NEXT, **LIMIT).timings.n_cached_tokens > 60
    assert warned(caplog) == []


# --- files with right checksums that lie


def lying(palo, path, **changes):
    session = read_session(path)
    kv = read_kv(path, session, palo.language_model.n_state_bytes(session.n_cells))
    write_session(path, session, dataclasses.replace(kv, **{name: change(kv) for name, change in changes.items()}))
    return path


def test_keys_and_values_of_a_file_serve_its_own_conversation_only(palo, picture, path):
    """A file says of a photo, and of the system text, what it likes: no other conversation hears of it."""
    expected = palo.ask(picture, "What is this?", **LIMIT)

    palo.clear_cache()
    palo.load_chat(lying(palo, path, state=lambda kv: zeroed(palo, kv)))
    answer = palo.ask(picture, "What is this?", **LIMIT)
    assert answer.timings.n_cached_tokens == 0
    assert answer.token_ids == expected.token_ids


def zeroed(palo, kv):
    model = palo.language_model
    state = kv.state.copy()
    n_row = 2 * 128  # 2 heads of 64, f16
    at = 16 + 12 * len(kv.cells) + 8
    for _ in range(2 * model.n_layer):
        state[at + 12 : at + 12 + n_row * len(kv.cells)] = 0
        at += 12 + n_row * len(kv.cells)
    assert at == len(state)
    return state


@pytest.mark.parametrize(
    "change",
    [
        {"cells": lambda kv: kv.cells[:-1]},
        {"cells": lambda kv: np.append(kv.cells, 5).astype(np.int32)},
        {"cells": lambda kv: np.where(kv.cells < 0, -9, kv.cells).astype(np.int32)},
        {"state": lambda kv: kv.state[:-4]},
        {"state": lambda kv: np.full_like(kv.state, 0x7C)},
    ],
)
def test_lies_about_the_context(palo, path, change):
    expected = asked(palo, path)
    lying(palo, path, **change)
    with pytest.raises(SessionError) as caught:
        palo.load_chat(path)
    assert "\n" not in str(caught.value)
    assert palo.ask(None, "What?", **LIMIT).token_ids and expected.token_ids


def test_cells_of_another_conversation_are_of_no_use(palo, path):
    lying(palo, path, cells=lambda kv: np.arange(300, 300 + len(kv.cells), dtype=np.int32))
    assert asked(palo, path).timings.n_cached_tokens == 0


def test_tokens_that_the_model_has_not(palo, path):
    session = read_session(path)
    turns = tuple(dataclasses.replace(turn, answer_ids=(960,)) for turn in session.turns)
    write_session(path, dataclasses.replace(session, turns=turns), None)
    with pytest.raises(SessionError, match="expected tokens 0 to 959 in the answers, got 960"):
        palo.load_chat(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_refused_or_does_no_harm(palo, path, tmp_path, data):
    whole = bytearray(path.read_bytes())
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)):
        whole[at] = value
    (tmp_path / "b.palo").write_bytes(whole)
    try:
        chat = palo.load_chat(tmp_path / "b.palo")
    except PaloError:
        return
    assert [turn.asked for turn in chat.turns] == ["यह क्या है?", "¿Dónde?"]


def test_no_file_and_closed_conversations(palo, path, tmp_path):
    with pytest.raises(SessionError, match="no file there"):
        palo.load_chat(tmp_path / "none.palo")
    chat = palo.load_chat(path)
    chat.close()
    with pytest.raises(ArgumentError, match="expected an open conversation"):
        chat.save(path)
