"""`palo-cpp describe`: images in, descriptions out, in any language that the model has or in all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from palo_cpp.cli import open_model
from palo_cpp.cli.answering import AnswerPrinter, direction_for, to_json, to_object, warn_about_all
from palo_cpp.cli.arguments import image_from
from palo_cpp.cli.bidi import terminal_bidi
from palo_cpp.cli.console import AnswerWriter, Status, is_terminal
from palo_cpp.cli.group import EXIT_FAILED, print_error
from palo_cpp.cli.log import shown_stages
from palo_cpp.cli.options import (
    ModelOptions,
    SamplingOptions,
    bidi_option,
    debug_option,
    json_option,
    model_options,
    option,
    sampling_options,
    timings_option,
    to_codes,
)
from palo_cpp.cli.plain import is_plain
from palo_cpp.errors import PaloError
from palo_cpp.languages.languages import LANGUAGES

if TYPE_CHECKING:
    from palo_cpp import Answer, Palo
    from palo_cpp.cli.bidi import BidiChoice
    from palo_cpp.cli.page import DescribedImage


EXAMPLES = """\b
Examples:
  palo-cpp describe photo.jpg --lang hi
  palo-cpp describe photo.jpg --lang hi,ur,bn
  palo-cpp describe photo.jpg --lang all
  palo-cpp describe *.jpg --lang all --html descriptions.html
  palo-cpp describe *.jpg --lang all --json > descriptions.json
"""


def _to_file(_ctx: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """Refuse a page that cannot be written before the model is loaded and the images are described."""
    if name not in (None, STDOUT) and not Path(name or "").absolute().parent.is_dir():
        raise click.BadParameter(f"expected a file in an existing folder, got {name!r}")
    return name


STDOUT = "-"


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
@option(
    *("--html", "page_file"),
    env="HTML",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    callback=_to_file,
    default=None,
    metavar="FILE",
    help="Write one HTML page with small copies of the images and all descriptions; - writes only it to stdout.",
)
@model_options
@sampling_options
@bidi_option
@json_option
@timings_option
@debug_option
def command(
    images: tuple[str, ...],
    languages: list[str] | None,
    page_file: str | None,
    model: ModelOptions,
    sampling: SamplingOptions,
    bidi: BidiChoice,
    as_json: bool,
    show_timings: bool,
) -> int:
    """Describe images, in one language or in several.

    IMAGE is a file, or - for an image on stdin. Several languages are answered side by side: on a terminal as a table,
    elsewhere with a line before each answer that names image and language. An image that cannot be read is reported on
    stderr, and the others are described.
    """
    if as_json and page_file == STDOUT:
        raise click.UsageError("--json and --html - cannot both write to stdout; give --html a file")
    is_silent = as_json or page_file == STDOUT
    describing = _Describing(
        languages,
        sampling,
        bidi,
        show_timings=show_timings,
        is_silent=is_silent,
        wants_pictures=page_file is not None,
    )
    with describing.status as status:
        status.show("loading the model")
        with open_model.open_palo(model) as palo:
            codes = [describing.attempt(palo, image, alone=len(images) == 1) for image in images]
            name = palo.name
    if as_json:  # before the page, which may find no room
        click.echo(to_json({"images": [_as_object(image) for image in describing.images]}))
    if page_file is not None:
        _write_page(page_file, describing.images, name)
    return max(codes)


def _write_page(file: str, images: list[DescribedImage], model: str) -> None:
    from palo_cpp.cli.page import page

    text = page(images, model)
    if file == STDOUT:
        click.echo(text, nl=False)
    else:
        _write_file(Path(file), text.encode("utf-8"))


def _write_file(path: Path, data: bytes) -> None:
    """Write a page whole or not at all; a device or a pipe takes it as it comes.

    Raises:
        PaloError: it cannot be written; an older file is as it was.
    """
    from palo_cpp.partial_files import partial_files

    if path.exists() and not path.is_file():
        try:
            path.write_bytes(data)
        except OSError as error:
            raise PaloError(f"{path}: could not write the page: {error.strerror}; choose another file") from error
        return
    path = path.resolve()  # a link stays one
    with partial_files(path.parent, len(data)) as files:
        unfinished = files.new(path.name)
        unfinished.write_bytes(data)
        files.publish({unfinished: path.name})


def _as_object(image: DescribedImage) -> dict[str, object]:
    if image.error:
        return {"image": image.name, "error": image.error}
    return {"image": image.name, "answers": {code: to_object(answer) for code, answer in image.answers.items()}}


class _Describing:
    """What is the same for all images of one call.

    Attributes:
        images: what was described, and what could not be described.
    """

    def __init__(
        self,
        languages: list[str] | None,
        sampling: SamplingOptions,
        bidi: BidiChoice,
        *,
        show_timings: bool,
        is_silent: bool,
        wants_pictures: bool,
    ) -> None:
        self._languages = languages
        self._sampling = sampling
        self._bidi = bidi
        self._show_timings = show_timings
        self._is_silent = is_silent
        self._wants_pictures = wants_pictures
        self.status = Status()
        self.images: list[DescribedImage] = []

    def attempt(self, palo: Palo, image: str, *, alone: bool) -> int:
        """Describe one image; report a failure on stderr.

        Returns:
            0, or 1 after a failure.
        """
        from palo_cpp.cli.page import DescribedImage

        try:
            self.status.show(f"describing {image}")
            self._describe(palo, image, alone)
        except PaloError as error:
            self.status.clear()
            print_error(str(error) if image.strip() in str(error) else f"{image}: {error}")
            self.images.append(DescribedImage(image, error=str(error)))
            return EXIT_FAILED
        return 0

    def _describe(self, palo: Palo, image: str, alone: bool) -> None:
        from palo_cpp.cli.page import described

        picture, languages = image_from(image), self._languages or list(palo.languages)
        if alone and len(languages) == 1 and not self._is_silent:
            answers = {languages[0]: self._stream(palo, picture, languages[0])}
        else:
            with shown_stages(self.status.show):
                answers = palo.describe(picture, lang=languages, **self._sampling.given())
            self.status.clear()
            self._print(image, answers)
        self.images.append(described(image, answers, picture if self._wants_pictures else None))

    def _stream(self, palo: Palo, picture: str | bytes, language: str) -> Answer:
        stream = palo.stream(picture, lang=language, **self._sampling.given())
        printer = AnswerPrinter(False, self._show_timings, self._bidi)
        answer = printer.print_pieces(stream, direction_for(language, None), self.status)
        if answer is None:
            raise KeyboardInterrupt
        printer.print_rest(answer)
        return answer

    def _print(self, image: str, answers: dict[str, Answer]) -> None:
        if not self._is_silent and not self._print_table(image, answers):
            for code, answer in answers.items():
                click.echo(f"== {image} · {LANGUAGES[code].own_name} ({code})")
                writer = AnswerWriter(LANGUAGES[code].direction, self._bidi)
                writer.write(answer.text)
                writer.finish()
        warn_about_all(answers)

    def _print_table(self, image: str, answers: dict[str, Answer]) -> bool:
        """Print a table if stdout is a terminal that can show one; return whether it was."""
        if len(answers) == 1 or not is_terminal(sys.stdout) or is_plain():
            return False
        from palo_cpp.cli.answer_table import can_tabulate, print_table

        bidi = terminal_bidi(self._bidi)
        if not can_tabulate(list(answers), bidi):
            return False
        print_table(image, answers, bidi)
        return True
