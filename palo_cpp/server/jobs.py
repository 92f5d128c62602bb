"""The desk where requests wait for their turn, and the threads that work for them.

One thread pulls one answer at full speed into a queue without end (an answer has an end), from which its response is
written: a slow reader never holds the model. Whoever leaves is not worked for any more.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from palo_cpp.errors import PaloError
from palo_cpp.server.refusals import Refusal, busy

logger = logging.getLogger("palo_cpp.server")


@dataclass(frozen=True)
class Begun:
    """The question is known to be answerable; what comes is its answer."""


@dataclass(frozen=True)
class Text:
    """Whole characters of one answer; `key` says of which."""

    key: Any
    text: str


@dataclass(frozen=True)
class Done:
    """One part of a job has ended; `result` is what came of it, `is_last` says whether that was all of it."""

    key: Any
    result: Any
    is_last: bool = True


@dataclass(frozen=True)
class Failed:
    """It could not be done."""

    error: BaseException


Event = Begun | Text | Done | Failed
Work = Callable[["Job"], None]


class Job:
    """One piece of work, for the thread that does it.

    Args:
        work: what to do; it says through `emit` what comes of it.
        tell: takes its events.
    """

    def __init__(self, work: Work, tell: Callable[[Event], None]) -> None:
        self._work = work
        self._stop = threading.Event()
        self.emit = tell

    def is_cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._stop.set()

    def run(self) -> None:
        """Do it."""
        if self.is_cancelled():
            self.emit(Failed(stopping()))
            return
        try:
            self._work(self)
        except Exception as error:
            if not isinstance(error, (PaloError, Refusal)):
                logger.error("a request could not be answered: %s", type(error).__name__, exc_info=error)
            self.emit(Failed(error))


class Ticket:
    """What the server holds of the work for one request.

    Attributes:
        events: what has come of it.
    """

    def __init__(self, desk: Desk, works: Sequence[Work]) -> None:
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.jobs = [Job(work, self._tell) for work in works]

    def _tell(self, event: Event) -> None:
        try:
            self._loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the server is gone
            for job in self.jobs:
                job.cancel()

    def cancel(self) -> None:
        """Nobody waits for it any more: what runs ends within a step, what waits never begins."""
        for job in self.jobs:
            job.cancel()
        self._desk.forget(self.jobs)

    async def results(self) -> dict[Any, Any]:
        """Wait for all parts.

        Returns:
            Their results by key.

        Raises:
            Exception: what went wrong in one of them.
        """
        found: dict[Any, Any] = {}
        while True:
            event = await self.events.get()
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Done):
                found[event.key] = event.result
                if len(found) == len(self.jobs):
                    return found


def stopping() -> Refusal:
    """The server is about to end."""
    return busy("server: expected one that goes on, got one that is being stopped; try again later")


class Desk:
    """Admits work: so much at once, so much waiting, in the order of arrival.

    Args:
        n_running: threads.
        n_waiting: jobs that wait beside those that run.
    """

    def __init__(self, n_running: int, n_waiting: int) -> None:
        self._n_max, self._n_waiting = n_running, n_waiting
        self._changed = threading.Condition()
        self._running: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._is_closing = False
        self.n_refused = 0

    @property
    def n_running(self) -> int:
        """Jobs that are being worked on."""
        return len(self._running)

    @property
    def n_waiting(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def submit(self, *works: Work) -> Ticket:
        """Admit the work of one request.

        Raises:
            Refusal: there is no place, or the server is about to end.
        """
        ticket = Ticket(self, works)
        with self._changed:
            if self._is_closing:
                raise stopping()
            n_free = self._n_max - len(self._running) + self._n_waiting - len(self._waiting)
            if len(works) > n_free:
                self.n_refused += 1
                raise busy(
                    f"server: expected a free place, got {len(self._running)} answers under way and "
                    f"{len(self._waiting)} waiting; try again later"
                )
            for job in ticket.jobs:
                if len(self._running) < self._n_max:
                    self._running.append(job)
                    threading.Thread(target=self._work, args=(job,), name="palo-cpp answer", daemon=True).start()
                else:
                    self._waiting.append(job)
        return ticket

    def _work(self, job: Job) -> None:
        following: Job | None = job
        while following is not None:
            following.run()
            with self._changed:
                self._running.remove(following)
                following = self._waiting.popleft() if self._waiting else None
                if following is not None:
                    self._running.append(following)
                self._changed.notify_all()

    def forget(self, jobs: Sequence[Job]) -> None:
        """Drop what still waits."""
        with self._changed:
            for job in jobs:
                if job in self._waiting:
                    self._waiting.remove(job)

    def close(self, grace_s: float) -> None:
        """Admit nothing more; let what runs end for a while, then end it. Returns when no thread works any more."""
        with self._changed:
            self._is_closing = True
            self._changed.wait_for(lambda: not self._running, grace_s)
            for job in (*self._running, *self._waiting):
                job.cancel()
            self._changed.wait_for(lambda: not self._running)
