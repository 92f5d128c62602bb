"""IMAGE and QUESTION arguments: from the command line to what the library takes."""

from __future__ import annotations

import sys

import click

from palo_cpp.cli.console import is_terminal
from palo_cpp.cli.path_quoting import unquoted
from palo_cpp.errors import ArgumentError, ImageError

STDIN = "-"


def image_from(argument: str) -> str | bytes:
    """Turn an IMAGE argument into what the library opens: a path, or the bytes on stdin for `-`.

    Raises:
        ImageError: an empty argument, or nothing on stdin; asked without an image, the model would invent one.
    """
    if argument == STDIN:
        return _image_on_stdin()
    if not argument.strip():
        raise ImageError("IMAGE: expected a file, got an empty argument; name an image file, or - for stdin")
    return unquoted(argument)


def _image_on_stdin() -> bytes:
    if is_terminal(sys.stdin):
        raise click.UsageError("- reads an image from stdin, but stdin is a terminal; try `palo-cpp ask - < photo.jpg`")
    data = sys.stdin.buffer.read()
    if not data:
        raise ImageError("stdin (-): expected an image, got nothing; check the command that writes it")
    return data


def question_from(argument: str | None) -> str | None:
    """Turn a QUESTION argument into text: itself, or the text on stdin for `-`.

    Raises:
        ArgumentError: nothing on stdin.
    """
    if argument != STDIN:
        return argument
    question = sys.stdin.read().strip()
    if not question:
        raise ArgumentError("stdin (-): expected a question, got nothing; leave QUESTION out for a description")
    return question
