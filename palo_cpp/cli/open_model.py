"""Loads the model of a command; the only place that does, so that tests can replace it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from palo_cpp.cli.console import is_terminal
from palo_cpp.cli.options import ModelOptions

if TYPE_CHECKING:
    from palo_cpp import Palo

STDIN = "-"


def open_palo(options: ModelOptions) -> Palo:
    """Load the model that the options name.

    Raises:
        PaloError: it does not exist, is damaged, or would not fit into memory.
    """
    from palo_cpp import Palo

    return Palo(
        options.model,
        n_ctx=options.n_ctx,
        n_threads=options.n_threads,
        preprocess=options.preprocess,
        vision_precision=options.vision_precision,
        backend=options.backend,
        draft=options.draft,
        embedding_cache_dir=options.embedding_cache,
    )


def image_from(argument: str) -> str | bytes:
    """Turn an IMAGE argument into what the library opens: a path, or the bytes on stdin for `-`."""
    if argument != STDIN:
        return argument
    if is_terminal(sys.stdin):
        raise click.UsageError(
            "- reads the image from stdin, but stdin is a terminal; try `palo-cpp ask - < photo.jpg`"
        )
    return sys.stdin.buffer.read()


def question_from(argument: str | None) -> str | None:
    """Turn a QUESTION argument into text: itself, or the text on stdin for `-`."""
    return sys.stdin.read().strip() if argument == STDIN else argument
