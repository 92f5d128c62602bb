"""Descriptions as one HTML page that needs nothing else: no script, no other file, no network.

Answers and file names are untrusted text: all of it is escaped, and the page's own policy keeps whatever might slip
through from loading or running anything. Each answer carries its language and direction, so that a browser picks the
right font and order and a screen reader the right voice.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from palo_cpp.cli.console import printable
from palo_cpp.languages.languages import LANGUAGES

if TYPE_CHECKING:
    from palo_cpp import Answer
    from palo_cpp.vision.image import ImageSource

# The longer side of the embedded picture in pixels, and its JPEG quality: some 40 kB for a photo.
_THUMBNAIL_SIZE, _THUMBNAIL_QUALITY = 640, 80
_NOTES = {
    "length": "Cut at the longest answer that was allowed.",
    "context": "Cut because the context was full.",
    "repetition": "Cut where it began to repeat itself.",
}
_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 22%, transparent); }
body { font: 1rem/1.6 system-ui, "Noto Sans", sans-serif; margin: 0 auto; max-width: 84rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; overflow-wrap: anywhere; }
section { border-top: 1px solid var(--line); margin-block: 1.5rem; }
section > img { display: block; max-width: 100%; max-height: 24rem; width: auto; height: auto; border-radius: .4rem; }
.answers { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); }
.answers { margin-block: 1rem; }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem 1rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 0 0 .4rem; } h3 span, .note { font-weight: normal; font-size: .85rem; opacity: .75; }
p { margin: 0 0 .5rem; }
:lang(ur) { line-height: 2.2; }
article:lang(ur) { font-family: "Noto Nastaliq Urdu", "Jameel Noori Nastaleeq", "Urdu Typesetting", serif; }
article:lang(ar) { font-family: "Noto Naskh Arabic", "Geeza Pro", "Segoe UI", serif; }
[lang=en][dir=ltr] { font-family: system-ui, "Noto Sans", sans-serif; line-height: 1.6; }
"""


@dataclass(frozen=True)
class DescribedImage:
    """One image of the page.

    Attributes:
        name: as the user named it.
        picture: a small copy as a data URI; "" if there is none.
        size: (width, height) of that copy.
        answers: language code -> answer.
        error: why there are none.
    """

    name: str
    picture: str = ""
    size: tuple[int, int] = (0, 0)
    answers: Mapping[str, Answer] = field(default_factory=dict)
    error: str = ""


def described(name: str, answers: Mapping[str, Answer], source: ImageSource | None = None) -> DescribedImage:
    """An image with its answers and, if the image itself is given, a small copy of it.

    Raises:
        ImageError: it cannot be read.
    """
    if source is None:
        return DescribedImage(name, answers=answers)
    from palo_cpp.vision.image import open_image

    small = open_image(source)
    small.thumbnail((_THUMBNAIL_SIZE, _THUMBNAIL_SIZE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_THUMBNAIL_QUALITY)
    uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return DescribedImage(name, uri, small.size, answers)


def page(images: Sequence[DescribedImage], model: str) -> str:
    """The whole page.

    Args:
        images: in order.
        model: its name.
    """
    title = f"Descriptions of {_text(images[0].name) if len(images) == 1 else f'{len(images)} images'}"
    parts = [
        "<!doctype html>",
        '<html lang="en" dir="ltr">',
        '<head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style></head>",
        f"<body><main><h1>{title}</h1>",
        f'<p class="note">Made by <bdi>{_text(model)}</bdi> with palo-cpp. A machine wrote these texts; they may be '
        "wrong.</p>",
        *(part for n, image in enumerate(images, start=1) for part in _section(n, image)),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _section(n: int, image: DescribedImage) -> Iterator[str]:
    name = _text(image.name)
    yield f'<section aria-labelledby="image-{n}">'
    yield f'<h2 id="image-{n}"><bdi>{name}</bdi></h2>'
    if image.picture:
        width, height = image.size
        alt = f"{name}, described below in {_count(image.answers)}"
        yield f'<img src="{image.picture}" width="{width}" height="{height}" alt="{alt}">'
    if image.error:
        yield f'<p role="alert">{_text(image.error)}</p>'
    if image.answers:
        yield '<div class="answers">'
        for code, answer in image.answers.items():
            yield from _article(code, answer)
        yield "</div>"
    yield "</section>"


def _article(code: str, answer: Answer) -> Iterator[str]:
    language = LANGUAGES[code]
    yield f'<article lang="{language_tag(code)}" dir="{language.direction}">'
    english = "" if code == "en" else f' <span lang="en" dir="ltr">{_text(language.english_name)}</span>'
    yield f"<h3>{_text(language.own_name)}{english}</h3>"
    for line in filter(str.strip, answer.text.split("\n")):
        yield f"<p>{_text(line)}</p>"
    for note in _notes(answer):
        yield f'<p class="note" lang="en" dir="ltr">{note}</p>'
    yield "</article>"


def _notes(answer: Answer) -> Iterator[str]:
    if answer.finish_reason in _NOTES:
        yield _NOTES[answer.finish_reason]
    if answer.language_ok is False:
        yield "Not in the language that was asked for."


def language_tag(code: str) -> str:
    """BCP 47 tag; Chinese names its script, which decides the font."""
    return f"{code}-Hans" if LANGUAGES[code].script == "Hans" else code


def _count(answers: Mapping[str, Answer]) -> str:
    return f"{len(answers)} languages" if len(answers) != 1 else LANGUAGES[next(iter(answers))].english_name


def _text(text: str) -> str:
    """Untrusted text as HTML, for elements and for attributes in quotation marks alike."""
    valid = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # a file's name may be no UTF-8
    return html.escape(printable(valid), quote=True)
