"""One path as a shell, a terminal or a file manager writes it: in quotes, with backslashes, as a file URI.

Which shell is not known here, so text is read in several ways; the caller checks which reading is the path of a file.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from palo_cpp.vision.image_bytes import local_path

# Names that end so are taken for images, also those of formats that an error has to name.
_EXTENSIONS = "avif|bmp|cr2|dng|gif|hei[cf]|ico|jfif|jp2|jpe?g|jxl|mpo|nef|p[bgp]m|pdf|png|psd|qoi|svg|tga|tiff?|webp"
EXTENSION = re.compile(rf"\.(?:{_EXTENSIONS})(?![A-Za-z0-9_-]|\.\w)", re.IGNORECASE)
# White space, or punctuation that ends a sentence or a clause: a path may end before it.
PATH_END = re.compile(r"\s|$|[.,;:!?)\]}>'\"]+(?:\s|$)|[。、，！？；：）」』।؟،؛”’»]")
CLOSING = {"'": "'", '"': '"', "“": "”", "‘": "’", "«": "»", "「": "」"}
# PowerShell calls a quoted path: & 'C:\my cat.jpg'.
CALL = re.compile(r"&\s+(?=['\"])")
# Marks that order right-to-left text; Windows puts one before a path that is copied from a file's properties.
ORDER_MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
_WITHOUT_MARKS = dict.fromkeys(map(ord, ORDER_MARKS))
_WINDOWS_PATH = re.compile(r"[a-z]:[\\/]|\\\\", re.IGNORECASE)
# Escape character, and the quotation marks inside which it escapes: POSIX shells, fish, PowerShell.
_SHELLS = (("\\", '"'), ("\\", "'\""), ("`", '"'))
# No path has more words; a bound on the work for long text that somebody pastes.
N_ENDS_MAX = 40


def is_file(path: str) -> bool:
    """Whether a path leads to a file."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # not allowed to look, a name too long, a NUL in it
        return False


def unquoted(argument: str, exists: Callable[[str], bool] = is_file) -> str:
    """The path that an argument names: as it is, quoted, with escaped spaces, as a file URI, or beginning with ~."""
    paths = [expanded(text) for text in (argument, without_marks(argument), *_whole_words(argument))]
    return next(filter(exists, paths), expanded(plain(argument)))


def plain(text: str) -> str:
    """The likeliest reading of quoted or escaped text, for a path that does not exist."""
    text = CALL.sub("", without_marks(text).strip(), count=1)
    return text if _WINDOWS_PATH.match(text) else next(_whole_words(text), text)


def without_marks(text: str) -> str:
    """Text without the marks that order right-to-left text."""
    return text.translate(_WITHOUT_MARKS)


def expanded(text: str) -> str:
    """The path that a file URI or a path beginning with ~ means; any other text unchanged."""
    if path := local_path(text):
        return str(path)
    if text.startswith("~"):
        with contextlib.suppress(RuntimeError):  # no home
            return str(Path(text).expanduser())
    return text


def words_at(line: str, start: int, limit: int) -> Iterator[tuple[int, str]]:
    """Read quoted or escaped text in all ways.

    Args:
        line: what was typed.
        start: where the text begins, with its quotation mark or with PowerShell's `&`.
        limit: where it ends at the latest.

    Yields:
        Where it may end, and what it says up to there.
    """
    if call := CALL.match(line, start):
        start = call.end()
    text = line[start:limit]
    if any(character in text for character in "\\`'\""):
        for shell in _SHELLS:
            yield from _shell_words(line, start, limit, *shell)
    if closing := CLOSING.get(text[:1]):
        for match in islice(re.finditer(re.escape(closing), text[1:]), N_ENDS_MAX):
            inside = text[1 : 1 + match.start()]
            yield start + 1 + match.end(), inside
            yield start + 1 + match.end(), inside.replace("''", "'")  # PowerShell's


def _whole_words(text: str) -> Iterator[str]:
    return (word for end, word in words_at(text, 0, len(text)) if end == len(text))


def _shell_words(line: str, start: int, limit: int, escape: str, escaped_quotes: str) -> Iterator[tuple[int, str]]:
    """A word as a shell reads it, and what is left of it without text that follows it without a space."""
    stream = io.StringIO(line[start:limit])
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    lexer.escape, lexer.escapedquotes = escape, escaped_quotes
    try:
        word = lexer.get_token() or ""
    except ValueError:  # a lone quotation mark
        return
    end = start + stream.tell()
    end -= end > start and line[end - 1].isspace()
    cuts = {len(word), *(match.end() for match in EXTENSION.finditer(word))}
    cuts |= {cut for cut in range(1, len(word)) if PATH_END.match(word, cut)}
    for cut in sorted(cuts, reverse=True)[:N_ENDS_MAX]:
        if line.startswith(word[cut:], end - len(word) + cut):
            yield end - len(word) + cut, word[:cut]
            yield end - len(word) + cut, word[:cut].replace(f"{escape}$", "$")  # between double quotes
