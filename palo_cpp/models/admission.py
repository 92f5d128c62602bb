"""Who answers now and who waits: so many answers at once, the others in the order in which they were asked for."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator

from palo_cpp.errors import AnswerStopped, BusyError

_FIRST_ANSWER_S = 10.0  # how long an answer takes, until some have ended
_N_REMEMBERED = 8
_LOOK_AGAIN_S = 0.5  # until those who wait see that an answer was dropped without being ended


class Admission:
    """The answers that a model makes at once, and a queue for the others.

    Args:
        n_running: answers at once.
        n_waiting: questions that wait at most; None takes any number.
    """

    def __init__(self, n_running: int = 1, n_waiting: int | None = None) -> None:
        self._n_most, self._n_waiting_most = n_running, n_waiting
        self._changed = threading.Condition(threading.Lock())
        self._tickets: list[weakref.ref[Ticket]] = []  # who runs, then who waits
        self._took_s: deque[float] = deque([_FIRST_ANSWER_S], maxlen=_N_REMEMBERED)

    @property
    def is_bounded(self) -> bool:
        """Whether questions may be refused: then streams wait for their turn, too."""
        return self._n_waiting_most is not None

    @property
    def n_running(self) -> int:
        """Answers under way that have taken their turn."""
        return min(len(self._tickets), self._n_most)

    @property
    def n_waiting(self) -> int:
        """Questions that wait."""
        return max(0, len(self._tickets) - self._n_most)

    def enter(self) -> Ticket:
        """Ask for a turn; `Ticket.wait` waits for it.

        Raises:
            BusyError: too many wait already.
        """
        with self._changed:
            self._forget_dropped()
            if self._n_waiting_most is not None and len(self._tickets) >= self._n_most + self._n_waiting_most:
                retry_after_s = max(1.0, sum(self._took_s) / len(self._took_s) / self._n_most)
                raise BusyError(
                    f"queue: expected at most {self._n_waiting_most} questions that wait, got one more; "
                    f"ask again in {retry_after_s:.0f} s",
                    retry_after_s,
                )
            ticket = Ticket(self)
            self._tickets.append(weakref.ref(ticket))
            return ticket

    def wait(self, ticket: Ticket) -> None:
        """See `Ticket.wait`."""
        with self._changed:
            while (place := self._place(ticket)) >= self._n_most:
                self._changed.wait(_LOOK_AGAIN_S)
                self._forget_dropped()
            if place < 0:
                raise AnswerStopped
            ticket.entered_at = time.perf_counter()

    def leave(self, ticket: Ticket) -> None:
        """See `Ticket.leave`."""
        with self._changed:
            if (place := self._place(ticket)) >= 0:
                del self._tickets[place]
                if ticket.entered_at is not None:
                    self._took_s.append(time.perf_counter() - ticket.entered_at)
                self._changed.notify_all()

    def _place(self, ticket: Ticket) -> int:
        return next((i for i, each in enumerate(self._tickets) if each() is ticket), -1)

    def _forget_dropped(self) -> None:
        self._tickets = [each for each in self._tickets if each() is not None]


class Ticket:
    """One answer's place; who drops it leaves.

    Attributes:
        entered_at: time.perf_counter() when its turn came.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.entered_at: float | None = None

    def wait(self) -> None:
        """Wait for its turn.

        Raises:
            AnswerStopped: it has left, in another thread.
        """
        self._admission.wait(self)

    def leave(self) -> None:
        """The answer has ended, or nobody wants it any more; the next one takes its turn."""
        self._admission.leave(self)

    def admit(self, pieces: Iterator[str]) -> Iterator[str]:
        """The pieces of an answer, when its turn has come; none where it has left before."""
        try:
            self.wait()
            yield from pieces
        except AnswerStopped:
            return
        finally:
            self.leave()
