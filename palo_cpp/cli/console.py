"""What reaches the terminal: UTF-8 everywhere, answers on stdout, everything about them on stderr."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from palo_cpp.cli.bidi import Bidi, BidiChoice, terminal_bidi
from palo_cpp.cli.plain import is_plain

if TYPE_CHECKING:
    from palo_cpp.cli.visual_order import VisualRows

RIGHT_TO_LEFT_ISOLATE = "\u2067"
POP_ISOLATE = "\u2069"
_ERASE_LINE = "\r\x1b[2K"
_CONTROLS = {point: None for point in (*range(0x20), *range(0x7F, 0xA0)) if chr(point) not in "\n\t"}


class OutputError(OSError):
    """Stdout could not be written. The OSError of a write does not say which file it was about."""


class _Stdout(io.TextIOWrapper):
    """Stdout whose failures are known as such."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error


def give_up_stdout() -> None:
    """Lead away what is left in the buffers of stdout: Python writes it when the process ends, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def own_streams() -> None:
    """Let failures of stdout be known as such, and give this process the streams that it was started without.

    Where the caller closed one (`>&-`), the next file to be opened would get its number, and with it whatever a library
    prints.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:  # opened for reading, so that writing fails
        sys.stdout = _Stdout(os.fdopen(os.open(os.devnull, os.O_RDONLY), "wb"))
    elif isinstance(sys.stdout, io.TextIOWrapper):
        before = sys.stdout
        sys.stdout = _Stdout(before.buffer, line_buffering=before.line_buffering, write_through=before.write_through)
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


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
    Status.clear_shown()
    print(f"palo-cpp: warning: {text}", file=sys.stderr, flush=True)


def notice(text: str) -> None:
    """Say something about the work on stderr, to somebody who looks."""
    if is_terminal(sys.stderr):
        print(_dim(text), file=sys.stderr, flush=True)


def _dim(text: str) -> str:
    return text if os.environ.get("NO_COLOR") or is_plain() else f"\x1b[2m{text}\x1b[0m"


class Status:
    """One line on stderr that says what is going on and goes away; silent unless stderr is a terminal."""

    _on_screen: ClassVar[Status | None] = None

    def __init__(self) -> None:
        self._shown = False

    @classmethod
    def clear_shown(cls) -> None:
        """Remove whichever line is there, for something that stays."""
        if cls._on_screen is not None:
            cls._on_screen.clear()

    def show(self, text: str) -> None:
        """Replace the line."""
        if is_terminal(sys.stderr) and not is_plain():
            sys.stderr.write(f"{_ERASE_LINE}{_dim(text + ' …')}")
            sys.stderr.flush()
            self._shown = True
            Status._on_screen = self

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

    On a terminal, right-to-left text is made to read as its readers expect, numbers and Latin words in it included: by
    the terminal where it can, by us where it cannot (see `bidi`). Control characters, which could move the cursor or
    worse, are left out there. Files and pipes get the text as it is.

    Args:
        direction: "ltr" or "rtl".
        choice: what `--bidi` says.
    """

    def __init__(self, direction: str = "ltr", choice: BidiChoice = "auto") -> None:
        self._is_terminal = is_terminal(sys.stdout)
        is_rtl = self._is_terminal and direction == "rtl"
        bidi = terminal_bidi(choice) if is_rtl else Bidi.PLAIN
        self._frame = _FRAMES.get(bidi, _Frame())
        self._rows = _visual_rows() if bidi is Bidi.VISUAL else None
        self._line_is_open = False

    def write(self, text: str) -> None:
        """Write a piece of the answer at once."""
        if self._is_terminal:
            text = printable(text)
        sys.stdout.write("".join(self._lines(text)))
        sys.stdout.flush()

    def finish(self) -> None:
        """End the line that the answer ended on."""
        if self._line_is_open:
            self.write("\n")

    def _lines(self, text: str) -> Iterator[str]:
        for n, line in enumerate(text.split("\n")):
            if n:
                yield self._end() if self._line_is_open else "\n"
                self._line_is_open = False
            if line:
                opening = "" if self._line_is_open else self._frame.opening
                yield self._rows.push(line) if self._rows else opening + line
                self._line_is_open = True

    def _end(self) -> str:
        return self._rows.end() if self._rows else f"{self._frame.closing}\n{self._frame.afterwards}"


@dataclass(frozen=True)
class _Frame:
    """What goes around a line: before it, before its newline, after its newline."""

    opening: str = ""
    closing: str = ""
    afterwards: str = ""


_FRAMES = {
    Bidi.ISOLATES: _Frame(RIGHT_TO_LEFT_ISOLATE, POP_ISOLATE),
    # Select Character Path (ECMA-48 8.3.111): right to left, and the default again once the line has ended.
    Bidi.DIRECTION: _Frame("\x1b[2 k", afterwards="\x1b[0 k"),
}


def _visual_rows() -> VisualRows:
    from palo_cpp.cli.visual_order import VisualRows

    return VisualRows(terminal_width() - 1)


def printable(text: str) -> str:
    """Text without the characters that could do something to a terminal."""
    return text.translate(_CONTROLS)


def terminal_width() -> int:
    """Cells of a row."""
    return shutil.get_terminal_size().columns
