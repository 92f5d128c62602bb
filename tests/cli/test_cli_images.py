"""Images in a chat and as arguments: typed, dropped and pasted; and what is said where there is none."""

from __future__ import annotations

import json
import sys
import urllib.parse

import fake_palo
import pytest
from click.testing import CliRunner
from fake_palo import ANSWERS
from terminals import Terminal

from palo_cpp.cli import palo_cpp
from palo_cpp.languages.languages import LANGUAGES

NO_IMAGE = "palo-cpp: warning: no image is open: the model sees nothing; /image PATH opens one\n"


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


@pytest.fixture
def photos(tmp_path):
    """Paths of three images in a folder with a space in its name."""
    folder = tmp_path / "मेरी तस्वीरें"
    folder.mkdir()
    paths = [folder / name for name in ("cat.jpg", "میری بلی.png", "私の 猫.webp")]
    for path in paths:
        path.touch()
    return [str(path) for path in paths]


def run(*arguments, **extra):
    return CliRunner().invoke(palo_cpp, [*map(str, arguments)], prog_name="palo-cpp", **extra)


def chat(*arguments, text):
    return run("chat", *arguments, input=text)


def questions(palo):
    return [asked["question"] for asked in palo.asked]


# ---- a path in a line


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("way", ["quoted", "escaped", "uri", "raw", "fish", "powershell"])
def test_a_dropped_image_and_a_question(palo, photos, code, way):
    question = LANGUAGES[code].default_question
    path = photos[1]
    typed = {
        "quoted": f"'{path}'",
        "escaped": path.replace(" ", "\\ "),
        "uri": "file://" + urllib.parse.quote(path),
        "raw": path,
        "fish": f"'{path}'",
        "powershell": f"& '{path}'",
    }[way]
    result = chat("--lang", code, text=f"{typed} {question}\n{question} {typed}\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, (ANSWERS[code] + "\n") * 2, "")
    assert set(palo.images) == {path}
    assert questions(palo) == [question, question]


def test_a_path_alone_opens_the_image_for_the_next_question(palo, photos):
    result = chat(text=f"{photos[0]}\nWhat is this?\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, ANSWERS["en"] + "\n", "")
    assert palo.images == [photos[0]]


@pytest.mark.usefixtures("typed")
def test_a_path_alone_at_a_terminal(palo, photos):
    result = chat(text=f"{photos[0]}\n\n'{photos[1]}' '{photos[2]}'\nWhich?\n{photos[2]}\n")
    assert questions(palo) == [None, "Which?"]
    assert ">>> cat.jpg is open.\n" in result.stderr
    assert "میری بلی.png, 私の 猫.webp are open; the next question shows them too. Images so far: 3;" in result.stderr
    assert "私の 猫.webp is open already.\n" in result.stderr


def test_an_image_is_added_and_image_starts_again(palo, photos):
    chat("photo.jpg", text=f"One?\n{photos[0]} two?\n/image {photos[1]} three?\n")
    assert questions(palo) == ["One?", "two?", "three?"]
    assert palo.images == ["photo.jpg", photos[0], photos[1]]
    assert palo.n_cleared == 1  # by /image alone


@pytest.mark.parametrize("command", ["/image", "/add"])
def test_commands_take_paths_in_the_same_forms(palo, photos, command):
    uri = "file://" + urllib.parse.quote(photos[1])
    result = chat(text=f"{command} '{photos[0]}' {uri} which is larger?\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert palo.images == photos[:2] and questions(palo) == ["which is larger?"]


def test_a_missing_path_is_an_error_and_never_a_question(palo):
    result = chat("photo.jpg", text="missing.jpg what is this?\n'missing.jpg'\nOne?\n")
    assert (result.exit_code, result.stdout) == (1, ANSWERS["en"] + "\n")
    assert questions(palo) == ["One?"]
    assert [line.rpartition("; ")[2] for line in result.stderr.splitlines()] == [
        "check the path (line 1 of stdin)",
        "check the path (line 2 of stdin)",
    ]


def test_a_missing_path_is_named_by_the_library_too(tmp_path, photos):
    from palo_cpp import Palo

    with Palo("nano") as real, real.chat() as conversation:
        with pytest.raises(ValueError, match=r"no such\.jpg"):
            conversation.add_image(str(tmp_path / "no such.jpg"))
        assert conversation.pending_images == [] and photos


def test_of_two_images_one_missing_opens_none(palo, photos):
    result = chat(text=f"{photos[0]} missing.jpg which?\nWhat?\n")
    assert result.exit_code == 1
    assert questions(palo) == ["What?"] and NO_IMAGE in result.stderr
    palo.images.clear()
    result = chat("photo.jpg", text=f"One?\n/image {photos[0]} missing.jpg\nTwo?\n")
    assert NO_IMAGE not in result.stderr and palo.n_cleared == 0


def test_of_two_images_one_unreadable_opens_none(palo, photos):
    palo.unreadable = photos[1]
    result = chat(text=f"'{photos[0]}' '{photos[1]}' which?\nWhat?\n")
    assert result.exit_code == 1 and questions(palo) == ["What?"] and NO_IMAGE in result.stderr
    chat("photo.jpg", text=f"One?\n/image '{photos[0]}' '{photos[1]}'\nTwo?\n")
    assert palo.n_cleared == 0


@pytest.mark.usefixtures("typed")
def test_a_question_may_name_the_open_image(palo):
    chat("photos/photo.jpg", text="Is photo.jpg blurred?\n")
    assert questions(palo) == ["Is photo.jpg blurred?"] and palo.images == ["photos/photo.jpg"]


@pytest.mark.parametrize("text", ["/HELP\n/Lang hi\nOne?\n", "／ｈｅｌｐ\n／ｌａｎｇ　hi\nOne?\n"])
def test_commands_as_phones_and_input_methods_type_them(palo, text):
    result = chat("photo.jpg", text=text)
    assert result.exit_code == 0 and "/context" in result.stderr
    assert palo.asked == [{"question": "One?", "lang": "hi"}]


# ---- no image


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_question_without_an_image_is_answered_with_a_warning(code):
    question = LANGUAGES[code].default_question
    result = chat("--lang", code, text=f"{question}\n{question}\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, (ANSWERS[code] + "\n") * 2, NO_IMAGE * 2)


@pytest.mark.usefixtures("typed")
def test_the_warning_comes_before_the_answer_and_ends_with_an_image(photos):
    result = chat(text=f"One?\n{photos[0]} two?\n/clear\nThree?\n/undo\nFour?\n")
    assert result.stderr.count(NO_IMAGE) == 1
    assert result.stderr.index(NO_IMAGE) < result.stderr.index("tokens")
    assert "No image is open: type or drop its path." in result.stderr


def test_no_image_in_json(photos):
    result = chat("--json", text=f"One?\n{photos[0]} two?\n")
    without, with_one = map(json.loads, result.stdout.splitlines())
    assert (without["inputs"]["images"], without["warnings"]) == ([], ["no image is open: the model sees nothing"])
    assert len(with_one["inputs"]["images"]) == 1 and with_one["warnings"] == []
    assert result.stderr == NO_IMAGE


@pytest.mark.parametrize("command", ["ask", "describe"])
@pytest.mark.parametrize(
    ("argument", "stdin", "message"),
    [
        ("", "", "IMAGE: expected a file, got an empty argument"),
        ("  ", "", "IMAGE: expected a file, got an empty argument"),
        ("-", "", "stdin (-): expected an image, got nothing"),
    ],
)
def test_ask_and_describe_cannot_go_without(palo, command, argument, stdin, message):
    result = run(command, argument, input=stdin)
    assert (result.exit_code, result.stdout, palo.asked) == (1, "", [])
    assert result.stderr.startswith(f"palo-cpp: error: {message}") and result.stderr.count("\n") == 1


def test_chat_refuses_an_empty_argument(palo):
    result = chat("", text="What?\n")
    assert (result.exit_code, result.stdout, palo.asked) == (1, "", [])


def test_an_empty_question_on_stdin_is_refused(palo):
    result = run("ask", "photo.jpg", "-", input=" \n")
    assert (result.exit_code, palo.asked) == (1, [])
    assert "stdin (-): expected a question, got nothing" in result.stderr


# ---- arguments


def test_arguments_in_the_same_forms(palo, photos):
    uri = "file://" + urllib.parse.quote(photos[1])
    assert run("ask", uri, "What?").exit_code == 0
    assert run("ask", f"'{photos[1]}'", "What?").exit_code == 0  # as cmd.exe hands single quotes on
    assert run("describe", uri, "--lang", "hi,ur").exit_code == 0
    assert chat(uri, f'"{photos[0]}"', text="What?\n").exit_code == 0
    assert palo.images == [photos[1]] * 4 + [photos[0]]


# ---- nothing in silence in a pipe


def test_what_fails_in_a_pipe_is_said_and_in_the_exit_status():
    lines = ["/frobnicate", "/undo", "/edit One?", "/image", "/add", "/load", "/save", "One?", "/edit"]
    result = chat("photo.jpg", text="\n".join(lines) + "\n")
    assert (result.exit_code, result.stdout) == (1, ANSWERS["en"] + "\n")
    said = result.stderr.splitlines()
    assert [line.rpartition(" (")[2] for line in said] == [f"line {n} of stdin)" for n in (1, 2, 3, 4, 5, 6, 7, 9)]
    assert "/frobnicate is not a command, and no file has this path; /help lists the commands" in said[0]
    assert "usage: /save FILE" in said[6]


def test_what_was_asked_for_is_shown_in_a_pipe():
    result = chat("photo.jpg", text="/lang\n/context\n/help\nOne?\n")
    assert result.exit_code == 0 and result.stdout == ANSWERS["en"] + "\n"
    assert "Answers follow the question.\nRoom for about 300 words" in result.stderr and "/add PATH" in result.stderr


@pytest.mark.parametrize("text", ["", "One?\n{0}\n", "One?\n/add {0}\n"])
def test_an_image_that_nothing_is_asked_about(photos, text):
    result = chat(photos[0] if not text else "photo.jpg", text=text.format(photos[0]))
    assert result.exit_code == 1
    assert result.stderr == (
        "palo-cpp: error: cat.jpg: expected a question on stdin, got none; `palo-cpp describe` needs none\n"
    )


def test_no_line_at_all():
    assert chat(text="").stderr == "palo-cpp: warning: stdin held no question\n"


def test_every_question_of_a_pipe_has_its_object():
    result = chat("photo.jpg", "--json", text="One?\nmissing.jpg two?\n/nonsense\n/lang Klingon\nThree?\n")
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("question") for line in said] == [None, "missing.jpg two?", "/nonsense", None]
    assert said[1]["error"].startswith("missing.jpg: expected an image")
    assert result.exit_code == 1 and result.stderr.count("\n") == 3


def test_a_thousand_questions(palo):
    text = "".join(f"Question {n}?\n" for n in range(1000))
    palo.pieces = ["Yes."]
    result = chat("photo.jpg", text=text)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Yes.\n" * 1000, "")
    assert questions(palo) == text.splitlines()


# ---- in a terminal

in_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind")


def paste(text):
    return f"\x1b[200~{text}\x1b[201~"


@in_a_terminal
@pytest.mark.parametrize("n_columns", [40, 120])
def test_three_pasted_lines_with_a_path_in_the_middle(photos, tmp_path, n_columns):
    (tmp_path / "inputrc").write_text("set enable-bracketed-paste off\n")  # as some versions of Python set it
    environment = {"XDG_STATE_HOME": str(tmp_path), "INPUTRC": str(tmp_path / "inputrc")}
    with Terminal("--json", n_columns=n_columns, **environment) as terminal:
        assert "\x1b[?2004h" in terminal.read_until(">>> ")  # asks the terminal to mark what is pasted
        terminal.type(paste(f"यह क्या है?\r'{photos[1]}'\rएक शब्द में।") + "\r")
        terminal.read_until("میری بلی.png is open.")
        terminal.read_until('"images": [{')  # not []
        terminal.read_until(">>> ")
        terminal.type("\x04")
        assert terminal.process.wait(20) == 0
    history = (tmp_path / "palo_cpp" / "history").read_text(encoding="utf-8").splitlines()
    assert history == [f"यह क्या है? '{photos[1]}' एक शब्द में।"]


@in_a_terminal
@pytest.mark.parametrize("plain", [{"TERM": "dumb"}, {"PALO_CPP_PLAIN": "1"}])
def test_a_screen_reader_hears_words_only(photos, tmp_path, plain):
    with Terminal("--lang", "ur", XDG_STATE_HOME=str(tmp_path), **plain) as terminal:
        shown = terminal.read_until("Question: ")
        terminal.type(f"{photos[0]} یہ کیا ہے؟\r")
        shown += terminal.read_until("The answer took 2.0 s.")
        terminal.type('"""ایک\r')
        terminal.read_until("More: ")
        terminal.type('دو"""\r/bye\r')
        assert terminal.process.wait(20) == 0
    assert ANSWERS["ur"] in shown
    assert not set("…>\u2067\u2069") & set(shown) and "\x1b[2K" not in shown and "\x1b[2m" not in shown


@in_a_terminal
def test_pasted_commands_are_run_line_by_line(photos, tmp_path):
    with Terminal(XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until(">>> ")
        terminal.type(paste(f"/lang ur\r{photos[0]} یہ کیا ہے؟\r/bye") + "\r")
        shown = terminal.read_until("\0")
        assert shown.index("Answers come in ur") < shown.index("cat.jpg is open") < shown.index(ANSWERS["ur"])
        assert terminal.process.wait(20) == 0
