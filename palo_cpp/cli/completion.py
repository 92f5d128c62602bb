"""What Tab completes in a chat: commands and paths, quoted as they were begun."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from palo_cpp.cli.chat_commands import COMMANDS, find_command
from palo_cpp.cli.path_quoting import EXTENSION, expanded

# After these commands any file may be meant, elsewhere images.
_TAKES_ANY_FILE = ("/save", "/load")
# The end of a path that is begun with / ~ . or a drive and may have spaces that nothing escapes.
_ANCHORED = re.compile(r"(?<![A-Za-z0-9_./\\~-])(?:~?/|\.\.?/|[A-Za-z]:[\\/]).*$")
_TO_ESCAPE = re.compile(r"([\s'\"\\`&])")


def folder_entries(folder: str) -> list[str]:
    """Names in a folder, folders with a slash at their end; none if it cannot be read."""
    try:
        return sorted(f"{path.name}/" if path.is_dir() else path.name for path in Path(folder or ".").iterdir())
    except (OSError, ValueError):
        return []


def completions(before: str, entries: Callable[[str], list[str]] = folder_entries) -> tuple[int, list[str]]:
    """Complete what is before the cursor.

    Args:
        before: the line up to the cursor.
        entries: names in a folder, as `folder_entries` returns them.

    Returns:
        Where the completed word begins, and the texts that may replace it, each up to the end of a file's name or of a
        folder's.
    """
    if re.fullmatch(r"/\S*", before):
        names = [name for command in COMMANDS for name in (command.name, *command.aliases) if name.startswith(before)]
        paths = [] if before == "/" else _paths(before, before, entries, any_file=False)
        return 0, [*(f"{name} " for name in names), *paths]
    found = find_command(before)
    any_file = found is not None and found[0].name in _TAKES_ANY_FILE
    for start in _starts(before):
        typed = before[start:]
        if paths := [*_paths(typed, before, entries, any_file=any_file)]:
            return start, paths
    return len(before), []


def _starts(before: str) -> Iterator[int]:
    """Where the path before the cursor may begin: after an open quotation mark, after a space, at its first slash."""
    start, quote, position = 0, "", 0
    while position < len(before):
        character = before[position]
        if quote:
            quote = "" if character == quote else quote
        elif character == "\\":
            position += 1
        elif character.isspace():
            start = position + 1
        elif character in "'\"" and position == start:
            quote = character
        position += 1
    yield start
    if anchored := _ANCHORED.search(before):
        yield anchored.start()


def _paths(typed: str, before: str, entries: Callable[[str], list[str]], *, any_file: bool) -> Iterator[str]:
    """The paths that begin with what was typed."""
    quote = typed[:1] if typed[:1] in ("'", '"') else ""
    is_escaped = not quote and " " not in typed.replace("\\ ", "")
    path = typed[1:] if quote else re.sub(r"\\(.)", r"\1", typed) if is_escaped else typed
    folder, slash, begun = path.rpartition("/")
    is_argument = find_command(before) is not None
    if not begun and not slash and not is_argument:  # Tab alone in a question lists nothing
        return
    names = [name for name in entries(expanded(folder + slash)) if _continues(name, begun)]
    wanted = [name for name in names if any_file or name.endswith("/") or EXTENSION.search(name)]
    for name in wanted or names:
        whole = f"{folder}{slash}{name}"
        end = "" if name.endswith("/") else f"{quote} "
        yield f"{quote}{_escaped(whole, quote)}{end}" if quote or is_escaped else f"{whole}{end}"


def _continues(name: str, begun: str) -> bool:
    """Whether a name begins as typed; macOS stores some letters in two parts, and files with a dot are hidden."""
    if name.startswith(".") and not begun.startswith("."):
        return False
    return unicodedata.normalize("NFC", name).startswith(unicodedata.normalize("NFC", begun))


def _escaped(path: str, quote: str) -> str:
    if quote == "'":
        return path.replace("'", "'\\''")
    return re.sub(r'(["\\])' if quote else _TO_ESCAPE, r"\\\1", path)
