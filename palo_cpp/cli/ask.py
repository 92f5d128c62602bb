"""`palo-cpp ask`: one question, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palo_cpp.cli import open_model
from palo_cpp.cli.answering import AnswerPrinter, direction_for
from palo_cpp.cli.arguments import STDIN, image_from, question_from, schema_from
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
    option,
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
  palo-cpp ask photo.jpg "Describe it." --json-schema colours.json
  palo-cpp ask --no-image "光合作用是什么？" -m viscpm
"""


@click.command("ask", epilog=EXAMPLES)
@click.argument("image", required=False)
@click.argument("question", required=False)
@option("--no-image", env="NO_IMAGE", is_flag=True, help="Ask without an image; the only argument is the question.")
@language_option
@model_options
@sampling_options
@option(
    *("--json-schema", "schema"),
    env="JSON_SCHEMA",
    callback=schema_from,
    default=None,
    metavar="FILE",
    help="Let the answer be JSON that the schema in this file accepts.",
)
@bidi_option
@json_option
@timings_option
@debug_option
def command(
    image: str | None,
    question: str | None,
    no_image: bool,
    language: str | None,
    model: ModelOptions,
    sampling: SamplingOptions,
    schema: dict[str, Any] | None,
    bidi: BidiChoice,
    as_json: bool,
    show_timings: bool,
) -> int:
    """Ask one question about an image.

    IMAGE is a file, or - for an image on stdin. QUESTION is text in any of the ten languages, or - for text on stdin;
    without it, the image is described. The answer is streamed to stdout.
    """
    picture, text = _image_and_question(image, question, has_image=not no_image)
    options = sampling.given() if schema is None else {**sampling.given(), "json_schema": schema}
    printer = AnswerPrinter(as_json, show_timings, bidi)
    with Status() as status:
        status.show("loading the model")
        with open_model.open_palo(model, *([] if picture is None else [picture])) as palo:
            if picture is not None:
                status.show("reading the image")
            stream = palo.chat(picture, lang=language).stream(text, **options)
            answer = printer.print_pieces(stream, direction_for(language, text), status)
    if answer is None:
        return EXIT_INTERRUPTED
    printer.print_rest(answer)
    return 0


def _image_and_question(
    image: str | None, question: str | None, *, has_image: bool
) -> tuple[str | bytes | None, str | None]:
    """Image and question as the arguments name them; without an image the first argument is the question."""
    if not has_image:
        if image is None or question is not None:
            raise click.UsageError(f"--no-image: expected one question, got {'none' if image is None else 'two'}")
        return None, question_from(image)
    if image is None:
        raise click.UsageError("expected an image, or a question with --no-image, got neither")
    if image == question == STDIN:
        raise click.UsageError("image and question cannot both come from stdin")
    return image_from(image), question_from(question)
