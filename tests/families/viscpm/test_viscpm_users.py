"""VisCPM as people use it: conversations, sessions, the command line, OpenAI's dictionaries; what a follow-up costs."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

from palo_cpp import ArgumentError, Palo
from palo_cpp.cli import palo_cpp as command
from palo_cpp.cli.answering import timings_line

SHORT = {"max_tokens": 6, "lang_mode": "off"}


@pytest.fixture
def other_picture(picture):
    return np.ascontiguousarray(picture[::-1])


def run(*arguments, stdin=None):
    return CliRunner().invoke(command, [*map(str, arguments)], input=stdin)


@pytest.fixture
def model(viscpm_folder):
    return ("-m", viscpm_folder, "-c", 300, "-t", 1, "-n", 6, "--lang-mode", "off")


def test_a_follow_up_question_says_what_it_reads_again(viscpm, picture):
    with viscpm.chat(picture) as chat:
        first, second, third = (
            chat.ask(question, **SHORT).timings for question in ("?", "这是什么？", "What is this?")
        )
        alone = viscpm.chat().plan("What is this?").request.n_prompt
    assert first.n_repeated_tokens == 0 and first.repeated_s == 0
    assert third.n_prompt_tokens - third.n_repeated_tokens == alone
    assert 8 < second.n_repeated_tokens < third.n_repeated_tokens  # the image, and turn by turn
    assert 0 < third.repeated_s < third.prefill_s and third.n_cached_tokens == 0
    assert [each.n_images_encoded for each in (first, second, third)] == [1, 0, 0]


def test_the_line_below_an_answer_says_it_and_palos_does_not(viscpm, picture):
    with viscpm.chat(picture) as chat:
        lines = [timings_line(chat.ask("What is this?", **SHORT)) for _ in range(2)]
    assert "again" not in lines[0] and "image" in lines[0]
    assert re.search(r"prompt \d+\.\d\d s for \d\d tokens, \d\d of them read again \(about \d+\.\d\d s\)", lines[1])
    assert "image" not in lines[1].partition("prompt")[0]


def test_an_image_is_encoded_once_also_for_another_process(viscpm_folder, picture, tmp_path):
    counts = []
    for _ in range(2):
        with Palo(viscpm_folder, n_ctx=300, n_threads=1, embedding_cache_dir=tmp_path / "cache") as palo:
            answers = [palo.ask(picture, "?", **SHORT), palo.ask(picture, "这是什么？", **SHORT)]
            counts.append([answer.timings.n_images_encoded for answer in answers])
            rows = palo.embed_image(picture)
            assert palo.counters().n_images_encoded == sum(counts[-1])
    assert counts == [[1, 0], [0, 0]] and rows.shape == (8, 64)
    assert len(list((tmp_path / "cache").glob("*.features"))) == 1


def test_a_second_picture_is_refused_and_the_conversation_goes_on(viscpm, picture, other_picture):
    with viscpm.chat(picture) as chat:
        chat.ask("?", **SHORT)
        with pytest.raises(
            ArgumentError, match="image: expected one in a conversation with VisCPM, got 2; begin a new"
        ):
            chat.add_image(other_picture)
        assert not chat.add_image(picture, if_new=True)
        assert chat.ask("?", **SHORT).n_images == 1 and len(chat.turns) == 2
        with pytest.raises(ArgumentError, match="got 2"):
            chat.set_images([picture, other_picture])
        assert len(chat.turns) == 2
        chat.set_image(other_picture)
        assert chat.ask("?", **SHORT).n_images == 1 and len(chat.turns) == 1


def test_how_full_the_context_is(viscpm, picture):
    with viscpm.chat(picture) as chat:
        before = chat.n_tokens
        n_prompt = chat.ask("这是什么？", **SHORT).timings.n_prompt_tokens
        assert 8 < before < n_prompt < chat.n_tokens < 300
        assert chat.context_use("zh").n_tokens == chat.n_tokens


def test_describe_in_both_languages(viscpm, picture):
    answers = viscpm.describe(picture, **SHORT)
    assert list(answers) == ["zh", "en"] and all(answer.text for answer in answers.values())
    assert [answer.timings.n_images_encoded for answer in answers.values()] == [1, 0]


def test_openais_dictionaries(viscpm, picture, other_picture):
    def uri(pixels) -> str:
        data = io.BytesIO()
        PIL.Image.fromarray(pixels).save(data, "PNG")
        return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"

    def shown(*pixels):
        images = [{"type": "image_url", "image_url": {"url": uri(each)}} for each in pixels]
        return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *images]}]

    whole = viscpm.create_chat_completion(shown(picture), **SHORT)
    said = whole["choices"][0]["message"]["content"]
    assert said == viscpm.ask(picture, "What is this?", **SHORT).text
    chunks = viscpm.create_chat_completion(shown(picture), stream=True, n_beams=1, **SHORT)
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(texts) == viscpm.ask(picture, "What is this?", n_beams=1, **SHORT).text
    with pytest.raises(ArgumentError, match="image: expected one in a conversation with VisCPM, got 2"):
        viscpm.create_chat_completion(shown(picture, other_picture))
    with pytest.raises(ArgumentError, match="language: expected one that VisCPM-Chat knows"):
        viscpm.create_chat_completion(shown(picture), lang="ja")


def test_what_is_llama_cpps_alone_is_refused_in_a_sentence(viscpm):
    with pytest.raises(ArgumentError, match=r"language_model: expected a model of llama\.cpp's, got VisCPM-Chat"):
        _ = viscpm.language_model
    assert viscpm.n_ctx == 300 and viscpm.backend.mode == "auto"
    assert viscpm.vision.info.n_image_tokens == 8 and viscpm.preprocess == "stretch"


# The command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [[], ["--beams", 1], ["--temp", 0.9, "--seed", 3]])
def test_ask(model, picture_file, extra):
    done = run("ask", picture_file, "这是什么？", *model, *extra, "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["text"] and answer["inputs"]["images"][0]["preprocess"] == "stretch"
    assert (answer["inputs"]["seed"] == 3) == ("--seed" in extra)


def test_a_schema_on_the_command_line(model, picture_file, tmp_path):
    (tmp_path / "schema.json").write_text(
        '{"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}'
    )
    arguments = ("ask", picture_file, "?", *model, "-n", 40, "--json-schema", tmp_path / "schema.json")
    assert json.loads(run(*arguments).stdout) == {"a": None}
    refused = run(*arguments, "--beams", 3)
    assert refused.exit_code == 1 and "n_beams: expected 1 with json_schema" in refused.stderr


@pytest.mark.parametrize("name", ["ask", "chat", "describe"])
def test_another_language_is_refused_before_anything_is_asked(name, model, picture_file):
    done = run(name, picture_file, *model, "--lang", "hi", stdin="?\n?\n")
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.count("knows Hindi: MobilePALO-1.7B, PALO-7B and PALO-13B") == 1


def test_chat_and_its_commands(model, picture_file, other_picture, tmp_path):
    PIL.Image.fromarray(other_picture).save(tmp_path / "other.png")
    lines = [
        "?",
        f"/add {tmp_path / 'other.png'}",
        "/lang ur",
        "/lang zh",
        "?",
        f"/image {tmp_path / 'other.png'}",
        "?",
    ]
    done = run("chat", picture_file, *model, "--json", stdin="\n".join(lines))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["language"] for answer in answers] == [None, "zh", "zh"]
    assert [answer["timings"]["n_repeated_tokens"] > 0 for answer in answers] == [False, True, False]
    assert done.stderr.count("error") == 2 and "(line 2 of stdin)" in done.stderr and "knows Urdu" in done.stderr


@pytest.mark.usefixtures("typed")
def test_a_session_goes_on_and_says_what_it_cannot_keep(model, viscpm_folder, picture_file, tmp_path):
    session = ("--session", tmp_path / "talk.palo")
    first = run("chat", picture_file, *model, *session, "--json", stdin="这是什么？\n")
    assert first.exit_code == 0, first.stderr
    second = run("chat", *model, *session, "--json", stdin=f"What is this?\n/save {tmp_path / 'copy.palo'}\n")
    assert second.exit_code == 0, second.stderr
    assert second.stderr.count("This model keeps no keys and values: each question reads all of it again.") == 2
    with Palo(viscpm_folder, n_ctx=300, n_threads=1) as palo, palo.load_chat(tmp_path / "copy.palo") as chat:
        assert [turn.question for turn in chat.turns] == ["这是什么？", "What is this?"]
        assert [turn.answer for turn in chat.turns] == [json.loads(each.stdout)["text"] for each in (first, second)]
        assert len(chat.turns[0].images) == 1 and chat.ask("?", **SHORT).timings.n_images_encoded == 1


def test_palo_and_viscpm_take_over_each_others_sessions(viscpm, picture, tmp_path, caplog):
    with Palo("nano", n_threads=1) as nano:
        for giver, taker in ((nano, viscpm), (viscpm, nano)):
            with giver.chat(picture) as chat:
                chat.ask("What is this?", **SHORT)
                chat.save(tmp_path / "talk.palo")
            with taker.load_chat(tmp_path / "talk.palo") as chat:
                assert chat.ask("What is this?", **SHORT).n_images == 1 and len(chat.turns) == 2
    assert caplog.text.count("prefilled again with the next question") == 2
