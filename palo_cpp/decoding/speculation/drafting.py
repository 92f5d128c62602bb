"""Asks a draft model for the next token, where that saves more than it costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Set
from typing import Protocol

from palo_cpp.decoding.speculation.counts import Guess
from palo_cpp.decoding.speculation.step_times import DraftGain, StepTimes
from palo_cpp.errors import PaloError

logger = logging.getLogger(__name__)

_N_READ_AT_ONCE = 8  # rows that a draft model prefills in the time of about one token that it saves


class Drafter(Protocol):
    """A draft model in one answer."""

    def take(self, token: int) -> None:
        """The answer continues with this token."""
        ...

    @property
    def n_answered(self) -> int:
        """Tokens of the answer until now."""
        ...

    @property
    def n_unread(self) -> int:
        """Positions that it must prefill before it can guess."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether all that it must prefill fits into its context."""
        ...

    def guess(self) -> Guess:
        """The likeliest next token, and how likely the draft model finds it."""
        ...


class Drafting:
    """Asks the draft model where that saves more than it costs.

    Args:
        draft: of one answer; None asks nobody.
        times: what steps cost.
        gain: what drafts saved until now.
        never: tokens that are never guessed.
        clock: seconds.

    Attributes:
        n_drafted: how often it was asked.
    """

    def __init__(
        self,
        draft: Drafter | None,
        times: StepTimes,
        gain: DraftGain,
        never: Set[int] = frozenset(),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._draft, self._times, self._gain, self._never, self._clock = draft, times, gain, never, clock
        self._drafted: Guess | None = None
        self.n_drafted = 0

    def take(self, token: int) -> None:
        """The answer continues with this token."""
        if self._draft is None:
            return
        if drafted := self._drafted:
            is_read = self._times.gain(drafted) > 0
            self._gain.note((drafted.token == token) - self._times.cost if is_read else 0.0)
            self._drafted = None
        else:
            self._gain.drift()
        self._draft.take(token)

    def better_than(self, guess: Guess | None) -> Guess | None:
        """What the draft model guesses, if asking it promises more than this guess, else this one."""
        draft = self._draft
        if draft is None or self._gain.mean - self._times.draft_cost <= max(self._times.gain(guess), 0.0):
            return guess
        # What it has not prefilled yet, the prompt most of all, must be won back by the rest of the answer. How long
        # that will be nobody knows: about as long as it has been, as with anything that may end at any time.
        n_unread = draft.n_unread
        if n_unread > _N_READ_AT_ONCE * draft.n_answered or not draft.has_room:
            return guess
        begun = self._clock()
        try:
            self._drafted = drafted = draft.guess()
        except PaloError:
            logger.warning("the draft model failed; the answer continues without it", exc_info=True)
            self._draft = None
            return guess
        if n_unread <= _N_READ_AT_ONCE:
            self._times.note("draft", self._clock() - begun)
        self.n_drafted += 1
        return guess if drafted.token in self._never else drafted
