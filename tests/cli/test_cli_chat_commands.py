"""The commands of `palo-cpp chat`: undo, edit, several images, the context; and that both help texts tell of all."""

from __future__ import annotations

import sys

import fake_palo
import pytest
from click.testing import CliRunner
from fake_palo import ANSWERS

from palo_cpp.cli import palo_cpp
from palo_cpp.cli.chat_commands import COMMANDS, commands_help
from palo_cpp.languages.languages import LANGUAGES


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


def chat(*arguments, text):
    return CliRunner().invoke(palo_cpp, ["chat", *arguments], prog_name="palo-cpp", input=text)


def questions(palo):
    return [asked["question"] for asked in palo.asked]


@pytest.mark.usefixtures("typed")
def test_both_help_texts_come_from_the_table():
    told = chat("photo.jpg", text="/help\n").stderr
    manual = CliRunner().invoke(palo_cpp, ["chat", "--help"], prog_name="palo-cpp").stdout
    for command in COMMANDS:
        (line,) = [line for line in commands_help().splitlines() if line.startswith(f"{command.name} ")]
        assert line.endswith(f"   {command.summary}") and len(line) < 90
        assert line in told
        assert f"  {line}\n" in manual
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.usefixtures("typed")
def test_help_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = chat("photo.jpg", text="/help\n").stderr.partition("/image PATH")[2].splitlines()
    assert all(len(line) <= 40 for line in lines[:-1])
    assert "/context" in lines and "  show how many more words fit before" in lines


@pytest.mark.usefixtures("typed")
def test_every_command_that_wants_an_argument_says_so():
    for command in ("/image", "/add"):
        assert f"usage: {command} PATH" in chat("photo.jpg", text=f"{command}\n").stderr


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.usefixtures("typed")
def test_undo(palo, sentences, code):
    question = sentences[code].replace("\n", " ")
    result = chat("photo.jpg", text=f"One?\n{question}\n/undo\nThree?\n/undo\n/undo\n/undo\n")
    assert questions(palo) == ["One?", question, "Three?"]
    assert f"Taken back: {question}\n" in result.stderr
    assert result.stderr.count("Taken back") == 3 and "nothing to take back" in result.stderr


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.usefixtures("typed")
def test_edit_with_the_new_question(palo, sentences, code):
    question = sentences[code].replace("\n", " ")
    chat("photo.jpg", text=f"One?\n/edit {question}\n")
    assert palo.asked[1] == {"question": question, "lang": None, "instead": True}


@pytest.mark.usefixtures("typed")
def test_edit_where_nothing_can_be_edited(palo):
    result = chat("photo.jpg", text="/edit Two?\nOne?\n/edit\n")
    assert "no question to edit yet" in result.stderr
    assert "usage: /edit QUESTION" in result.stderr  # stdout is no terminal: no line to edit
    assert questions(palo) == ["One?"]


def test_commands_in_a_pipe_ask_too(palo):
    result = chat("photo.jpg", "--lang", "ur", text="One?\n/edit Two?\n/undo\n/bye\nThree?\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{ANSWERS['ur']}\n" * 2, "")
    assert questions(palo) == ["One?", "Two?"]
    assert palo.n_prepared == 0  # the questions are there at once


@pytest.mark.usefixtures("typed")
def test_one_more_image(palo):
    result = chat("photo.jpg", text="What?\n/add b.jpg\n\n/add missing.jpg\n/image c.jpg\n\n\n")
    assert palo.images == ["photo.jpg", "b.jpg", "c.jpg"]
    assert questions(palo) == ["What?", None, None]  # Enter alone describes what is new
    assert "b.jpg is open; the next question shows it too." in result.stderr
    assert "error: missing.jpg: expected an image" in result.stderr


@pytest.mark.usefixtures("typed")
def test_the_model_reads_ahead_before_each_line(palo):
    chat("photo.jpg", text="One?\n/add b.jpg\nTwo?\n")
    assert palo.n_prepared == 4


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.usefixtures("typed")
def test_context_is_told_in_words_of_the_language(code):
    name = LANGUAGES[code].english_name
    result = chat("photo.jpg", "--lang", code, text="One?\n/context\n")
    assert f"Room for about 300 words of {name} (100 of 2048 tokens are taken).\n" in result.stderr


@pytest.mark.usefixtures("typed")
def test_context_without_a_language_follows_the_question(sentences):
    result = chat("photo.jpg", text=f"/context\n{sentences['hi']}\n/context\n")
    assert "words of English (0 of" in result.stderr and "words of Hindi" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind")
@pytest.mark.parametrize("code", ["hi", "ur", "ja"])
def test_edit_puts_the_last_question_into_the_line(tmp_path, sentences, code):
    from terminals import Terminal

    with Terminal("photo.jpg", "--json", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until(">>> ")
        terminal.type(f"{sentences[code]}\r")
        terminal.read_until('"inputs"')
        terminal.read_until(">>> ")
        terminal.type("/edit\r")
        terminal.read_until(">>> ")
        assert sentences[code] in terminal.read_until(sentences[code])
        terminal.type(" ✓\r")
        terminal.read_until('"inputs"')
        terminal.read_until(">>> ")
        terminal.type("/undo\r")
        assert "Taken back" in terminal.read_until(f"{sentences[code]} ✓\r\n")
        terminal.read_until(">>> ")
        terminal.type("\x04")
        assert terminal.process.wait(20) == 0
