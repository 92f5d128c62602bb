"""Which script a character belongs to, as far as the ten languages ask.

Python's `unicodedata` knows categories but no scripts; the blocks below are Unicode's, for the scripts that PALO
writes.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray

N_CODE_POINTS = 0x110000

# ISO 15924 codes for what has no script of its own: characters of all languages, combining accents, other scripts.
COMMON, ACCENT, OTHER = "Zyyy", "Zinh", "Zzzz"
NEVER = ""  # no answer holds these: controls, overrides of direction, what is unassigned or private, U+FFFD

# First and last code point. Punctuation in them is common to all: । ، ؟ ・
_BLOCKS = (
    (0x0041, 0x005A, "Latn"),
    (0x0061, 0x007A, "Latn"),
    (0x00AA, 0x00AA, "Latn"),
    (0x00B5, 0x00B5, "Latn"),
    (0x00BA, 0x00BA, "Latn"),
    (0x00C0, 0x00D6, "Latn"),
    (0x00D8, 0x00F6, "Latn"),
    (0x00F8, 0x024F, "Latn"),
    (0x0300, 0x036F, ACCENT),
    (0x0400, 0x052F, "Cyrl"),
    (0x0600, 0x06FF, "Arab"),
    (0x0750, 0x077F, "Arab"),
    (0x08A0, 0x08FF, "Arab"),
    (0x0900, 0x097F, "Deva"),
    (0x0980, 0x09FF, "Beng"),
    (0x1E00, 0x1EFF, "Latn"),
    (0x2E80, 0x2FDF, "Hani"),
    (0x3005, 0x3007, "Hani"),
    (0x3021, 0x3029, "Hani"),
    (0x3031, 0x303B, "Hani"),
    (0x3041, 0x30FF, "Kana"),
    (0x31F0, 0x31FF, "Kana"),
    (0x3200, 0x33FF, "Hani"),
    (0x3400, 0x4DBF, "Hani"),
    (0x4E00, 0x9FFF, "Hani"),
    (0xA8E0, 0xA8FF, "Deva"),
    (0xF900, 0xFAFF, "Hani"),
    (0xFB00, 0xFB06, "Latn"),
    (0xFB50, 0xFDFF, "Arab"),
    (0xFE70, 0xFEFC, "Arab"),
    (0xFF21, 0xFF3A, "Latn"),
    (0xFF41, 0xFF5A, "Latn"),
    (0xFF66, 0xFF9F, "Kana"),
    (0x20000, 0x323AF, "Hani"),
)
# Where punctuation, symbols, spaces and numbers are that no language owns: up to Latin-1, general punctuation to
# miscellaneous symbols without Braille, CJK punctuation, fullwidth forms, emoji.
_COMMON = (
    (0x0020, 0x00FF),
    (0x2000, 0x249B),
    (0x24EA, 0x27FF),
    (0x2900, 0x2BFF),
    (0x3000, 0x303F),
    (0xFE10, 0xFE6F),
    (0xFF01, 0xFFEF),
    (0x1F000, 0x1F10F),
    (0x1F16A, 0x1FAFF),
)
# Line breaks, joiners, marks of direction, the selectors and tags of emoji; marks within words count for no script.
_INVISIBLE = frozenset(
    [
        *map(ord, "\t\n\r\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2060\u20e3\ufeff"),
        *range(0xFE00, 0xFE10),
        *range(0xE0020, 0xE0080),
    ]
)
# Categories of what no language owns. Letters and marks are not among them, nor the numbers that are letters (Ⅳ).
_COMMON_CATEGORIES = frozenset(["Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Nd", "No"])
_NEVER_CATEGORIES = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
_PUNCTUATION = frozenset(["Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Zs"])
# Categories decide here only: the rest are ideographs, Hangul and other scripts, each one block, or nothing at all.
_DECIDED_BY_CATEGORY = ((0x0000, 0x33FF), (0xA000, 0xABFF), (0xF900, 0xFFFF), (0x1F000, 0x1FAFF))
_NEVER = ((0xD7FC, 0xF8FF), (0xFFFD, 0xFFFF), (0x33480, 0x10FFFF))  # surrogates, private use, unassigned planes
_EMOJI = slice(0x1F000, 0x1FB00)

# What `scripts_of_all` counts in: the index of a script here.
SCRIPTS = (NEVER, COMMON, ACCENT, OTHER, "Latn", "Cyrl", "Arab", "Deva", "Beng", "Hani", "Kana")


def script_of(character: str) -> str:
    """The script of one character.

    Returns:
        One of `SCRIPTS`.

    Example:
        >>> script_of("я"), script_of("?")
        ('Cyrl', 'Zyyy')
    """
    return SCRIPTS[scripts_of_all()[ord(character)]]


@functools.cache
def scripts_of_all() -> NDArray[np.uint8]:
    """The script of every code point [N_CODE_POINTS], as its index in `SCRIPTS`; takes some 10 ms, once."""
    is_never, is_punctuation, is_common = map(_is_of_category, (_NEVER_CATEGORIES, _PUNCTUATION, _COMMON_CATEGORIES))
    is_common[_EMOJI] |= is_never[_EMOJI]  # an emoji newer than this Python
    is_never[_EMOJI] = False
    blocks = np.zeros(N_CODE_POINTS, np.uint8)
    for first, last, script in _BLOCKS:
        blocks[first : last + 1] = SCRIPTS.index(script)
    is_common &= _is_among(_COMMON) | (blocks > 0)
    scripts = np.where(is_common, SCRIPTS.index(COMMON), SCRIPTS.index(OTHER)).astype(np.uint8)
    is_owned = (blocks > 0) & ~is_punctuation
    scripts[is_owned] = blocks[is_owned]
    scripts[is_never | _is_among(_NEVER)] = SCRIPTS.index(NEVER)
    scripts[sorted(_INVISIBLE)] = SCRIPTS.index(COMMON)
    scripts.flags.writeable = False
    return scripts


def _is_of_category(categories: frozenset[str]) -> NDArray[np.bool_]:
    found = np.zeros(N_CODE_POINTS, np.bool_)
    for first, last in _DECIDED_BY_CATEGORY:
        found[first : last + 1] = [unicodedata.category(chr(point)) in categories for point in range(first, last + 1)]
    return found


def _is_among(ranges: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    found = np.zeros(N_CODE_POINTS, np.bool_)
    for first, last in ranges:
        found[first : last + 1] = True
    return found
