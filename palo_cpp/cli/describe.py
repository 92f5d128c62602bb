"""`palo-cpp describe`: images in, descriptions out, in any of the ten languages or in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from palo_cpp.cli import opening
from palo_cpp.cli.answering import (
    direction_for,
    print_answer,
    print_timings,
    to_json,
    warn_if_cut,
    warn_if_in_another_language,
)
from palo_cpp.cli.console import AnswerWriter, Status
from palo_cpp.cli.group import EXIT_FAILED, print_error
from palo_cpp.cli.options import (
    ModelOptions,
    SamplingOptions,
    debug_option,
    json_option,
    model_options,
    option,
    sampling_options,
    timings_option,
    to_codes,
)
from palo_cpp.errors import PaloError
from palo_cpp.languages import LANGUAGES

if TYPE_CHECKING:
    from palo_cpp import Answer, Palo


EXAMPLES = """\b
Examples:
  palo-cpp describe photo.jpg --lang hi
  palo-cpp describe photo.jpg --lang hi,ur,bn
  palo-cpp describe *.jpg --lang all --json > descriptions.json
"""


@click.command("describe", epilog=EXAMPLES)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@option(
    *("--lang", "languages"),
    env="LANG",
    callback=to_codes,
    default="en",
    show_default=True,
    metavar="LANGUAGES",
    help="Languages of the descriptions: one, several with commas between them, or all.",
)
@model_options
@sampling_options
@json_option
@timings_option
@debug_option
def command(
    images: tuple[str, ...],
    languages: list[str],
    model: ModelOptions,
    sampling: SamplingOptions,
    as_json: bool,
    show_timings: bool,
) -> int:
    """Describe images, in one language or in several.

    IMAGE is a file, or - for an image on stdin. Where several descriptions come, a line before each says of what and in
    which language it is. An image that cannot be read is reported on stderr, and the others are described.
    """
    describing = _Describing(languages, sampling, show_timings, as_json)
    with describing.status as status:
        status.show("loading the model")
        with opening.open_palo(model) as palo:
            codes = [describing.attempt(palo, image, alone=len(images) == 1) for image in images]
    if as_json:
        click.echo(to_json({"images": describing.objects}))
    return max(codes)


class _Describing:
    """What is the same for all images of one call.

    Attributes:
        objects: for `--json`, one object for each image.
    """

    def __init__(self, languages: list[str], sampling: SamplingOptions, show_timings: bool, as_json: bool) -> None:
        self._languages = languages
        self._sampling = sampling
        self._show_timings = show_timings
        self._as_json = as_json
        self.status = Status()
        self.objects: list[dict[str, object]] = []

    def attempt(self, palo: Palo, image: str, *, alone: bool) -> int:
        """Describe one image; report it on stderr where that fails.

        Returns:
            0, or 1 after a failure.
        """
        try:
            self.status.show(f"describing {image}")
            self._describe(palo, image, alone)
        except PaloError as error:
            self.status.clear()
            print_error(str(error) if image in str(error) else f"{image}: {error}")
            self.objects.append({"image": image, "error": str(error)})
            return EXIT_FAILED
        return 0

    def _describe(self, palo: Palo, image: str, alone: bool) -> None:
        picture = opening.image_from(image)
        if alone and len(self._languages) == 1 and not self._as_json:
            self._stream(palo, picture)
            return
        answers = palo.describe(picture, lang=self._languages, **self._sampling.given())
        self.status.clear()
        self.objects.append({"image": image, "answers": {code: answer.to_dict() for code, answer in answers.items()}})
        if not self._as_json:
            self._print(image, answers)

    def _stream(self, palo: Palo, picture: str | bytes) -> None:
        language = self._languages[0]
        stream = palo.stream(picture, lang=language, **self._sampling.given())
        answer = print_answer(stream, direction_for(language, None), self.status)
        if answer is None:
            raise KeyboardInterrupt
        warn_if_cut(answer)
        warn_if_in_another_language(answer)
        if self._show_timings:
            print_timings(answer)

    def _print(self, image: str, answers: dict[str, Answer]) -> None:
        for code, answer in answers.items():
            click.echo(f"== {image} · {LANGUAGES[code].own_name} ({code})")
            writer = AnswerWriter(LANGUAGES[code].direction)
            writer.write(answer.text)
            writer.finish()
            warn_if_cut(answer)
            warn_if_in_another_language(answer)
