"""Right-to-left text on terminals: some order it themselves, some show characters as they come.

Observed, with Arabic and Urdu text that contains Latin names and digits:

- VTE (GNOME Terminal and its kin, 0.70): orders, but takes each line for left-to-right and knows no isolates; with the
  direction of the paragraph set (SCP), the order is right, and text is aligned to the right.
- mlterm 3.9: orders and finds the direction itself; isolates show as boxes and mislead it.
- xterm 379: does not order, nor join letters. Text ordered and joined here reads well.
- tmux 3.3: passes everything on but an isolate that opens a line; it does not report what the outer terminal is.

For an unknown terminal, the Unicode standard's isolates go around each line: a terminal that supports them is right,
and one that ignores them shows what it would show without.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Literal

from palo_cpp.cli.plain import is_plain

BidiChoice = Literal["auto", "visual", "off"]

# The first version with paragraph directions, 0.58.
_VTE_WITH_DIRECTIONS = 5800
# Where one of these is set, the other variables may be inherited from another terminal.
_MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")
_OTHERS = ("KONSOLE_VERSION", "KITTY_WINDOW_ID", "TERM_PROGRAM", "WT_SESSION", "INSIDE_EMACS")
# Terminals without bidi, by what they set; all from their documentation but xterm, which was observed.
_UNORDERED_VARIABLES = ("XTERM_VERSION", "ALACRITTY_WINDOW_ID")
_UNORDERED_TERMS = ("alacritty", "foot", "st-", "linux")


class Bidi(enum.Enum):
    """How right-to-left text is written."""

    PLAIN = enum.auto()  # as it is
    ISOLATES = enum.auto()  # each line in a right-to-left isolate (UAX #9)
    DIRECTION = enum.auto()  # with the paragraph's direction set (ECMA-48 SCP)
    VISUAL = enum.auto()  # ordered and joined here


def terminal_bidi(choice: BidiChoice, environ: Mapping[str, str] = os.environ) -> Bidi:
    """What this terminal needs.

    Args:
        choice: "auto" goes by the variables that the terminal sets, and orders text only if the terminal certainly does
            not: ordered twice, text is backwards again. "visual" always orders it, "off" never changes it.
        environ: the environment.
    """
    if choice != "auto":
        return Bidi.VISUAL if choice == "visual" else Bidi.PLAIN
    if is_plain(environ):
        return Bidi.PLAIN
    term = environ.get("TERM", "")
    if any(map(environ.get, _MULTIPLEXERS)) or term.startswith(("tmux", "screen")):
        return Bidi.ISOLATES
    if _number(environ.get("VTE_VERSION", "")) >= _VTE_WITH_DIRECTIONS:
        return Bidi.DIRECTION
    if environ.get("MLTERM"):
        return Bidi.PLAIN
    if any(map(environ.get, _OTHERS)):
        return Bidi.ISOLATES
    is_unordered = any(map(environ.get, _UNORDERED_VARIABLES)) or term.startswith(_UNORDERED_TERMS)
    return Bidi.VISUAL if is_unordered else Bidi.ISOLATES


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
