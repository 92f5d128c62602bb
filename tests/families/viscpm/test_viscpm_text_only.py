"""CPM-Bee without an eye: questions without a picture, answered from one file; a picture is refused in one sentence."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from palo_cpp import ArgumentError, ModelFormatError, ModelNotFoundError, Palo
from palo_cpp.cli import palo_cpp as command
from palo_cpp.models.files import find_model

REFUSED = "image: expected none, for VisCPM-Chat was loaded without vision tower and projector, got one"


@pytest.fixture
def text_only(text_folder):
    with Palo(text_folder, n_ctx=300, n_threads=1) as palo:
        yield palo


@pytest.mark.parametrize(("lang", "question"), [("zh", "这是什么？"), ("en", "What is this?")])
def test_it_says_what_the_whole_model_says_to_texts(text_only, viscpm, lang, question):
    answers = [each.ask(None, question, lang=lang, lang_mode="off", max_tokens=12) for each in (text_only, viscpm)]
    assert answers[0].token_ids and answers[0].token_ids == answers[1].token_ids
    assert [answer.inputs.sees_images for answer in answers] == [False, True]
    assert answers[0].inputs.prompt == answers[1].inputs.prompt and "image" not in answers[0].inputs.prompt
    assert (text_only.sees_images, viscpm.sees_images) == (False, True)


def test_pictures_are_refused_wherever_they_are_given(text_only, viscpm, picture, tmp_path):
    for show in (
        lambda: text_only.ask(picture, "?"),
        lambda: text_only.describe(picture),
        lambda: text_only.embed_image(picture),
        lambda: text_only.embed_images([picture]),
        lambda: text_only.chat().add_image(picture),
        lambda: text_only.chat().set_image(picture),
    ):
        with pytest.raises(ArgumentError, match=REFUSED):
            show()
    with pytest.raises(ArgumentError, match="vision: expected a model that sees images, got VisCPM-Chat without"):
        _ = text_only.vision
    with viscpm.chat(picture) as chat:
        chat.ask("?", max_tokens=2)
        chat.save(tmp_path / "seen.palo")
    with pytest.raises(ArgumentError, match=REFUSED):
        text_only.load_chat(tmp_path / "seen.palo")


def test_a_folder_of_the_language_model_alone_is_a_model(text_folder, viscpm_folder, tmp_path):
    assert find_model(text_folder).mmproj is None and find_model(viscpm_folder).mmproj is not None
    (mmproj,) = viscpm_folder.glob("mmproj*")
    shutil.copy(mmproj, tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"expected a text model beside mmproj-VisCPM-Chat-F16\.gguf"):
        find_model(tmp_path)


def test_the_eye_of_another_model_is_refused(text_folder, mmproj_of_another, tmp_path):
    for path in (*text_folder.glob("*.gguf"), mmproj_of_another):
        shutil.copy(path, tmp_path)
    with pytest.raises(ModelFormatError, match="expected the mmproj file made together with VisCPM-Chat"):
        Palo(tmp_path)


@pytest.fixture(scope="module")
def mmproj_of_another(tmp_path_factory):
    from palo_cpp.convert import convert
    from viscpm_checkpoint import write_viscpm_checkpoint

    checkpoint = write_viscpm_checkpoint(tmp_path_factory.mktemp("checkpoint") / "VisCPM-Chat", seed=1)
    return convert(checkpoint, tmp_path_factory.mktemp("other")).mmproj_path


def run(*arguments, stdin=None):
    return CliRunner().invoke(command, [*map(str, arguments)], input=stdin)


def test_on_the_command_line(text_folder, picture_file):
    model = ("-m", text_folder, "-c", 300, "-t", 1, "-n", 6)
    asked = run("ask", "--no-image", "这是什么？", *model, "--json")
    assert asked.exit_code == 0, asked.stderr
    assert json.loads(asked.stdout)["text"] and "no image" not in asked.output
    talked = run("chat", *model, "--json", stdin="What is this?\n图中有什么？\n")
    assert talked.exit_code == 0 and len(talked.stdout.splitlines()) == 2 and "no image" not in talked.stderr
    for refused in (run("ask", picture_file, "?", *model), run("describe", picture_file, *model)):
        assert refused.exit_code == 1 and REFUSED in refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-image"], "expected one question, got none"),
        (["--no-image", "a.png", "?"], "expected one question, got two"),
        ([], "expected an image, or a question with --no-image, got neither"),
    ],
)
def test_ask_needs_an_image_or_the_wish_for_none(arguments, says):
    refused = run("ask", *arguments)
    assert refused.exit_code == 2 and says in refused.stderr
