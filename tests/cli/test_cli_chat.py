import json
import re
import signal
import sys

import fake_palo
import pytest
from click.testing import CliRunner
from fake_palo import ANSWERS
from terminals import Terminal

from palo_cpp.cli import line_input, palo_cpp
from palo_cpp.cli.chat_loop import HOW_TO_LEAVE
from palo_cpp.languages.languages import LANGUAGES

CODES = list(LANGUAGES)


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


def chat(*arguments, text):
    return CliRunner().invoke(palo_cpp, ["chat", *arguments], prog_name="palo-cpp", input=text)


def interrupt(at):
    def during(n):
        if n == at:
            signal.raise_signal(signal.SIGINT)

    return during


# --- from a pipe


def test_one_question_per_line_and_only_answers_on_stdout(palo):
    result = chat("photo.jpg", "--lang", "hi", text="यह क्या है?\n\n  क्यों?  \n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, (ANSWERS["hi"] + "\n") * 2, "")
    assert palo.images == ["photo.jpg"]
    assert [asked["question"] for asked in palo.asked] == ["यह क्या है?", "क्यों?"]
    assert palo.is_closed


@pytest.mark.parametrize("code", CODES)
def test_a_piped_conversation_in_each_language(palo, code):
    question = LANGUAGES[code].default_question
    assert chat("photo.jpg", "--lang", code, text=question).stdout == ANSWERS[code] + "\n"
    assert palo.asked == [{"question": question, "lang": code}]


def test_each_answer_is_one_json_object():
    result = chat("photo.jpg", "--json", text="One?\n/lang ur\nTwo?\n")
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(answer["language"], answer["text"]) for answer in said] == [(None, ANSWERS["en"]), ("ur", ANSWERS["ur"])]


def test_windows_line_ends_and_a_byte_order_mark(palo):
    chat("photo.jpg", text="\ufeffOne?\r\nTwo?\r\n")
    assert [asked["question"] for asked in palo.asked] == ["One?", "Two?"]


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ('"""one\ntwo"""\nthree\n', ["one\ntwo", "three"]),
        ('"""\n  one\n\n  two\n"""\n', ["one\n\n  two"]),
        ('"""one"""\n', ["one"]),
        ('"""one\nnever closed', ["one\nnever closed"]),
        ('say """one"""\n', ['say """one"""']),
    ],
)
def test_triple_quotes_hold_several_lines(palo, text, questions):
    chat("photo.jpg", text=text)
    assert [asked["question"] for asked in palo.asked] == questions


def test_an_error_in_a_pipe_is_reported_and_the_rest_is_answered():
    result = chat("photo.jpg", text="One?\n/image missing.jpg\nTwo?\n/lang Klingon\n")
    assert result.exit_code == 1
    assert result.stdout == (ANSWERS["en"] + "\n") * 2
    assert [line.split(": ")[:3] for line in result.stderr.splitlines()] == [
        ["palo-cpp", "error", "missing.jpg"],
        ["palo-cpp", "error", "language"],
    ]


def test_ctrl_c_ends_a_pipe_with_130(palo):
    palo.pieces, palo.during = ["One. ", "Two. ", "Three."], interrupt(1)
    result = chat("photo.jpg", text="One?\nTwo?\n")
    assert (result.exit_code, result.stdout) == (130, "One. Two. \n")
    assert len(palo.asked) == 1


# --- by hand


@pytest.mark.parametrize("leave", ["/bye\n", "/exit\n", "/quit\n", ""])
@pytest.mark.usefixtures("typed")
def test_leaving(palo, leave):
    result = chat("photo.jpg", text=f"What?\n{leave}")
    assert (result.exit_code, result.stdout) == (0, ANSWERS["en"] + "\n")
    assert len(palo.asked) == 1
    assert "photo.jpg is open" in result.stderr and line_input.PROMPT in result.stderr


@pytest.mark.usefixtures("typed")
def test_enter_alone_describes_the_image_once(palo):
    chat("photo.jpg", "--lang", "ja", text="\n\n\n")
    assert palo.asked == [{"question": None, "lang": "ja"}]


@pytest.mark.usefixtures("typed")
def test_timings_are_shown_to_who_looks_unless_not_wanted():
    assert "answer 2.00 s for 24 tokens (12.0/s)" in chat("photo.jpg", text="What?\n").stderr
    assert "tokens" not in chat("photo.jpg", "--no-show-timings", text="What?\n").stderr


@pytest.mark.usefixtures("typed")
def test_another_image(palo):
    result = chat("photo.jpg", text="One?\n/image b.jpg\nTwo?\n/image\n/image missing.jpg\nThree?\n")
    assert result.exit_code == 0  # a person has seen the error
    assert palo.images == ["photo.jpg", "b.jpg"]
    assert [asked["question"] for asked in palo.asked] == ["One?", "Two?", "Three?"]
    assert "b.jpg is open" in result.stderr
    assert "usage: /image PATH" in result.stderr
    assert "error: missing.jpg: expected an image" in result.stderr


@pytest.mark.usefixtures("typed")
def test_no_image_at_first(palo):
    result = chat(text="/image b.jpg\nWhat?\n")
    assert "No image is open" in result.stderr
    assert palo.images == ["b.jpg"]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.usefixtures("typed")
def test_another_language(palo, code):
    result = chat("photo.jpg", text=f"What?\n/lang {LANGUAGES[code].own_name}\nWhat?\n/lang\n")
    assert result.stdout == f"{ANSWERS['en']}\n{ANSWERS[code]}\n"
    assert [asked["lang"] for asked in palo.asked] == [None, code]
    assert result.stderr.count(f"Answers come in {LANGUAGES[code]}.") == 2


