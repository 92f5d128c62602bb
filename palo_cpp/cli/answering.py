"""Prints answers: as they come, or as JSON; what is notable about them goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from palo_cpp.cli.console import AnswerWriter, Status, notice, warn
from palo_cpp.cli.interrupt import InterruptWatch
from palo_cpp.cli.log import shown_stages
from palo_cpp.cli.plain import is_plain
from palo_cpp.languages.detection import detect_language
from palo_cpp.languages.languages import LANGUAGES

if TYPE_CHECKING:
    from palo_cpp import Answer
    from palo_cpp.chat.answer import AnswerStream, Timings
    from palo_cpp.cli.bidi import BidiChoice

# Asked without an image, a model describes one all the same.
NO_IMAGE = "no image is open: the model sees nothing"
# Warnings about answers that the model did not end itself.
CUT_SHORT = {
    "repetition": "the answer was cut because the model only repeated itself; ask differently or try --temp 0.7",
    "length": "the answer was cut at {n} tokens; -n allows more",
    "context": "the answer was cut because the context is full; -c allows more, in chat older turns make room",
}


@dataclass(frozen=True)
class AnswerPrinter:
    """How the answers of a command are printed.

    Attributes:
        as_json: as JSON, one object a line, once they are complete.
        show_timings: show after each answer what it cost.
        bidi: value of `--bidi`.
    """

    as_json: bool
    show_timings: bool
    bidi: BidiChoice = "auto"

    def print_pieces(self, stream: AnswerStream, direction: str, status: Status) -> Answer | None:
        """Print an answer as it comes; with `as_json`, only wait for it.

        Args:
            stream: from `Palo.stream` or `Chat.stream`.
            direction: "ltr" or "rtl".
            status: the line of stages on stderr; removed when the first piece comes.

        Returns:
            The answer; None if Ctrl-C ended it.
        """
        writer = AnswerWriter(direction, self.bidi)
        try:
            status.show("thinking")
            with InterruptWatch() as watch, shown_stages(status.show), stream:
                for piece in stream:
                    watch.is_patient = True
                    status.clear()
                    if not self.as_json:
                        writer.write(piece.text)
                    if watch.requested:
                        return None
            return stream.answer
        except KeyboardInterrupt:
            return None
        finally:
            status.clear()
            writer.finish()

    def print_rest(self, answer: Answer, *, known: str = "") -> None:
        """Print what is left to say about an answer: warnings, its JSON object, or its timings.

        Args:
            answer: the answer.
            known: a warning that was given before it.
        """
        for text in warnings_about(answer):
            if text != known:
                warn(text)
        if self.as_json:
            click.echo(to_json(to_object(answer)))
        elif self.show_timings:
            notice(timings_line(answer))


def direction_for(language: str | None, question: str | None) -> str:
    """The direction of the answer's text: that of `--lang`; without it, that of the question."""
    codes = {language} if language else detect_language(question or "")
    directions = {LANGUAGES[code].direction for code in codes}
    return "rtl" if directions == {"rtl"} else "ltr"


def warnings_about(answer: Answer) -> list[str]:
    """What a reader of the answer should know: no image was shown, it was cut, it is in another language."""
    texts = [] if answer.inputs.images or not answer.inputs.sees_images else [NO_IMAGE]
    if answer.finish_reason in CUT_SHORT:
        texts.append(CUT_SHORT[answer.finish_reason].format(n=len(answer.token_ids)))
    return [*texts, *_language_warning(answer)]


def warn_about_all(answers: Mapping[str, Answer]) -> None:
    """Warn about answers in several languages, by code: one line for each reason why some were cut."""
    for reason, text in CUT_SHORT.items():
        cut = {code: answer for code, answer in answers.items() if answer.finish_reason == reason}
        if cut:
            n_tokens = max(len(answer.token_ids) for answer in cut.values())
            warn(f"{', '.join(cut)}: {text.format(n=n_tokens)}")
    for answer in answers.values():
        for text in _language_warning(answer):
            warn(text)


def _language_warning(answer: Answer) -> list[str]:
    if answer.language_ok is not False or not answer.language:
        return []
    detected = f", but in {LANGUAGES[answer.language_detected]}" if answer.language_detected else ""
    return [f"the answer is not in {LANGUAGES[answer.language]}{detected}"]


def timings_line(answer: Answer) -> str:
    """What an answer cost, on one line."""
    timings = answer.timings
    if is_plain():
        return f"The answer took {timings.first_token_s + timings.decode_s:.1f} s."
    n_new = timings.n_prompt_tokens - timings.n_cached_tokens
    has_waited = timings.n_images_encoded or timings.encode_s >= 0.005  # or the embeddings were at hand
    stages = [
        f"{timings.early_s:.2f} s beforehand" if timings.early_s >= 0.005 else "",
        f"image {timings.image_s + timings.encode_s:.2f} s" if has_waited else "",
        f"prompt {timings.prefill_s:.2f} s for {n_new} tokens{_read_again(timings)}",
        f"answer {timings.decode_s:.2f} s for {timings.n_generated} tokens ({timings.tokens_per_s:.1f}/s)",
    ]
    return f"[{', '.join(filter(None, stages))}]"


def _read_again(timings: Timings) -> str:
    """What a follow-up question costs with a model that keeps nothing of a prompt."""
    n = timings.n_repeated_tokens
    return f", {n} of them read again (about {timings.repeated_s:.2f} s)" if n else ""


def to_object(answer: Answer) -> dict[str, Any]:
    """An answer for JSON, with its warnings."""
    return {**answer.to_dict(), "warnings": warnings_about(answer)}


def to_json(value: Any) -> str:
    """One object as one line of JSON, its text not escaped."""
    return json.dumps(value, ensure_ascii=False)
