"""Prints answers: as they come, or as JSON; what is notable about them goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from palo_cpp.cli.console import AnswerWriter, Status, notice, warn
from palo_cpp.cli.interrupt import InterruptWatch
from palo_cpp.cli.log import shown_stages
from palo_cpp.languages.detection import detect_language
from palo_cpp.languages.languages import LANGUAGES

if TYPE_CHECKING:
    from palo_cpp import Answer
    from palo_cpp.chat.answer import AnswerStream
    from palo_cpp.cli.bidi import BidiChoice

# Warnings about answers that the model did not end itself.
CUT_SHORT = {
    "repetition": "the answer was cut because the model only repeated itself; ask differently or try --temp 0.7",
    "length": "the answer was cut at {n} tokens; -n allows more",
    "context": "the answer was cut because the context is full; -c allows more, in chat older turns make room",
}


def direction_for(language: str | None, question: str | None) -> str:
    """The direction of the answer's text: that of `--lang`; without it, that of the question."""
    codes = {language} if language else detect_language(question or "")
    directions = {LANGUAGES[code].direction for code in codes}
    return "rtl" if directions == {"rtl"} else "ltr"


def print_answer(
    stream: AnswerStream, direction: str, status: Status, *, bidi: BidiChoice = "auto", silent: bool = False
) -> Answer | None:
    """Print an answer as it comes.

    Args:
        stream: from `Palo.stream` or `Chat.stream`.
        direction: "ltr" or "rtl".
        status: the line of stages on stderr; removed when the first piece comes.
        bidi: value of `--bidi`.
        silent: print nothing; the caller prints the whole answer another way.

    Returns:
        The answer; None if Ctrl-C ended it.
    """
    writer = AnswerWriter(direction, bidi)
    try:
        status.show("thinking")
        with InterruptWatch() as watch, shown_stages(status.show), stream:
            for piece in stream:
                watch.is_patient = True
                status.clear()
                if not silent:
                    writer.write(piece.text)
                if watch.requested:
                    return None
        return stream.answer
    except KeyboardInterrupt:
        return None
    finally:
        status.clear()
        writer.finish()


def warn_if_cut(answer: Answer) -> None:
    """Warn on stderr about an answer that the model did not end itself."""
    if answer.finish_reason in CUT_SHORT:
        warn(CUT_SHORT[answer.finish_reason].format(n=len(answer.token_ids)))


def warn_if_any_cut(answers: Mapping[str, Answer]) -> None:
    """`warn_if_cut` for answers in several languages: one line for each reason."""
    for reason, text in CUT_SHORT.items():
        cut = {code: answer for code, answer in answers.items() if answer.finish_reason == reason}
        if cut:
            n_tokens = max(len(answer.token_ids) for answer in cut.values())
            warn(f"{', '.join(cut)}: {text.format(n=n_tokens)}")


def warn_if_in_another_language(answer: Answer) -> None:
    """Warn on stderr about an answer that is not in the language that was asked for."""
    if answer.language_ok is False and answer.language:
        detected = f", but in {LANGUAGES[answer.language_detected]}" if answer.language_detected else ""
        warn(f"the answer is not in {LANGUAGES[answer.language]}{detected}")


def print_timings(answer: Answer) -> None:
    """Show on stderr what an answer cost."""
    timings = answer.timings
    n_new = timings.n_prompt_tokens - timings.n_cached_tokens
    stages = [
        f"{timings.early_s:.2f} s beforehand" if timings.early_s >= 0.005 else "",
        f"image {timings.image_s + timings.encode_s:.2f} s" if timings.encode_s else "",
        f"prompt {timings.prefill_s:.2f} s for {n_new} tokens",
        f"answer {timings.decode_s:.2f} s for {timings.n_generated} tokens ({timings.tokens_per_s:.1f}/s)",
    ]
    notice(f"[{', '.join(filter(None, stages))}]")


def to_json(value: Any) -> str:
    """One object as one line of JSON, its text not escaped."""
    return json.dumps(value, ensure_ascii=False)
