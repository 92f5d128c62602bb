"""Right-to-left text on terminals, which differ: some order it themselves, some show characters as they come.

What was seen, with Arabic and Urdu that have Latin names and digits in them:

- VTE (GNOME Terminal and its kin, 0.70): orders, but takes each line for left-to-right and knows no isolates; told the
  direction of a paragraph (SCP), it is right, and aligned to the right.
- mlterm 3.9: orders and finds the direction itself; isolates show as boxes and lead it astray.
- xterm 379: does not order, nor join letters. Text ordered and joined here reads well.
- tmux 3.3: hands everything on as it is, less an isolate that opens a line; neither knows nor says what is outside.

Where the terminal is not known, the Unicode standard's isolates go around each line: who heeds them is right, who does
not has lost nothing.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Literal

BidiChoice = Literal["auto", "visual", "off"]

# The first version with paragraph directions, 0.58.
_VTE_WITH_DIRECTIONS = 5800
# Set inside of these, what else is set was inherited, perhaps from another terminal.
_MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")
_OTHERS = ("KONSOLE_VERSION", "KITTY_WINDOW_ID", "TERM_PROGRAM", "WT_SESSION", "INSIDE_EMACS")
# Terminals without bidi, by what they set; known from their documentation but for xterm, which was looked at.
_UNORDERED_VARIABLES = ("XTERM_VERSION", "ALACRITTY_WINDOW_ID")
_UNORDERED_TERMS = ("alacritty", "foot", "st-", "linux")


class Bidi(enum.Enum):
    """What is done with right-to-left text."""

    PLAIN = enum.auto()  # as it is
    ISOLATES = enum.auto()  # each line in a right-to-left isolate (UAX #9)
    DIRECTION = enum.auto()  # the terminal is told the paragraph's direction (ECMA-48 SCP)
    VISUAL = enum.auto()  # ordered and joined here


def terminal_bidi(choice: BidiChoice, environ: Mapping[str, str] = os.environ) -> Bidi:
    """What this terminal needs.

    Args:
        choice: "auto" goes by what the terminal says of itself, and orders text only where it surely does not do so
            itself: ordered twice, text is backwards again. "visual" orders it in any case, "off" leaves it alone.
        environ: the environment.
    """
    if choice != "auto":
        return Bidi.VISUAL if choice == "visual" else Bidi.PLAIN
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
