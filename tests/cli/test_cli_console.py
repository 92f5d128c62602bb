import io
import logging
import sys

import pytest

from palo_cpp.cli import console
from palo_cpp.cli.answering import direction_for
from palo_cpp.cli.console import AnswerWriter, Status, notice, warn
from palo_cpp.cli.downloading import DownloadBars
from palo_cpp.cli.log import shown_stages, shown_warnings
from palo_cpp.cli.progress import TensorProgress

RLI, PDI = "\u2067", "\u2069"


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch, name):
    """Put a terminal in a stream's place; in the test itself, for pytest puts its own there after the fixtures."""
    monkeypatch.setattr(sys, name, FakeTerminal())
    monkeypatch.setenv("TERM", "xterm")
    for variable in ("NO_COLOR", "VTE_VERSION", "MLTERM", "XTERM_VERSION", "ALACRITTY_WINDOW_ID"):
        monkeypatch.delenv(variable, raising=False)
    return getattr(sys, name)


def written(direction, *pieces):
    writer = AnswerWriter(direction)
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    return sys.stdout.getvalue()


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["سلام"], f"{RLI}سلام{PDI}\n"),
        (["سلا", "م"], f"{RLI}سلام{PDI}\n"),
        (["ایک\nدو"], f"{RLI}ایک{PDI}\n{RLI}دو{PDI}\n"),
        (["ایک\n", "\n", "دو"], f"{RLI}ایک{PDI}\n\n{RLI}دو{PDI}\n"),
        (["ایک", "\n"], f"{RLI}ایک{PDI}\n"),
        (["PALO 3 ہے"], f"{RLI}PALO 3 ہے{PDI}\n"),
        ([], ""),
        ([""], ""),
    ],
)
def test_right_to_left_lines_stand_in_isolates(monkeypatch, pieces, text):
    terminal(monkeypatch, "stdout")
    assert written("rtl", *pieces) == text


def test_left_to_right_lines_do_not(monkeypatch):
    terminal(monkeypatch, "stdout")
    assert written("ltr", "नमस्ते\n", "दुनिया") == "नमस्ते\nदुनिया\n"


def test_a_file_gets_the_text_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert written("rtl", "سلا", "م\x07") == "سلام\x07\n"


def test_an_answer_cannot_steer_the_terminal(monkeypatch):
    terminal(monkeypatch, "stdout")
    assert written("ltr", "\x1b]0;title\x07a\r\x9b2Jb\tc\x7f\n") == "]0;titlea2Jb\tc\n"


@pytest.mark.parametrize(
    ("language", "question", "direction"),
    [
        ("ur", None, "rtl"),
        ("ar", "What?", "rtl"),
        ("hi", "یہ کیا ہے؟", "ltr"),
        (None, "یہ کیا ہے؟", "rtl"),
        (None, "سلام", "rtl"),
        (None, "What?", "ltr"),
        (None, None, "ltr"),
        (None, "2 + 2", "ltr"),
    ],
)
def test_direction(language, question, direction):
    assert direction_for(language, question) == direction


def test_a_status_replaces_the_last_and_goes_away(monkeypatch):
    stderr = terminal(monkeypatch, "stderr")
    with Status() as status:
        status.show("one")
        status.show("two")
    assert stderr.getvalue() == "\r\x1b[2K\x1b[2mone …\x1b[0m\r\x1b[2K\x1b[2mtwo …\x1b[0m\r\x1b[2K"


def test_a_warning_does_not_run_on_behind_the_status(monkeypatch):
    stderr = terminal(monkeypatch, "stderr")
    with Status() as status:
        status.show("one")
        warn("two")
    assert stderr.getvalue() == "\r\x1b[2K\x1b[2mone …\x1b[0m\r\x1b[2Kpalo-cpp: warning: two\n"


def test_no_colour_where_none_is_wanted(monkeypatch):
    stderr = terminal(monkeypatch, "stderr")
    monkeypatch.setenv("NO_COLOR", "1")
    notice("one")
    assert stderr.getvalue() == "one\n"


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_no_status_where_nobody_looks(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    with Status() as status:
        status.show("one")
        notice("two")
    assert stream is None or stream.getvalue() == ""


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("PALO_CPP_PLAIN", "1")])
def test_no_status_and_no_marks_where_plain_text_is_wanted(monkeypatch, name, value):
    stderr = terminal(monkeypatch, "stderr")
    terminal(monkeypatch, "stdout")
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setenv(name, value)
    with Status() as status:
        status.show("one")
    notice("two")
    assert stderr.getvalue() == "two\n"
    assert written("rtl", "سلا", "م") == "سلام\n"


def test_a_closed_stream_is_no_terminal():
    stream = io.StringIO()
    stream.close()
    assert not console.is_terminal(stream)


def test_warnings_of_the_library_go_to_stderr_even_without_a_terminal(capsys):
    with shown_warnings(is_debugging=False):
        logging.getLogger("palo_cpp.palo").warning("only %d tokens left", 3)
        logging.getLogger("palo_cpp.palo").info("detail")
        logging.getLogger("palo_cpp.llama").warning("something about rope")
    logging.getLogger("palo_cpp.palo").debug("afterwards")
    assert capsys.readouterr() == ("", "palo-cpp: warning: only 3 tokens left\n")


def test_debugging_shows_everything(monkeypatch):
    stderr = terminal(monkeypatch, "stderr")
    with shown_warnings(is_debugging=True):
        logging.getLogger("palo_cpp.llama").debug("n_layer = 2")
        logging.getLogger("palo_cpp.llama").warning("something about rope")
    assert "palo_cpp.llama: n_layer = 2" in stderr.getvalue()
    assert "palo-cpp: warning: something about rope" in stderr.getvalue()


def test_stages_reach_the_status_line():
    stages = []
    with shown_warnings(is_debugging=False), shown_stages(stages.append):
        logging.getLogger("palo_cpp.chat.stages").info("encoding the image")
        logging.getLogger("palo_cpp.chat.stages").debug("detail")
    logging.getLogger("palo_cpp.chat.stages").info("afterwards")
    assert stages == ["encoding the image"]


def test_warn_is_one_line(capsys):
    warn("careful")
    assert capsys.readouterr().err == "palo-cpp: warning: careful\n"


@pytest.mark.parametrize("bars", [TensorProgress, DownloadBars])
def test_no_bars_where_plain_lines_are_asked_for(monkeypatch, bars):
    monkeypatch.setattr("palo_cpp.cli.progress.is_terminal", lambda _: True)
    monkeypatch.setattr("palo_cpp.cli.downloading.is_terminal", lambda _: True)
    with bars() as shown:
        assert shown._bar is not None
    monkeypatch.setenv("PALO_CPP_PLAIN", "1")
    with bars() as shown:
        assert shown._bar is None