@pytest.mark.usefixtures("typed")
def test_an_unknown_language_changes_nothing(palo):
    result = chat("photo.jpg", "--lang", "bn", text="/lang Klingon\nWhat?\n")
    assert "expected one of the ten, got 'Klingon'" in result.stderr
    assert palo.asked[0]["lang"] == "bn"


@pytest.mark.usefixtures("typed")
def test_clear_help_and_what_is_no_command(palo):
    result = chat("photo.jpg", text="/clear\n/help\n/frobnicate\n/lang\n")
    assert palo.n_cleared == 1 and palo.asked == []
    assert all(f"/{name}" in result.stderr for name in ("image", "lang", "clear", "help", "bye"))
    assert "/frobnicate is not a command" in result.stderr
    assert "Answers follow the question." in result.stderr


@pytest.mark.usefixtures("typed")
def test_ctrl_c_stops_the_answer_and_not_the_program(palo):
    palo.pieces, palo.during = ["One. ", "Two. ", "Three."], interrupt(1)
    result = chat("photo.jpg", text="One?\nTwo?\n")
    assert result.exit_code == 0
    assert result.stdout == "One. Two. \n" * 2
    assert result.stderr.count("(stopped)") == 2


@pytest.mark.usefixtures("typed")
def test_ctrl_c_before_the_first_word_stops_the_answer_too(palo):
    palo.during = interrupt(0)
    result = chat("photo.jpg", text="One?\n/bye\n")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "(stopped)" in result.stderr


@pytest.mark.usefixtures("typed")
def test_ctrl_c_at_the_prompt_says_how_to_leave(monkeypatch, palo):
    lines = iter([KeyboardInterrupt, "What?", None])

    def read(_self):
        line = next(lines)
        if line is KeyboardInterrupt:
            raise line
        return line

    monkeypatch.setattr(line_input.LineInput, "read", read)
    result = chat("photo.jpg", text="")
    assert result.exit_code == 0
    assert HOW_TO_LEAVE in result.stderr
    assert [asked["question"] for asked in palo.asked] == ["What?"]


def test_without_readline_lines_are_read_all_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "readline", None)  # as on Windows
    assert line_input._load_readline() is None
    monkeypatch.setattr(line_input, "is_terminal", lambda _: True)
    monkeypatch.setattr("builtins.input", lambda _prompt: "One?\ntwo?")
    with line_input.LineInput() as lines:
        assert lines.read() == "One?\ntwo?" and lines.edit("three") is None


@pytest.mark.skipif(sys.platform == "win32", reason="other environment variables there")
def test_history_goes_into_the_state_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert line_input.history_file() == tmp_path / "palo_cpp" / "history"


# --- in a real (pseudo) terminal


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind")


def test_a_conversation_in_a_terminal(tmp_path):
    with Terminal("photo.jpg", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until(">>> ")
        terminal.type("यह क्या है?\r")
        assert "यह क्या है?" in terminal.read_until(ANSWERS["en"])
        terminal.read_until(">>> ")
        terminal.type("/lang ja\r")
        terminal.read_until("日本語")
        terminal.type('"""これは\r')
        terminal.read_until("... ")
        terminal.type('何？"""\r')
        terminal.read_until(ANSWERS["ja"])
        terminal.read_until(">>> ")
        terminal.type("\x04")
        assert terminal.process.wait(20) == 0
    history = (tmp_path / "palo_cpp" / "history").read_text(encoding="utf-8")
    assert "यह क्या है?" in history and "/lang ja" in history
    assert (tmp_path / "palo_cpp" / "history").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("code", CODES)
def test_editing_deletes_characters_and_not_bytes(tmp_path, code):
    word = LANGUAGES[code].own_name
    with Terminal("photo.jpg", "--json", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until(">>> ")
        terminal.type(f"{word}\x7f{word}\r")
        terminal.read_until('"inputs"')
        terminal.read_until(">>> ")  # before the prompt, Ctrl-D means something else to the terminal
        terminal.type("\x04")
        assert terminal.process.wait(20) == 0
    lines = (tmp_path / "palo_cpp" / "history").read_text(encoding="utf-8").splitlines()
    # A vowel sign or a virama is a character of its own to readline, and may go with its consonant.
    assert lines[-1] in {word[:n] + word for n in range(len(word))}


def test_a_right_to_left_answer_stands_in_isolates(tmp_path):
    with Terminal("photo.jpg", "--lang", "ur", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until(">>> ")
        terminal.type("\r")
        terminal.read_until(f"\u2067{ANSWERS['ur']}\u2069")
        terminal.type("/bye\r")
        assert terminal.process.wait(20) == 0


def test_ctrl_c_in_a_terminal(tmp_path):
    with Terminal("photo.jpg", PAUSE_S="0.05", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until(">>> ")
        terminal.wait_for_reading()
        terminal.type("\x03")
        terminal.read_until(HOW_TO_LEAVE)
        terminal.read_until(">>> ")
        terminal.type("What?\r")
        terminal.read_until("A red")
        terminal.type("\x03")
        rest = terminal.read_until(">>> ")
        assert "(stopped)" in rest and "wide" not in rest
        terminal.type("/bye\r")
        assert terminal.process.wait(20) == 0


def test_a_history_that_cannot_be_written_is_no_failure(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with Terminal("photo.jpg", XDG_STATE_HOME=str(blocked)) as terminal:
        terminal.read_until(">>> ")
        terminal.type("/bye\r")
        assert terminal.process.wait(20) == 0
        assert not re.search("Traceback|Error", terminal.read_until("\0"))
