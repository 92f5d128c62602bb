"""`palo-cpp chat --session FILE`, /save and /load: what is kept when, and what is never lost."""

from __future__ import annotations

import json
import signal

import fake_palo
import pytest
from click.testing import CliRunner
from fake_palo import ANSWERS
from terminals import Terminal

from palo_cpp.cli import palo_cpp
from palo_cpp.languages.languages import LANGUAGES


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


def chat(*arguments, text):
    return CliRunner().invoke(palo_cpp, ["chat", *arguments], prog_name="palo-cpp", input=text)


def test_a_conversation_goes_on_where_it_was_left(palo, tmp_path):
    path = str(tmp_path / "a.palo")
    assert chat("photo.jpg", "--session", path, "--lang", "hi", text="One?\nTwo?\n").exit_code == 0
    # Text after each answer, keys and values when leaving.
    assert palo.saved == [("a.palo", False), ("a.palo", False), ("a.palo", True)]
    result = chat("--session", path, text="Three?\n")
    assert (result.exit_code, result.stdout) == (0, ANSWERS["hi"] + "\n")
    assert palo.loaded == [("a.palo", True)]
    assert palo.asked[-1] == {"question": "Three?", "lang": "hi"}
    assert chat("--session", path, "--lang", "ja", text="Four?\n").stdout == ANSWERS["ja"] + "\n"


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_language_is_kept(palo, tmp_path, code):
    path = str(tmp_path / f"{LANGUAGES[code].own_name}.palo")
    chat("photo.jpg", "--session", path, text=f"/lang {code}\nOne?\n")
    assert chat("--session", path, text="Two?\n").stdout == ANSWERS[code] + "\n"
    assert len(palo.loaded) == 1


def test_how_the_language_is_kept_is_kept(palo, tmp_path):
    path = str(tmp_path / "a.palo")
    chat("photo.jpg", "--session", path, "--lang", "ur", "--lang-mode", "strict", text="One?\n")
    chat("--session", path, text="Two?\n")
    assert palo.asked[-1] == {"question": "Two?", "lang": "ur", "lang_mode": "strict"}
    chat("--session", path, "--lang-mode", "off", text="")  # a change alone is worth keeping, too
    chat("--session", path, text="Three?\n")
    assert palo.asked[-1]["lang_mode"] == "off"


def test_nothing_said_nothing_written(palo, tmp_path):
    path = tmp_path / "a.palo"
    chat("photo.jpg", "--session", str(path), text="")
    assert not path.exists()
    chat("photo.jpg", "--session", str(path), text="One?\n")
    palo.saved.clear()
    chat("--session", str(path), text="")
    assert palo.saved == []


def test_without_keys_and_values(palo, tmp_path):
    chat("photo.jpg", "--session", str(tmp_path / "a.palo"), "--no-session-kv", text="One?\n")
    assert palo.saved == [("a.palo", False)]


def test_another_image_joins_and_the_same_one_does_not(palo, tmp_path):
    path = str(tmp_path / "a.palo")
    chat("photo.jpg", "--session", path, text="One?\n/add b.jpg\n")
    chat("b.jpg", "--session", path, text="Two?\n")
    chat("c.jpg", "--session", path, text="Three?\n")
    assert palo.images == ["photo.jpg", "b.jpg", "b.jpg", "c.jpg"]
    assert len(palo.loaded) == 2


def test_json_is_not_touched(tmp_path):
    path = str(tmp_path / "a.palo")
    chat("photo.jpg", "--session", path, text="One?\n")
    result = chat("--session", path, "--json", text="/save\nTwo?\n/load " + path)
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == [ANSWERS["en"]]


def test_ctrl_c_in_a_pipe_keeps_what_was_said(palo, tmp_path):
    palo.pieces, palo.during = ["One. ", "Two. "], lambda n: n == 1 and signal.raise_signal(signal.SIGINT)
    result = chat("photo.jpg", "--session", str(tmp_path / "a.palo"), text="One?\nTwo?\n")
    assert result.exit_code == 130
    assert palo.saved[-1] == ("a.palo", True)


def test_a_file_that_cannot_be_written_is_told_and_the_answers_come(palo, tmp_path):
    result = chat("photo.jpg", "--session", str(tmp_path / "full.palo"), text="One?\nTwo?\n")
    assert (result.exit_code, result.stdout) == (1, (ANSWERS["en"] + "\n") * 2)
    assert result.stderr.count("full.palo: cannot write (No space left on device)") == 1  # not after each answer
    assert palo.saved == []


def test_a_damaged_file_is_refused_and_stays(tmp_path):
    path = tmp_path / "a.palo"
    path.write_bytes(b"damaged")
    result = chat("photo.jpg", "--session", str(path), text="One?\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("palo-cpp: error: ") and len(result.stderr.splitlines()) == 1
    assert path.read_bytes() == b"damaged"


def test_save_and_load(palo, tmp_path):
    a, b = str(tmp_path / "a.palo"), str(tmp_path / "my b.palo")
    text = f"One?\n/save {a}\nTwo?\n/save '{b}'\n/load {a}\n/lang\nThree?\n"
    assert chat("photo.jpg", "--lang", "ur", text=text).exit_code == 0
    assert palo.saved == [("a.palo", True), ("my b.palo", True)]
    assert palo.loaded == [("a.palo", True)]
    assert [asked["lang"] for asked in palo.asked] == ["ur"] * 3


def test_load_keeps_the_file_that_is_open_now(palo, tmp_path):
    a, b = str(tmp_path / "a.palo"), str(tmp_path / "b.palo")
    chat("photo.jpg", "--session", a, text="One?\n")
    palo.saved.clear()
    chat("photo.jpg", "--session", b, text=f"Other?\n/load {a}\nTwo?\n")
    assert palo.saved == [("b.palo", False), ("b.palo", True), ("a.palo", False), ("a.palo", True)]


def test_load_that_fails_leaves_the_conversation(palo, tmp_path):
    path = str(tmp_path / "a.palo")
    result = chat("photo.jpg", "--session", path, text=f"One?\n/load {tmp_path / 'none.palo'}\n/load\nTwo?\n")
    assert result.exit_code == 1 and len(palo.asked) == 2
    assert "none.palo: expected a session file" in result.stderr
    assert palo.saved[-1] == ("a.palo", True)


def test_in_a_terminal(tmp_path):
    path = tmp_path / "चित्र.palo"
    with Terminal("photo.jpg", "--session", str(path), "--lang", "hi", XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until(">>> ")
        terminal.type("यह क्या है?\r")
        terminal.read_until(ANSWERS["hi"])
        terminal.read_until(">>> ")
        terminal.type("/save\r")
        terminal.read_until("चित्र.palo holds the conversation; questions: 1")
        terminal.read_until(">>> ")
        terminal.type("\x04")
        assert terminal.process.wait(20) == 0
    with Terminal("--session", str(path), XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until("चित्र.palo continues; questions so far: 1.")
        terminal.read_until(">>> ")
        terminal.type("और?\r")
        terminal.read_until(ANSWERS["hi"])
        terminal.read_until(">>> ")
        terminal.type("/bye\r")
        assert terminal.process.wait(20) == 0
