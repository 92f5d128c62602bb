"""Drives one answer, and where its language is wrong, a second attempt at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from palo_cpp.chat.language_policy import with_retry

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer, Timings
    from palo_cpp.chat.answer_run import AnswerRun
    from palo_cpp.chat.language_policy import LanguagePolicy, Plan


class KeptAnswer:
    """Drives one `AnswerRun`, and where its language is wrong, a second one.

    Args:
        first: the first attempt.
        policy: what its language is held to.
        attempt: makes the second attempt.
        shows_at_once: whether the caller shows text as it comes; otherwise all is held back until it is checked.
    """

    def __init__(
        self, first: AnswerRun, policy: LanguagePolicy, attempt: Callable[[Plan], AnswerRun], *, shows_at_once: bool
    ) -> None:
        self._run = first
        self._policy = policy
        self._attempt = attempt
        self._shows_at_once = shows_at_once
        self._first_attempt: Timings | None = None
        self._has_shown = self._is_stopped = False

    def pieces(self) -> Iterator[str]:
        """Text that is certain to stay."""
        attempt, watch = self._run.pieces(), self._policy.watch()
        held = ""
        for piece in attempt:
            held += piece
            if watch.take(held):
                break
            if watch.is_right and self._shows_at_once:
                yield from self._shown(held)
                held = ""
        if held and watch.take(held, is_whole=True) and self._begin_again():
            attempt, held = self._run.pieces(), ""
        yield from self._shown(held)
        for piece in attempt:
            yield from self._shown(piece)

    def _shown(self, text: str) -> Iterator[str]:
        self._has_shown = self._has_shown or bool(text)
        if text:
            yield text

    def stop(self) -> None:
        """End it, from any thread."""
        self._is_stopped = True
        self._run.stop()

    def _begin_again(self) -> bool:
        second = None if self._is_stopped or self._run.is_cancelled else self._policy.second_plan()
        if second is None:
            return False
        self._first_attempt = self._run.timings()
        self._run.discard()
        self._run = self._attempt(second)
        if self._is_stopped:  # meanwhile
            self._run.stop()
        return True

    def finish(self, was_cut: bool) -> Answer:
        """Make the answer and enter it into the conversation, unless the user stopped it before anything was shown."""
        if was_cut and not self._has_shown:
            self._run.discard()
        answer = self._run.finish(was_cut)
        if self._first_attempt is None:
            return answer
        return replace(answer, timings=with_retry(answer.timings, self._first_attempt))
