"""Right-to-left answers on terminals that order text, on those that do not, and in files."""

from __future__ import annotations

import io
import re
import sys

import pytest
from fake_palo import ANSWERS
from rich.cells import cell_len

from palo_cpp.cli.bidi import Bidi, terminal_bidi
from palo_cpp.cli.console import AnswerWriter
from palo_cpp.cli.visual_order import VisualRows, to_right, visual, wrapped
from palo_cpp.languages.languages import LANGUAGES

RTL = [code for code, language in LANGUAGES.items() if language.direction == "rtl"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch, **says):
    """Put a terminal of 40 columns in place of stdout; within the test, for pytest puts its own after the fixtures."""
    for name in ("TMUX", "STY", "ZELLIJ", "VTE_VERSION", "MLTERM", "XTERM_VERSION", "TERM_PROGRAM", "KONSOLE_VERSION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "40", **says}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal())


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Bidi.ISOLATES),
        ({"TERM": "xterm-256color"}, Bidi.ISOLATES),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7006"}, Bidi.DIRECTION),
        ({"TERM": "xterm", "VTE_VERSION": "5202"}, Bidi.ISOLATES),
        ({"VTE_VERSION": "new"}, Bidi.ISOLATES),
        ({"TERM": "mlterm", "MLTERM": "3.9.0"}, Bidi.PLAIN),
        ({"TERM": "xterm", "XTERM_VERSION": "XTerm(379)"}, Bidi.VISUAL),
        ({"TERM": "alacritty"}, Bidi.VISUAL),
        ({"TERM": "foot-extra"}, Bidi.VISUAL),
        ({"TERM": "linux"}, Bidi.VISUAL),
        ({"TERM": "dumb"}, Bidi.PLAIN),
        ({"TERM": "xterm", "XTERM_VERSION": "XTerm(379)", "PALO_CPP_PLAIN": "1"}, Bidi.PLAIN),
        # Started from within an xterm, whose variable they inherited; ordered twice, text would be backwards.
        ({"XTERM_VERSION": "XTerm(379)", "VTE_VERSION": "7006"}, Bidi.DIRECTION),
        ({"XTERM_VERSION": "XTerm(379)", "MLTERM": "3.9.0"}, Bidi.PLAIN),
        ({"XTERM_VERSION": "XTerm(379)", "KONSOLE_VERSION": "220400"}, Bidi.ISOLATES),
        ({"XTERM_VERSION": "XTerm(379)", "TERM_PROGRAM": "Apple_Terminal"}, Bidi.ISOLATES),
        ({"XTERM_VERSION": "XTerm(379)", "TMUX": "/tmp/tmux-0/default,1,0"}, Bidi.ISOLATES),
        ({"VTE_VERSION": "7006", "TERM": "screen.xterm"}, Bidi.ISOLATES),
    ],
)
def test_each_terminal_gets_what_it_needs(environ, expected):
    assert terminal_bidi("auto", environ) is expected
    assert terminal_bidi("visual", environ) is Bidi.VISUAL
    assert terminal_bidi("off", environ) is Bidi.PLAIN


# ---- order and shapes


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("PALO 3", "PALO 3"),
        ("سم 3", "3 \ufee2\ufeb3"),
        ("(PALO) سم.", ".\ufee2\ufeb3 (PALO)"),
        ("سم PALO 3.5 سم", "\ufee2\ufeb3 PALO 3.5 \ufee2\ufeb3"),
        ("ہے، PALO 3۔", "\u06d4PALO 3 \u060c\ufbaf\ufba8"),
        ("قَلْب", "\ufe90\ufee0\u0652\ufed7\u064e"),  # a vowel sign comes behind its letter's cell
        ("ٹ ڈ ڑ ں گ چ پ ک ی", "\ufbfc \ufb8e \ufb56 \ufb7a \ufb92 \ufb9e \ufb8c \ufb88 \ufb66"),
        ("", ""),
    ],
)
def test_text_as_it_is_to_be_seen(text, seen):
    assert visual(text) == seen


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("width", [1, 2, 7, 11, 200])
def test_rows_fit_and_hold_every_word(code, width):
    text = f"{ANSWERS[code]} {ANSWERS[code]}"
    rows = wrapped(text, width)
    assert "".join("".join(rows).split()) == "".join(text.split())
    assert all(cell_len(row) <= max(width, 2) for row in rows)
    if width == 200:
        assert rows == [text]


