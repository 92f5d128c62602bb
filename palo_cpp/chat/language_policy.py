"""How an answer is kept in its language: the mask, the second attempt, the verdict; for one answer or for several.

What was shown cannot be taken back, so nothing is shown before the language is certain. Under `strict`, a language
whose script no other of the ten has needs no check: the mask over the vocabulary decides it. Under `prefer`, its first
word decides. Otherwise the beginning is held back: three words where they are certainly in the language, eight at most.
A caller that waits for the whole answer anyway has all of it checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from palo_cpp.chat.request import Request
from palo_cpp.errors import ArgumentError
from palo_cpp.languages.detection import (
    count_words,
    detect_language,
    identify_language,
    is_in_language,
    only_language,
)
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.languages.scripts import ACCENT

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Timings
    from palo_cpp.decoding.language_constraint import LanguageConstraints
    from palo_cpp.decoding.token_constraint import TokenConstraint

_MIN_WORDS, _MAX_WORDS = 3, 8


@functools.cache
def is_determined_by_script(code: str) -> bool:
    """Whether no other of the ten languages is written in any of the letters of this one."""
    letters = set(LANGUAGES[code].letters) - {ACCENT}
    return not any(letters & set(other.letters) for other in LANGUAGES.values() if other.code != code)


def judge_beginning(text: str, code: str) -> bool | None:
    """Whether an answer that begins like this is in a language.

    Args:
        text: the beginning; its last word may not be whole.
        code: of the language.

    Returns:
        True: yes, or eight words did not decide; False: it is in another; None: more text is needed.
    """
    whole = text if {"Hani"} & set(LANGUAGES[code].letters) else text[: len(text) - len(text.split(" ")[-1])]
    n_words = count_words(whole)
    if n_words >= _MAX_WORDS:
        return is_in_language(whole, code) is not False
    is_enough = n_words >= (1 if is_determined_by_script(code) else _MIN_WORDS)
    return True if is_enough and detect_language(whole) == {code} else None


class Verdict(NamedTuple):
    """Which language an answer is in.

    Attributes:
        detected: its code; None where it cannot be determined, as of a number.
        is_ok: whether it is the one that was asked for; None where none was, or it cannot be determined.
    """

    detected: str | None
    is_ok: bool | None


def verdict(text: str, asked: str | None) -> Verdict:
    """Judge a whole answer.

    Args:
        text: the answer.
        asked: code of the language that was asked for; None where none was.
    """
    if asked is None:  # nobody asked: only what the rules decide at once, for the model takes a second to load
        return Verdict(only_language(text), None)
    return Verdict(identify_language(text), is_in_language(text, asked))


class LanguagePolicy:
    """Keeps the answers to one question in their language.

    Args:
        language: code; None where none was asked for.
        mode: `lang_mode` of `DecodingOptions`.
        constraints: makes the masks; None where the model has none.
        insist: makes the request that asks more strongly, an `ArgumentError` where there is no room for it.
    """

    def __init__(
        self,
        language: str | None,
        mode: str,
        constraints: LanguageConstraints | None,
        insist: Callable[[], Request],
    ) -> None:
        self.language = language
        self._mode = mode
        self._constraints = constraints
        self._insist = insist

    def masks(self) -> tuple[TokenConstraint, ...]:
        """Fresh constraints for one attempt: none where nothing is to be kept."""
        return self._constraints.of(self.language, self._mode) if self._constraints else ()

    @property
    def needs_check(self) -> bool:
        """Whether an answer may turn out to be in another language, which the mode does not leave alone."""
        if self.language is None or self._mode == "off":
            return False
        return self._mode == "prefer" or not is_determined_by_script(self.language)

    def watch(self) -> LanguageWatch:
        """For one attempt."""
        return LanguageWatch(self.language if self.needs_check else None)

    def second_plan(self) -> Plan | None:
        """What to ask after an answer in another language; None where the longer question does not fit."""
        try:
            return Plan(self._insist(), self)
        except ArgumentError:
            return None


class Plan(NamedTuple):
    """What to ask, and how its answer is kept in its language.

    Attributes:
        request: the question.
        policy: what its answer's language is held to.
    """

    request: Request
    policy: LanguagePolicy


class LanguageWatch:
    """Follows one attempt's text.

    Args:
        code: of the language that it must be in; None where it may be in any.

    Attributes:
        is_right: True: it is certain, or not to be checked; False: it is in another language; None: not known yet.
    """

    def __init__(self, code: str | None) -> None:
        self._code = code
        self.is_right: bool | None = True if code is None else None

    def take(self, text: str, *, is_whole: bool = False) -> bool:
        """Judge the text until now.

        Args:
            text: all of it.
            is_whole: whether no more will come: then all of it counts, also where its beginning was right.

        Returns:
            Whether it is in another language.
        """
        if self._code is None:
            return False
        if self.is_right is None:
            self.is_right = judge_beginning(text, self._code)
        if is_whole and self.is_right is not False:
            self.is_right = is_in_language(text, self._code) is not False
        return self.is_right is False


def with_retry(kept: Timings, first_attempt: Timings) -> Timings:
    """What an answer cost that was the second attempt: prefill and encoding of both, the decoding apart.

    What the KV cache held is what it held when the question came.
    """
    return replace(
        kept,
        image_s=first_attempt.image_s,
        encode_s=first_attempt.encode_s + kept.encode_s,
        prefill_s=first_attempt.prefill_s + kept.prefill_s,
        early_s=first_attempt.early_s,
        retry_s=first_attempt.decode_s,
        n_retries=1,
        n_images_encoded=first_attempt.n_images_encoded + kept.n_images_encoded,
        n_cached_tokens=first_attempt.n_cached_tokens,
    )
