"""Right-to-left text for terminals that show characters as they come: ordered and joined here, row by row."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from arabic_reshaper import ArabicReshaper  # type: ignore[import-untyped]  # neither package has types
from bidi.algorithm import get_display  # type: ignore[import-untyped]  # its native twin leaves brackets unmirrored
from rich.cells import cell_len

# Vowel signs, which are drawn on the letter before them; on a terminal that letter's cell has to come first, too.
_MARKS = re.compile("([\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]+)(.)")


def visual(text: str) -> str:
    """Order one line of right-to-left text from left to right, as it is to be read on screen, its letters joined.

    Letters become Arabic presentation forms: for terminals that draw each cell apart. Not for copying.
    """
    shown = get_display(_joined_forms()(text), base_dir="R")
    assert isinstance(shown, str)  # text in, text out
    return _MARKS.sub(lambda match: match[2] + match[1][::-1], shown)


@functools.cache
def _joined_forms() -> Callable[[str], str]:
    reshape: Callable[[str], str] = ArabicReshaper({"delete_harakat": False}).reshape
    return reshape


def n_cells(text: str) -> int:
    """The most cells that a terminal gives text: terminals differ about vowel signs that are drawn beside a letter."""
    return sum(map(_n_cells, text))


@functools.cache
def _n_cells(character: str) -> int:
    category = unicodedata.category(character)
    if category in ("Mn", "Me", "Cf"):
        return 0
    return 1 if category == "Mc" else cell_len(character)


def wrapped(text: str, width: int) -> list[str]:
    """Break one line of text into rows of at most `width` cells, between words where that is possible.

    Spaces at a break are dropped, those at the end of the last row are kept: more may follow.
    """
    rows, row = [], ""
    for word in re.findall(r"\s*\S+|\s+$", text):
        if n_cells((row + word).rstrip()) <= width:
            row += word
            continue
        if row.strip():
            rows.append(row.rstrip())
        *full, row = _chopped(word.lstrip(), width)
        rows += full
    return [*rows, row]


def _chopped(word: str, width: int) -> list[str]:
    """Cut a word that is too long, with each mark left on its letter."""
    rows = [""]
    for character in word:
        is_mark = unicodedata.category(character)[0] == "M"
        if rows[-1] and not is_mark and n_cells(rows[-1]) + _n_cells(character) > width:
            rows.append("")
        rows[-1] += character
    return rows


def to_right(text: str, width: int) -> str:
    """One row of right-to-left text, in visual order and aligned to the right edge."""
    shown = visual(text.rstrip())
    return " " * (width - n_cells(shown)) + shown


class VisualRows:
    """Right-to-left text that grows, for a terminal that does not order it.

    The row that is being written is drawn again with each piece, growing from the right edge to the left; a row that is
    full stays. Each covers the whole width, so that nothing has to be erased.

    Args:
        width: cells of a row; one less than the terminal has, so that the cursor never wraps.
    """

    def __init__(self, width: int) -> None:
        self._width = max(width, 2)
        self._row = ""

    def push(self, text: str) -> str:
        """What to write for a piece of one line."""
        *full, self._row = wrapped(self._row + text, self._width)
        drawn = "".join(f"\r{to_right(row, self._width)}\n" for row in full)
        return f"{drawn}\r{to_right(self._row, self._width)}"

    def end(self) -> str:
        """What to write at the end of the line."""
        self._row = ""
        return "\n"
