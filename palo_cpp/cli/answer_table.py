"""Answers in several languages side by side, as a table on the terminal.

Laid out here because rich pads each row by its own count of cells: terminals count more for Hindi and Bengali, and
rows would wrap. The terminal puts each cell into its column, whatever it counts, and nothing follows it in the row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from palo_cpp.cli.bidi import Bidi
from palo_cpp.cli.console import POP_ISOLATE, RIGHT_TO_LEFT_ISOLATE, printable, terminal_width
from palo_cpp.cli.visual_order import n_cells, visual, wrapped
from palo_cpp.languages.languages import LANGUAGES

if TYPE_CHECKING:
    from palo_cpp import Answer

_GAP = 2
_N_TEXT_MIN = 16
# While a table is written, a terminal that orders rows itself must not: two right-to-left cells would trade places
# (BDSM, ECMA-48 7.2.1, "explicit"). VTE supports it.
_BEGIN_EXPLICIT, _END_EXPLICIT = "\x1b[8l", "\x1b[8h"


def can_tabulate(codes: list[str], bidi: Bidi) -> bool:
    """Whether a table can be shown: not if the terminal orders each row by itself."""
    return bidi is not Bidi.PLAIN or all(LANGUAGES[code].direction == "ltr" for code in codes)


def print_table(title: str, answers: Mapping[str, Answer], bidi: Bidi) -> None:
    """Print answers to stdout, a terminal.

    Args:
        title: the first row.
        answers: language code -> answer.
        bidi: what the terminal needs for right-to-left text.
    """
    begin, end = (_BEGIN_EXPLICIT, _END_EXPLICIT) if bidi is Bidi.DIRECTION else ("", "")
    try:
        sys.stdout.write("".join([begin, *(f"{row}\n" for row in table_rows(title, answers, bidi, terminal_width()))]))
    finally:  # a terminal left in this mode would show later text wrong
        sys.stdout.write(end)
        sys.stdout.flush()


def table_rows(title: str, answers: Mapping[str, Answer], bidi: Bidi, width: int) -> Iterator[str]:
    """The rows of a table: names in the first column, answers in the second, a line before each and at the end."""
    names = {code: f"{code} {LANGUAGES[code].own_name}" for code in answers}
    n_before = max(map(n_cells, names.values())) + _GAP
    n_text = max(width - n_before - 1, _N_TEXT_MIN)
    line = "─" * (n_before + n_text)
    yield printable(title)
    for code, answer in answers.items():
        yield line
        name = f"{code} {_ordered(LANGUAGES[code].own_name, code, bidi)}"
        for text in _text_rows(answer.text, n_text):
            row = _ordered(text, code, bidi)
            n_indent = n_text - n_cells(row) if LANGUAGES[code].direction == "rtl" else 0
            yield f"{name}\x1b[{n_before + n_indent + 1}G{row}"
            name = ""
    yield line


def _text_rows(text: str, width: int) -> list[str]:
    lines = printable(text).replace("\t", " ").split("\n")
    return [row.strip() for line in lines for row in wrapped(line, width)]


def _ordered(row: str, code: str, bidi: Bidi) -> str:
    if not row or LANGUAGES[code].direction == "ltr" or bidi is Bidi.PLAIN:
        return row
    return f"{RIGHT_TO_LEFT_ISOLATE}{row}{POP_ISOLATE}" if bidi is Bidi.ISOLATES else visual(row)
