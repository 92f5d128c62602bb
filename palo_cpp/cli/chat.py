"""`palo-cpp chat`: a conversation in the terminal, or one question per line from a pipe."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

import click

from palo_cpp.cli.answering import AnswerPrinter
from palo_cpp.cli.arguments import STDIN, image_from
from palo_cpp.cli.chat_commands import commands_help, find_command
from palo_cpp.cli.chat_loop import ChatLoop
from palo_cpp.cli.completion import completions
from palo_cpp.cli.line_input import LineInput
from palo_cpp.cli.options import (
    ModelOptions,
    SamplingOptions,
    bidi_option,
    debug_option,
    json_option,
    language_option,
    model_options,
    option,
    sampling_options,
    timings_option,
)
from palo_cpp.cli.session_saving import SessionSaver

if TYPE_CHECKING:
    from palo_cpp.cli.bidi import BidiChoice

COMMANDS = "\b\nCommands:\n" + indent(commands_help(), "  ")
EXAMPLES = """\b
Examples:
  palo-cpp chat photo.jpg --lang hi
  palo-cpp chat photo.jpg -m models/PALO-7B-Q4_K_M.gguf --temp 0.2
  palo-cpp chat photo.jpg --session holiday.palo
  printf 'What is this?\\nWhere is it?\\n' | palo-cpp chat photo.jpg
"""


@click.command("chat", epilog=f"{COMMANDS}\n\n{EXAMPLES}")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@language_option
@model_options
@sampling_options
@bidi_option
@json_option
@timings_option
@option(
    "--session",
    env="SESSION",
    default=None,
    metavar="FILE",
    help="Continue the conversation in FILE if there is one, and save it there.",
)
@option(
    "--session-kv/--no-session-kv",
    "with_kv",
    env="SESSION_KV",
    default=True,
    show_default=True,
    help="Save keys and values too, where the model keeps any: some MB, and the next answer needs no second prefill.",
)
@debug_option
def command(
    images: tuple[str, ...],
    language: str | None,
    model: ModelOptions,
    sampling: SamplingOptions,
    bidi: BidiChoice,
    as_json: bool,
    show_timings: bool,
    session: str | None,
    with_kv: bool,
) -> int:
    """Talk about an image in the terminal.

    Type a question and press Enter; Enter alone asks for a description. A path typed or dropped into the line opens
    that image too. Three quotation marks begin and end a question of several lines. Ctrl-C stops an answer, Ctrl-D
    leaves.

    Questions may also be piped in, one a line: then only the answers go to stdout, with --json one object each.
    """
    if STDIN in images:
        raise click.UsageError("- reads an image from stdin, but here stdin holds the questions; name an image file")
    paths = [str(image_from(image)) for image in images]
    loop = ChatLoop(
        model, sampling, language, AnswerPrinter(as_json, show_timings, bidi), SessionSaver(session, with_kv=with_kv)
    )
    lines = LineInput(is_command=lambda line: find_command(line) is not None, complete=completions)
    with loop, lines:
        return loop.run(paths, lines)
