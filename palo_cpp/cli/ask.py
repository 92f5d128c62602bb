"""`palo-cpp ask`: one question, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from palo_cpp.cli import open_model
from palo_cpp.cli.answering import (
    direction_for,
    print_answer,
    print_timings,
    to_json,
    warn_if_cut,
    warn_if_in_another_language,
)
from palo_cpp.cli.console import Status
from palo_cpp.cli.group import EXIT_INTERRUPTED
from palo_cpp.cli.options import (
    ModelOptions,
    SamplingOptions,
    bidi_option,
    debug_option,
    json_option,
    language_option,
    model_options,
    sampling_options,
    timings_option,
)

if TYPE_CHECKING:
    from palo_cpp.cli.bidi import BidiChoice

EXAMPLES = """\b
Examples:
  palo-cpp ask photo.jpg "What is the dog doing?"
  palo-cpp ask photo.jpg --lang ja
  palo-cpp ask photo.jpg "What is this?" --lang हिन्दी
  curl -s https://example.org/photo.jpg | palo-cpp ask - "यह क्या है?"
  palo-cpp ask photo.jpg --json | jq -r .text
"""


@click.command("ask", epilog=EXAMPLES)
@click.argument("image")
@click.argument("question", required=False)
@language_option
@model_options
@sampling_options
@bidi_option
@json_option
@timings_option
@debug_option
def command(
    image: str,
    question: str | None,
    language: str | None,
    model: ModelOptions,
    sampling: SamplingOptions,
    bidi: BidiChoice,
    as_json: bool,
    show_timings: bool,
) -> int:
    """Ask one question about an image.

    IMAGE is a file, or - for an image on stdin. QUESTION is text in any of the ten languages, or - for text on stdin;
    without it, the image is described. The answer is streamed to stdout.
    """
    if image == question == open_model.STDIN:
        raise click.UsageError("image and question cannot both come from stdin")
    picture, text = open_model.image_from(image), open_model.question_from(question)
    with Status() as status:
        status.show("loading the model")
        with open_model.open_palo(model) as palo:
            status.show("reading the image")
            chat = palo.chat(picture, lang=language)
            stream = chat.stream(text, **sampling.given())
            answer = print_answer(stream, direction_for(language, text), status, bidi=bidi, silent=as_json)
    if answer is None:
        return EXIT_INTERRUPTED
    warn_if_cut(answer)
    warn_if_in_another_language(answer)
    if as_json:
        click.echo(to_json(answer.to_dict()))
    elif show_timings:
        print_timings(answer)
    return 0