def test_rows_break_between_words():
    assert wrapped("ایک سرخ دائرہ  ہے ", 8) == ["ایک سرخ", "دائرہ", "ہے "]
    assert wrapped("", 5) == [""]


# ---- an answer as it comes


def written(answer, choice="auto", pieces=None):
    writer = AnswerWriter("rtl", choice)
    for piece in pieces or answer:
        writer.write(piece)
    writer.finish()
    return sys.stdout.getvalue()


def screen(written):
    """What stands in the rows of a terminal that shows characters as they come."""
    return [row.rpartition("\r")[2] for row in written.split("\n")[:-1]]


@pytest.mark.parametrize("code", RTL)
def test_without_bidi_the_rows_grow_to_the_left(monkeypatch, code):
    terminal(monkeypatch, XTERM_VERSION="XTerm(379)")
    answer = f"{ANSWERS[code]}\n\n{ANSWERS[code]} {ANSWERS[code]}"
    rows = screen(written(answer))
    expected = [*wrapped(ANSWERS[code], 39), "", *wrapped(f"{ANSWERS[code]} {ANSWERS[code]}", 39)]
    assert len(expected) == 4
    assert rows == [to_right(row, 39) if row else "" for row in expected]
    assert all(cell_len(row) in (0, 39) for row in rows)


def test_each_piece_of_a_row_is_drawn_over_the_last(monkeypatch):
    terminal(monkeypatch)
    said = written(None, "visual", ["سم", " 3"])
    assert said == f"\r{' ' * 37}\ufee2\ufeb3\r{' ' * 35}3 \ufee2\ufeb3\n"


def test_a_terminal_that_can_is_told_the_direction(monkeypatch):
    terminal(monkeypatch, VTE_VERSION="7006")
    assert written("سم\n3\n") == "\x1b[2 kسم\n\x1b[0 k\x1b[2 k3\n\x1b[0 k"


def test_the_direction_ends_where_the_answer_is_cut(monkeypatch):
    terminal(monkeypatch, VTE_VERSION="7006")
    assert written("سم") == "\x1b[2 kسم\n\x1b[0 k"


def test_isolates_where_nothing_is_known_and_nothing_when_off(monkeypatch):
    terminal(monkeypatch)
    assert written("سم") == "\u2067سم\u2069\n"
    terminal(monkeypatch)
    assert written("سم", "off") == "سم\n"


@pytest.mark.parametrize("choice", ["auto", "visual", "off"])
def test_files_and_pipes_get_the_text(monkeypatch, choice):
    monkeypatch.setenv("VTE_VERSION", "7006")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert written(ANSWERS["ur"], choice) == ANSWERS["ur"] + "\n"


def test_left_to_right_answers_are_never_touched(monkeypatch):
    terminal(monkeypatch)
    writer = AnswerWriter("ltr", "visual")
    writer.write("PALO سم")
    writer.finish()
    assert sys.stdout.getvalue() == "PALO سم\n"


def test_an_answer_cannot_steer_the_terminal(monkeypatch):
    terminal(monkeypatch)
    assert re.sub("[\r\n ]", "", written("\x1b[2Jسم", "visual", ["\x1b[2J", "\x9b"])) == "2J]"  # the bracket, mirrored


def test_a_tiny_terminal_is_no_error():
    assert VisualRows(0).push("سلام")
