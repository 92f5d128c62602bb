"""Lines that a user types or pipes in: editing, history, Tab, several lines pasted or between triple quotes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from palo_cpp.cli.console import is_terminal
from palo_cpp.cli.plain import is_plain

PROMPT, CONTINUED_PROMPT = ">>> ", "... "
PLAIN_PROMPT, PLAIN_CONTINUED_PROMPT = "Question: ", "More: "  # a screen reader says what each sign is called
QUOTES = '"""'
HISTORY_LENGTH = 1000
# glibc and musl, glibc before 2.35 where it was installed, macOS.
UTF8_LOCALES = ("C.UTF-8", "en_US.UTF-8", "UTF-8")
# Text in UTF-8; and a pasted text as one input, whatever lines and tabs are in it, which Python switches off.
_SETTINGS = ("set input-meta on", "set output-meta on", "set convert-meta off", "set enable-bracketed-paste on")


class LineInput:
    """Reads questions and commands from stdin.

    Args:
        is_command: whether a line is a command; lines that are pasted at once are one question, unless one of them is.
        complete: where the word before the cursor begins, and what may replace it, given the line up to the cursor.

    Attributes:
        is_interactive: whether a person types; then there are prompts, and editing and history where stdout is a
            terminal too.
        number: of the line on which the text that was read last begins, from 1.
    """

    def __init__(
        self,
        is_command: Callable[[str], bool] = lambda _: False,
        complete: Callable[[str], tuple[int, list[str]]] = lambda before: (len(before), []),
    ) -> None:
        self.is_interactive = is_terminal(sys.stdin)
        self.number = 0
        self._n_lines = 0
        self._is_command = is_command
        self._complete = complete
        self._pasted: deque[str] = deque()
        self._prompt, self._continued_prompt = (
            (PLAIN_PROMPT, PLAIN_CONTINUED_PROMPT) if is_plain() else (PROMPT, CONTINUED_PROMPT)
        )
        self._edits = self.is_interactive and is_terminal(sys.stdout)
        self._readline = _load_readline() if self._edits else None
        self._history = history_file()

    def __enter__(self) -> LineInput:
        if self._readline:
            with contextlib.suppress(OSError):  # no history yet, or it may not be read
                self._readline.read_history_file(self._history)
            self._readline.set_history_length(HISTORY_LENGTH)
            self._readline.set_completer(_Completer(self._readline, self._complete))
        return self

    def __exit__(self, *_: object) -> None:
        if self._readline:
            with contextlib.suppress(OSError):  # a read-only home folder is no failure
                self._history.parent.mkdir(parents=True, exist_ok=True)
                self._readline.write_history_file(self._history)
                self._history.chmod(0o600)

    def read(self) -> str | None:
        """Read one line, what was pasted at once, or everything between two triple quotes.

        Returns:
            The text without surrounding white space; None at the end of the input.

        Raises:
            KeyboardInterrupt: Ctrl-C at the prompt.
        """
        line = self._pasted.popleft() if self._pasted else self._line(self._prompt)
        self.number = self._n_lines
        if line is None:
            return None
        if not line.lstrip().startswith(QUOTES):
            lines = line.split("\n")
            if not any(map(self._is_command, lines)):
                return line.strip()
            self._pasted.extend(lines[1:])
            return lines[0].strip()
        text = line.lstrip()[len(QUOTES) :]
        while not text.rstrip().endswith(QUOTES):
            more = self._line(self._continued_prompt)
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
            return (self._line(self._prompt) or "").strip()
        except KeyboardInterrupt:
            return ""
        finally:
            readline.set_startup_hook()

    def _line(self, prompt: str) -> str | None:
        if self._edits:
            try:
                return self._as_one_entry(input(prompt))
            except EOFError:
                print(file=sys.stderr)
                return None
        if self.is_interactive:
            print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        self._n_lines += bool(line)
        return line.removeprefix("\ufeff").rstrip("\r\n") if line else None

    def _as_one_entry(self, line: str) -> str:
        """Keep pasted lines together in the history, whose file has an entry a line."""
        readline = self._readline
        if readline and "\n" in line and (n_entries := readline.get_current_history_length()):
            readline.replace_history_item(n_entries - 1, " ".join(line.split()))
        return line


class _Completer:
    """Completes for readline, which asks for one text after the other, from the last white space on."""

    def __init__(self, readline: ModuleType, complete: Callable[[str], tuple[int, list[str]]]) -> None:
        self._readline = readline
        self._complete = complete
        self._texts: list[str] = []

    def __call__(self, _word: str, state: int) -> str | None:
        if state == 0:
            before = self._readline.get_line_buffer()[: self._readline.get_endidx()]
            start, texts = self._complete(before)
            self._texts = [(before[:start] + text)[self._readline.get_begidx() :] for text in texts]
        return self._texts[state] if state < len(self._texts) else None


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
    tab = "bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete"
    for setting in (*_SETTINGS, tab):
        readline.parse_and_bind(setting)
    readline.set_completer_delims(" \t\n")
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
