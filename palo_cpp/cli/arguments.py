"""IMAGE and QUESTION arguments: from the command line to what the library takes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

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


def schema_from(_ctx: click.Context, _parameter: click.Parameter, path: str | None) -> dict[str, Any] | None:
    """Read the JSON schema of `--json-schema`; whether it can be kept is seen when the question is asked."""
    if path is None:
        return None
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"{path}: could not be read: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{path}: expected JSON, got something else: {error}") from error
    if not isinstance(schema, dict):
        raise click.BadParameter(f"{path}: expected a JSON schema, an object, got {type(schema).__name__}")
    return schema
