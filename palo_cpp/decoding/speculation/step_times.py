"""What a second row and a draft cost and save on this machine with these models, measured as they run."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Literal, get_args

from palo_cpp.decoding.speculation.counts import Guess

_N_TIMED, _N_REMEMBERED = 15, 256  # steps that a median is of; steps after which their times are forgotten
_FIRST_COST = 0.15  # of the second row, in single steps, until it has been timed
_MARGIN = 0.02  # Python's own part
_SHORTEST_STEP = 2e-3  # seconds; of shorter ones Python's part is more than a guess saves

_FIRST_DRAFT_COST = 0.3  # of a draft model's step, in single steps, until it has been timed
_FIRST_GAIN = 0.5  # of a draft, until some were made
_DRAFT_MEMORY, _DRAFT_OBLIVION = 16, 1024  # drafts that the gain is a mean of; tokens until an old one is forgotten

Step = Literal["one row", "two rows", "draft"]


class StepTimes:
    """What a second row and a draft cost on this machine with these models, measured as they run."""

    def __init__(self) -> None:
        self._times = {step: deque[tuple[int, float]](maxlen=_N_TIMED) for step in get_args(Step)}
        self._n_steps = 0

    def note(self, step: Step, elapsed: float) -> None:
        """It took so many seconds."""
        self._n_steps += step != "draft"
        self._times[step].append((self._n_steps, elapsed))

    @property
    def cost(self) -> float:
        """Of the second row, in single steps."""
        one, two = self._median("one row"), self._median("two rows")
        return two / one - 1.0 if one and two else _FIRST_COST

    @property
    def draft_cost(self) -> float:
        """Of a draft, in single steps."""
        one, draft = self._median("one row"), self._median("draft")
        return draft / one if one and draft else _FIRST_DRAFT_COST

    def _median(self, step: Step) -> float | None:
        recent = [elapsed for n, elapsed in self._times[step] if n > self._n_steps - _N_REMEMBERED]
        return statistics.median(recent) if len(recent) > 2 else None

    @property
    def is_too_quick(self) -> bool:
        """Whether steps are so short that no guess pays."""
        one = self._median("one row")
        return one is not None and one < _SHORTEST_STEP

    def gain(self, guess: Guess | None) -> float:
        """What reading such a guess saves, in single steps; not above 0 where it does not pay."""
        return guess.probability - self.cost - _MARGIN if guess and not self.is_too_quick else 0.0


class DraftGain:
    """What a draft saves, in single steps, before its own cost: a mean over the last ones.

    Without drafts it drifts back to what is hoped for at first, so that from time to time one is tried.
    """

    def __init__(self) -> None:
        self.mean = _FIRST_GAIN

    def note(self, saved: float) -> None:
        """A draft saved so much."""
        self.mean += (saved - self.mean) / _DRAFT_MEMORY

    def drift(self) -> None:
        """A token came without one."""
        self.mean += (_FIRST_GAIN - self.mean) / _DRAFT_OBLIVION
