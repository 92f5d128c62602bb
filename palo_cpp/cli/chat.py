"""`palo-cpp chat`: a conversation in the terminal, or one question per line from a pipe."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

import click

from palo_cpp.cli import open_model
from palo_cpp.cli.chat_commands import commands_help
from palo_cpp.cli.chat_loop import ChatLoop
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
@click.argument("image", required=False)
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
    help="Save the model's keys and values too: some MB, and the next answer needs no second prefill.",
)
@debug_option
def command(
    image: str | None,
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

    Type a question and press Enter; Enter alone asks for a description. Three quotation marks begin and end a question
    of several lines. Ctrl-C stops an answer, Ctrl-D leaves.

    Questions may also be piped in, one a line: then only the answers go to stdout, with --json one object each.
    """
    if image == open_model.STDIN:
        raise click.UsageError("- reads an image from stdin, but here stdin holds the questions; name an image file")
    saver = SessionSaver(session, with_kv=with_kv)
    loop = ChatLoop(model, sampling, language, as_json, show_timings, saver, bidi)
    with loop, LineInput() as lines:
        return loop.run(image, lines)
