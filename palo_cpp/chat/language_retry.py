"""Keeps the promise of `--lang`: an answer that begins in another language is thrown away, and asked for once more.

What was shown cannot be taken back, so nothing is shown before the language can be told. Under `strict`, a language
whose script no other of the ten has needs no check: the mask over the vocabulary decides it. Under `prefer`, its first
word tells. Otherwise the beginning is held back: three words where they are certainly in the language, eight at most. A
caller that waits for the whole answer anyway has all of it checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from palo_cpp.errors import ArgumentError
from palo_cpp.languages.detection import count_words, detect_language, is_in_language
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.languages.scripts import ACCENT

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer, Timings
    from palo_cpp.chat.answer_run import Answering

_MIN_WORDS, _MAX_WORDS = 3, 8


def needs_check(code: str, mode: str) -> bool:
    """Whether an answer in a language may turn out to be in another, which `lang_mode` does not leave alone."""
    return mode == "prefer" or (mode == "strict" and not is_told_by_script(code))


@functools.cache
def is_told_by_script(code: str) -> bool:
    """Whether no other of the ten languages is written in any of the letters of this one."""
    letters = set(LANGUAGES[code].letters) - {ACCENT}
    return not any(letters & set(other.letters) for other in LANGUAGES.values() if other.code != code)


def judge_beginning(text: str, code: str) -> bool | None:
    """Whether an answer that begins like this is in a language.

    Args:
        text: the beginning; its last word may not be whole.
        code: of the language.

    Returns:
        True: yes, or eight words did not tell; False: it is in another; None: more text is needed.
    """
    whole = text if {"Hani"} & set(LANGUAGES[code].letters) else text[: len(text) - len(text.split(" ")[-1])]
    n_words = count_words(whole)
    if n_words >= _MAX_WORDS:
        return is_in_language(whole, code) is not False
    is_enough = n_words >= (1 if is_told_by_script(code) else _MIN_WORDS)
    return True if is_enough and detect_language(whole) == {code} else None


class KeptLanguage:
    """Drives one `Answering`, and where its language is wrong, a second one.

    Args:
        answering: the first attempt.
        code: of the language that was asked for.
        insist: makes the second attempt, whose question asks more strongly; an `ArgumentError` where there is no room.
        shows_at_once: whether the caller shows text as it comes; otherwise all is held back until it is checked.
    """

    def __init__(
        self, answering: Answering, code: str, insist: Callable[[], Answering], *, shows_at_once: bool
    ) -> None:
        self._answering = answering
        self._code = code
        self._insist = insist
        self._shows_at_once = shows_at_once
        self._thrown_away: Timings | None = None
        self._has_shown = False

    def pieces(self) -> Iterator[str]:
        """Text that is certain to stay."""
        attempt = self._answering.pieces()
        held, verdict = "", None
        for piece in attempt:
            held += piece
            verdict = judge_beginning(held, self._code) if verdict is None else verdict
            if verdict is False:
                break
            if verdict and self._shows_at_once:
                yield from self._shown(held)
                held = ""
        if held and (verdict is False or is_in_language(held, self._code) is False) and self._begin_again():
            attempt, held = self._answering.pieces(), ""
        yield from self._shown(held)
        for piece in attempt:
            yield from self._shown(piece)

    def _shown(self, text: str) -> Iterator[str]:
        self._has_shown = self._has_shown or bool(text)
        if text:
            yield text

    def _begin_again(self) -> bool:
        try:
            second = self._insist()
        except ArgumentError:  # the longer question does not fit into the context
            return False
        self._thrown_away = self._answering.timings()
        self._answering.discard()
        self._answering = second
        return True

    def finish(self, was_cut: bool) -> Answer:
        """Make the answer and enter it into the conversation, unless the user stopped it before anything was shown."""
        if was_cut and not self._has_shown:
            self._answering.discard()
        answer = self._answering.finish(was_cut)
        return replace(answer, timings=with_retry(answer.timings, self._thrown_away)) if self._thrown_away else answer


def with_retry(kept: Timings, thrown_away: Timings) -> Timings:
    """What an answer cost that was the second attempt: reading and encoding of both, the decoding apart.

    What stood in the KV cache is what stood there when the question came.
    """
    return replace(
        kept,
        image_s=thrown_away.image_s,
        encode_s=thrown_away.encode_s + kept.encode_s,
        prefill_s=thrown_away.prefill_s + kept.prefill_s,
        early_s=thrown_away.early_s,
        retry_s=thrown_away.decode_s,
        n_retries=1,
        n_images_encoded=thrown_away.n_images_encoded + kept.n_images_encoded,
        n_cached_tokens=thrown_away.n_cached_tokens,
    )
