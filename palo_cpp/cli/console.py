"""What reaches the terminal: UTF-8 everywhere, answers on stdout, everything about them on stderr."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from types import TracebackType

RIGHT_TO_LEFT_ISOLATE = "\u2067"
POP_ISOLATE = "\u2069"
_ERASE_LINE = "\r\x1b[2K"
_CONTROLS = {point: None for point in (*range(0x20), *range(0x7F, 0xA0)) if chr(point) not in "\n\t"}


def use_utf8() -> None:
    """Make stdin, stdout and stderr speak UTF-8, whatever the locale or the code page of a Windows console says."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


def is_terminal(stream: object) -> bool:
    """Say whether a stream is a terminal; a missing or closed one is not."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]  # sys.stdin and its kin may be None or a stand-in
    except (AttributeError, ValueError):
        return False


def warn(text: str) -> None:
    """Say on stderr, always, what the user should know."""
    print(f"palo-cpp: warning: {text}", file=sys.stderr, flush=True)


def notice(text: str) -> None:
    """Say something about the work on stderr, to somebody who looks."""
    if is_terminal(sys.stderr):
        print(_dim(text), file=sys.stderr, flush=True)


def _dim(text: str) -> str:
    return text if os.environ.get("NO_COLOR") or _is_dumb() else f"\x1b[2m{text}\x1b[0m"


def _is_dumb() -> bool:
    return os.environ.get("TERM") == "dumb"


class Status:
    """One line on stderr that says what is going on and goes away; silent unless stderr is a terminal."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, text: str) -> None:
        """Replace the line."""
        if is_terminal(sys.stderr) and not _is_dumb():
            sys.stderr.write(f"{_ERASE_LINE}{_dim(text + ' …')}")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write(_ERASE_LINE)
            sys.stderr.flush()
            self._shown = False

    def __enter__(self) -> Status:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.clear()


class AnswerWriter:
    """Writes an answer to stdout as it comes.

    On a terminal, each line of a right-to-left answer is put into a right-to-left isolate (UAX #9), so that numbers,
    Latin words and punctuation stand where a reader of that language expects them; and control characters, which
    could move the cursor or worse, are left out. Files and pipes get the text as it is.

    Args:
        direction: "ltr" or "rtl".
    """

    def __init__(self, direction: str = "ltr") -> None:
        self._is_terminal = is_terminal(sys.stdout)
        self._isolates = self._is_terminal and direction == "rtl"
        self._line_is_open = False

    def write(self, text: str) -> None:
        """Write a piece of the answer at once."""
        if self._is_terminal:
            text = text.translate(_CONTROLS)
        sys.stdout.write("".join(self._lines(text)))
        sys.stdout.flush()

    def finish(self) -> None:
        """End the line that the answer ended on."""
        if self._line_is_open:
            self.write("\n")

    def _lines(self, text: str) -> Iterator[str]:
        opening, closing = (RIGHT_TO_LEFT_ISOLATE, POP_ISOLATE) if self._isolates else ("", "")
        for n, line in enumerate(text.split("\n")):
            if n:
                yield (closing if self._line_is_open else "") + "\n"
                self._line_is_open = False
            if line:
                yield line if self._line_is_open else opening + line
                self._line_is_open = True
