"""Lines that a user types or pipes in: editing, history, several lines between triple quotes."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import ModuleType

from palo_cpp.cli.console import is_terminal

PROMPT = ">>> "
CONTINUED_PROMPT = "... "
QUOTES = '"""'
HISTORY_LENGTH = 1000
# glibc and musl, glibc before 2.35 where it was installed, macOS.
UTF8_LOCALES = ("C.UTF-8", "en_US.UTF-8", "UTF-8")


class LineInput:
    """Reads questions and commands from stdin.

    Attributes:
        is_interactive: whether a person types; then there are prompts, and editing and history where stdout is a
            terminal too.
    """

    def __init__(self) -> None:
        self.is_interactive = is_terminal(sys.stdin)
        self._edits = self.is_interactive and is_terminal(sys.stdout)
        self._readline = _load_readline() if self._edits else None
        self._history = history_file()

    def __enter__(self) -> LineInput:
        if self._readline:
            with contextlib.suppress(OSError):  # no history yet, or it may not be read
                self._readline.read_history_file(self._history)
            self._readline.set_history_length(HISTORY_LENGTH)
        return self

    def __exit__(self, *_: object) -> None:
        if self._readline:
            with contextlib.suppress(OSError):  # a read-only home folder is no failure
                self._history.parent.mkdir(parents=True, exist_ok=True)
                self._readline.write_history_file(self._history)
                self._history.chmod(0o600)

    def read(self) -> str | None:
        """Read one line, or everything between two triple quotes.

        Returns:
            The text without surrounding white space; None at the end of the input.

        Raises:
            KeyboardInterrupt: Ctrl-C at the prompt.
        """
        line = self._line(PROMPT)
        if line is None or not line.lstrip().startswith(QUOTES):
            return None if line is None else line.strip()
        text = line.lstrip()[len(QUOTES) :]
        while not text.rstrip().endswith(QUOTES):
            more = self._line(CONTINUED_PROMPT)
            if more is None:
                return text.strip()
            text += "\n" + more
        return text.rstrip()[: -len(QUOTES)].strip()

    def edit(self, text: str) -> str | None:
        """Let the user change a text.

        Returns:
            The changed text, "" if the user gave up; None if nothing can be edited here.
        """
        readline = self._readline
        if readline is None:
            return None
        readline.set_startup_hook(lambda: readline.insert_text(" ".join(text.split())))
        try:
            return (self._line(PROMPT) or "").strip()
        except KeyboardInterrupt:
            return ""
        finally:
            readline.set_startup_hook()

    def _line(self, prompt: str) -> str | None:
        if self._edits:
            try:
                return input(prompt)
            except EOFError:
                print(file=sys.stderr)
                return None
        if self.is_interactive:
            print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        return line.removeprefix("\ufeff").rstrip("\r\n") if line else None


def history_file() -> Path:
    """Where the questions of earlier conversations are stored."""
    if sys.platform == "win32":
        state = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "palo_cpp" / "history"


def _load_readline() -> ModuleType | None:
    """Import readline, which lets `input` edit lines, and make it read bytes as UTF-8."""
    _set_utf8_locale()
    try:
        import readline
    except ImportError:  # Windows: the console edits lines by itself
        return None
    for setting in ("set input-meta on", "set output-meta on", "set convert-meta off"):
        readline.parse_and_bind(setting)
    return readline


def _set_utf8_locale() -> None:
    """Leave a locale such as C, in which readline would delete a byte of a character and not the character."""
    import locale

    if sys.platform == "win32" or locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8":
        return
    for name in UTF8_LOCALES:
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, name)
            os.environ["LC_ALL"] = name  # readline reads the environment, each time again
            return
