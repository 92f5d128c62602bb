"""Paths of images in what people type, paste and drop into a chat.

line --split_line--> the images in it, the question around them, and paths that do not exist
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from palo_cpp.cli.path_quoting import (
    CALL,
    CLOSING,
    EXTENSION,
    N_ENDS_MAX,
    ORDER_MARKS,
    PATH_END,
    expanded,
    is_file,
    plain,
    unquoted,
    without_marks,
    words_at,
)

_OPENING = "".join(CLOSING)
_ANCHOR = re.compile(r"/|~[/\\]|\.\.?[/\\]|[a-z]:[/\\]|\\\\|file:/", re.IGNORECASE)
# Where a path may begin: not inside a word of ASCII, nor after the drive of `C:/`. Chinese and Japanese have no spaces.
_BEFORE = r"(?<![A-Za-z0-9_.~/\\%-])(?<!\b[A-Za-z]:)"
_ANCHORED_START = re.compile(
    rf"{_BEFORE}(?:{CALL.pattern})?[{_OPENING}]?(?:{_ANCHOR.pattern}|data:image/)", re.IGNORECASE
)
_BARE_START = re.compile(rf"{_BEFORE}\S")
_DATA_URI = re.compile(r"data:image/\S+", re.IGNORECASE)
_OTHER_URI = re.compile(r"\b(?!file:)[a-z][a-z0-9+.-]+://\S+", re.IGNORECASE)
_TOKEN = re.compile(r"""(?:&\s+)?(?:'[^\n]*?'|"(?:\\[^\n]|[^\\\n])*?")(?=[\s.,;:!?)]|$)|(?:\\\s|\S)+""")
# A line without any of these has no path in it.
_PATH_SIGN = re.compile(r"[/\\]|\.\w")
# Bounds on the work for long text that somebody pastes: the length of a path, of a name with spaces, and starts tried.
_N_PATH_MAX, _N_NAME_MAX, _N_STARTS_MAX = 1024, 255, 200


@dataclass(frozen=True)
class TypedLine:
    """What a typed line says.

    Attributes:
        images: paths of files that exist, and data URIs, in their order, each once.
        question: the rest of the line.
        missing: what looks like the path or the address of an image and is no file here; the question has none of it.
    """

    images: tuple[str, ...]
    question: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    path: str


def split_line(line: str, exists: Callable[[str], bool] = is_file, open_names: Collection[str] = ()) -> TypedLine:
    """Separate the images that a line names from its question.

    A path that exists is an image wherever it is typed. What looks like a path (it begins as one, or is a name with the
    extension of an image) and does not exist is missing.

    Args:
        line: what was typed; may have several lines.
        exists: whether a path leads to a file.
        open_names: names of images that are open; a question may mention them.

    Example:
        >>> split_line("'/my cat.jpg' what is this?", exists={"/my cat.jpg"}.__contains__)
        TypedLine(images=('/my cat.jpg',), question='what is this?', missing=())
    """
    if not _PATH_SIGN.search(line):
        return TypedLine((), line.strip())
    found = list(_existing(line, exists))
    missing = [
        span for start, end in _gaps(line, found) for span in _missing(line, start, end) if span.path not in open_names
    ]
    paths = sorted([*found, *missing], key=lambda span: span.start)
    question = _joined([line[start:end] for start, end in _gaps(line, paths)]) if paths else line.strip()
    return TypedLine(_each_once(found), question, _each_once(missing))


def split_paths(argument: str, exists: Callable[[str], bool] = is_file) -> TypedLine:
    """`split_line` for the argument of a command, which begins with a path even if it does not look like one."""
    if exists(whole := unquoted(argument, exists)):
        return TypedLine((whole,), "")
    typed = split_line(argument, exists)
    return typed if typed.images or typed.missing else TypedLine((), "", (whole,))


def _gaps(line: str, spans: Sequence[_Span]) -> list[tuple[int, int]]:
    return list(zip([0, *(span.end for span in spans)], [*(span.start for span in spans), len(line)], strict=True))


def _each_once(spans: Sequence[_Span]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(span.path for span in spans))


# Paths that exist -----------------------------------------------------------------------------------------------------


def _existing(line: str, exists: Callable[[str], bool]) -> Iterator[_Span]:
    """The images in a line, from left to right."""
    extension_ends = [match.end() for match in EXTENSION.finditer(line)]
    others = [uri.span() for uri in _OTHER_URI.finditer(line)]
    position = 0
    for start in _starts(line, extension_ends):
        if start < position or any(begin <= start < end for begin, end in others):
            continue
        if span := _image_at(line, start, extension_ends, exists):
            yield span
            position = span.end


def _starts(line: str, extension_ends: list[int]) -> list[int]:
    """Where paths may begin; a bare name must end in an extension."""
    starts = {match.start() for match in _ANCHORED_START.finditer(line)}
    for end in extension_ends:
        first = max(line.rfind("\n", 0, end) + 1, end - _N_NAME_MAX)
        starts |= {match.start() for match in _BARE_START.finditer(line, first, end)}
    return sorted(starts)[:_N_STARTS_MAX]


def _image_at(line: str, start: int, extension_ends: list[int], exists: Callable[[str], bool]) -> _Span | None:
    """The longest text from `start` on that names a file, or a data URI."""
    if uri := _DATA_URI.match(line, start):
        return _Span(start, uri.end(), uri[0])
    limit = min(_end_of_line(line, start), start + _N_PATH_MAX)
    ends = [end for end in extension_ends if start < end <= limit][:N_ENDS_MAX]
    if _ANCHORED_START.match(line, start):
        ends += islice((end for end in range(start + 1, limit + 1) if PATH_END.match(line, end)), N_ENDS_MAX)
    as_typed = ((end, without_marks(line[start:end])) for end in sorted(ends, reverse=True))
    for end, text in chain(as_typed, words_at(line, start, limit)):
        if exists(path := expanded(text)):
            return _Span(start, end, path)
    return None


def _end_of_line(line: str, position: int) -> int:
    end = line.find("\n", position)
    return len(line) if end < 0 else end


# Paths that do not exist ----------------------------------------------------------------------------------------------


def _missing(line: str, start: int, end: int) -> Iterator[_Span]:
    """What looks like a path between two positions."""
    position = start
    for token in _TOKEN.finditer(line, start, end):
        if token.start() >= position:
            name, position = _name_at(line, token, end)
            if name:
                yield _Span(token.start(), position, name)


def _name_at(line: str, token: re.Match[str], limit: int) -> tuple[str, int]:
    """The path that a token looks like, or "", and where the next token may begin."""
    text = plain(token[0])
    if token[0][0] in "&'\"" and text != token[0]:
        return (text if _looks_like_path(text) else ""), token.end()
    is_first = not line[: token.start()].strip() and text[:1] not in "([{<"
    text = text.lstrip("([{<" + _OPENING)
    if extension := EXTENSION.search(text):
        name = text[: extension.end()]
        if not _ANCHOR.match(name):  # a sentence may run up to it without a space
            name = re.split("[。、，！？；：।؟،؛]", name)[-1]
        return (name if _has_stem(name) else ""), token.end()
    if _OTHER_URI.match(text) or not _looks_like_path(text, is_first=is_first):
        return "", token.end()
    # A name with spaces may go on up to its extension.
    later = EXTENSION.search(line, token.end(), min(limit, _end_of_line(line, token.start())))
    if later and not _ANCHORED_START.search(line, token.end(), later.end()):
        return line[token.start() : later.end()], later.end()
    return text.rstrip(".,;:!?)]}>"), token.end()


def _has_stem(name: str) -> bool:
    """Whether there is a name before the extension, which is missing in a question about `.jpg`."""
    return re.search(r"[^\s./\\]\.\w+$", name) is not None


def _looks_like_path(text: str, *, is_first: bool = False) -> bool:
    """Whether text is written as a path: by its end, or by a beginning that is more than ordinary punctuation."""
    if (extension := EXTENSION.search(text)) and extension.end() == len(text):
        return _has_stem(text)
    anchor = _ANCHOR.match(text)
    if anchor is None or not text[anchor.end() :].strip("/\\"):
        return anchor is not None and is_first
    if anchor[0] in ("/", "\\\\"):  # "/or" and "\\alpha" are no paths
        return is_first or re.search(r"\w[/\\]\S", text) is not None
    return True


# The question ---------------------------------------------------------------------------------------------------------


def _joined(parts: list[str]) -> str:
    """Join what is left of a line, as if the paths had never been in it."""
    question = ""
    for part in parts:
        left, right = question.rstrip(), part.strip(ORDER_MARKS).lstrip()
        space = question[len(left) :] + part[: len(part) - len(part.lstrip())]
        gap = "" if not space or PATH_END.match(right) else "\n" if "\n" in space else " "
        question = f"{left}{gap}{right}" if right else f"{left}{space}"
    question = re.sub(r"\s*(\(\s*\)|\[\s*\]|<\s*>)", "", question).strip()
    return question.lstrip(",;: ") if re.search(r"\w", question) else ""
