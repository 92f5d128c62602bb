"""A family that is not PALO goes through the same front door: capabilities decide what happens, never a name."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest
from click.testing import CliRunner
from echo_family import TRAP, WORDS, EchoFamily, write_echo

from palo_cpp import ArgumentError, ModelFormatError, Palo
from palo_cpp.cli import palo_cpp as command
from palo_cpp.families import registry
from palo_cpp.models.files import find_model

RED = np.array([[[250, 10, 10]] * 8] * 6, np.uint8)
BLUE = np.ascontiguousarray(RED[..., ::-1])


@pytest.fixture(autouse=True)
def echo(monkeypatch):
    monkeypatch.setattr(registry, "FAMILIES", [*registry.FAMILIES, EchoFamily()])


@pytest.fixture
def path(tmp_path):
    return write_echo(tmp_path / "echo.gguf")


@pytest.fixture
def palo(path):
    with Palo(path) as palo:
        yield palo


def test_an_unknown_family_says_which_are_known(path, monkeypatch):
    monkeypatch.setattr(registry, "FAMILIES", registry.FAMILIES[:1])
    with pytest.raises(ModelFormatError, match=r"echo.gguf: expected a model of a known family \(PALO\), got .*'echo'"):
        find_model(path)


def test_one_file_is_a_model(path, palo):
    assert find_model(path.parent).mmproj is None
    assert (palo.name, palo.languages, palo.preprocess) == ("Echo", ("zh", "en"), "pad")


def test_the_best_path_is_answered_not_the_likeliest_first_word(palo):
    answer = palo.ask(RED, "What is this?")
    assert (answer.text, answer.finish_reason) == ("It is red.", "stop")
    assert [WORDS[token] for token in answer.token_ids] == ["It", " is", " red", "."]
    assert TRAP not in answer.token_ids
    assert palo.ask(BLUE, "这是什么？").text == "这是蓝色的。"
    assert answer.inputs.images[0].n_tokens == 1 and answer.inputs.prompt == "What is this?"


def test_text_streams_as_the_paths_agree(palo):
    stream = palo.stream(RED, "这是什么？", lang_mode="off")
    assert "".join(piece.text for piece in stream) == stream.answer.text == "这是红色的。"


def test_no_prompt_is_reused_but_images_are(palo):
    with palo.chat(RED, lang="en") as chat:
        chat.prepare()  # nothing can be prefilled ahead
        first, second = chat.ask(), chat.ask("What is this?")
    assert [a.timings.n_cached_tokens for a in (first, second)] == [0, 0]
    assert [a.timings.n_prompt_tokens for a in (first, second)] == [2, 3]
    assert palo._model.language_model.n_prefilled == 5 and palo._model.encoder.n_encoded == 1
    assert second.text == "It is red."


def test_all_languages_are_those_that_the_model_has(palo):
    answers = palo.describe(RED)
    assert {code: answer.text for code, answer in answers.items()} == {"zh": "这是红色的。", "en": "It is red."}
    assert all(answer.language_ok for answer in answers.values())


@pytest.mark.parametrize("ask", [lambda p, **o: p.ask(RED, **o), lambda p, **o: p.describe(RED, **o), Palo.chat])
def test_other_languages_are_refused_in_one_sentence(palo, ask):
    with pytest.raises(ArgumentError, match=r"that Echo knows \(zh .*, en .*\), got Hindi; .* knows Hindi: .*PALO-7B"):
        ask(palo, lang="hi")


def test_two_streams_read_in_turn_do_not_mix(palo):
    streams = [palo.stream(RED, "What?", lang_mode="off"), palo.stream(BLUE, "What?", lang_mode="off")]
    texts = ["", ""]
    for _ in range(12):
        for i, stream in enumerate(streams):
            texts[i] += next(iter(stream), "") and ""
            texts[i] = stream.answer.text if stream.answer else texts[i]
    assert texts == ["It is red.", "It is blue."]
    assert palo._model.language_model.n_prefilled == 4  # the first ran to its end before the second began


def test_a_dropped_stream_is_forgotten(palo):
    stream = palo.stream(RED, "What?", lang_mode="off")
    next(stream)
    del stream
    gc.collect()
    assert palo.ask(BLUE, "What?").text == "It is blue."


def test_the_context_and_max_tokens_end_an_answer(palo):
    assert palo.ask(RED, "What?", max_tokens=2).finish_reason == "length"
    chat = palo.chat(RED)
    for _ in range(30):  # more turns than the context holds
        answer = chat.ask("What?", max_tokens=8)
    assert answer.text == "It is red." and len(chat.turns) < 24


def test_a_session_keeps_text_and_pixels(palo, tmp_path):
    with palo.chat(RED, lang="zh") as chat:
        chat.ask()
        chat.save(tmp_path / "talk.palo")
    with palo.load_chat(tmp_path / "talk.palo") as again:
        assert [(turn.question, turn.answer, turn.images) for turn in again.turns] == [
            (turn.question, turn.answer, turn.images) for turn in chat.turns
        ]
        assert again.ask().text == "这是红色的。"


def test_what_needs_a_prefix_is_refused(path):
    with pytest.raises(ArgumentError, match="draft: expected a smaller model of the family of"):
        Palo("nano", draft=path)
    with pytest.raises(ArgumentError, match="preprocess: expected pad or None, got 'crop'"):
        Palo(path, preprocess="crop")


def test_options_that_a_caller_leaves_out_are_the_familys(palo, monkeypatch):
    with pytest.raises(ArgumentError, match="max_tokens"):
        palo.ask(RED, "What?", max_tokens=0)
    assert palo.ask(RED, "What?").text == "It is red."
    monkeypatch.setattr(EchoFamily, "defaults", {"max_tokens": 3})
    assert palo.ask(RED, "What?").text == "It is red"
    assert palo.ask(RED, "What?", max_tokens=4).text == "It is red."


def test_on_the_command_line(path, tmp_path):
    import PIL.Image

    picture = tmp_path / "red.png"
    PIL.Image.fromarray(RED).save(picture)
    told = CliRunner().invoke(command, ["describe", str(picture), "-m", str(path), "--lang", "all", "--json"])
    assert told.exit_code == 0, told.stderr
    (image,) = json.loads(told.stdout)["images"]
    assert {code: answer["text"] for code, answer in image["answers"].items()} == {
        "zh": "这是红色的。",
        "en": "It is red.",
    }
    refused = CliRunner().invoke(command, ["ask", str(picture), "-m", str(path), "--lang", "ur"])
    assert refused.exit_code == 1 and "expected one that Echo knows" in refused.stderr
