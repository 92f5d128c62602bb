"""Answers that threads wait for, decoded together: each step takes a row of all of them, so weights are read once.

No thread owns the model. Who wants rows puts a job into the queue; whoever finds no step under way takes the next one,
for all jobs there are, and wakes the others. A thread alone takes its own steps, one after the other, and never waits.
With others, a step waits a moment for the answers that were in the last one, for they come with their next tokens as
soon as they have chosen them. One that took longer last time (somebody reads it slowly) is not waited for.

Steps that several threads take run in one thread of their own: OpenMP makes a team of threads for every thread that
computes, and idle teams would spin beside the one that works.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from math import inf

from palo_cpp.errors import AnswerStopped
from palo_cpp.llm.cursor import Cursor
from palo_cpp.llm.jobs import Job, PromptJob
from palo_cpp.llm.sequence_pool import Context
from palo_cpp.llm.step import Stepper

# How long a step waits for answers of the last one: a share of what a step takes, and bounds in seconds.
_PATIENCE, _SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.25, 2e-3, 50e-3


class Scheduler:
    """The queue of one context.

    Args:
        model: the context, whose lock is held during a step.
        stepper: decodes what the jobs ask for.
    """

    def __init__(self, model: Context, stepper: Stepper) -> None:
        self._model, self._stepper = model, stepper
        self._changed = threading.Condition(threading.Lock())
        self._jobs: list[Job] = []
        self._leader: int | None = None  # the thread that takes a step
        self._n_visitors = 0
        self._last: list[weakref.ref[Cursor]] = []  # answers of the last step
        self._ended_at = 0.0
        self._step_s = 0.0
        self._first_thread: int | None = None
        self._decoder: ThreadPoolExecutor | None = None  # once a second thread has come

    # ---- jobs

    def run(self, jobs: Sequence[Job]) -> None:
        """Wait until some of an answer's jobs, or of several answers', are done; the others stay in the queue.

        Args:
            jobs: at least one; those that are in the queue already keep their place.

        Raises:
            AnswerStopped: nobody waits for one of them any more.
            Exception: what went wrong.
        """
        lock = self._model.lock  # refuses a forked child, whose threads are not there
        try:
            with self._changed:
                self._enqueue(jobs)
            while not any(job.is_done for job in jobs):
                self._take_step(lock)
        except BaseException:  # Ctrl-C, too: nobody waits for them now
            self._withdraw(jobs)
            raise
        for job in jobs:
            if job.error is not None:
                self._withdraw(jobs)
                raise job.error

    def _enqueue(self, jobs: Sequence[Job]) -> None:
        now, me = time.perf_counter(), threading.get_ident()
        if self._first_thread is None:
            self._first_thread = me
        elif self._decoder is None and me != self._first_thread:
            self._decoder = ThreadPoolExecutor(1, thread_name_prefix="palo-cpp steps")
        for job in jobs:
            if job not in self._jobs:
                job.cursor.lag_s = now - job.cursor.served_at if job.cursor.served_at else 0.0
                self._jobs.append(job)
        self._changed.notify_all()

    def _withdraw(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            self._jobs = [job for job in self._jobs if job not in jobs]
            self._changed.notify_all()

    def forget(self, cursor: Cursor) -> None:
        """An answer has ended or was stopped: nobody waits for its next token, and who waits for it now comes back."""
        with self._changed:
            self._last = [each for each in self._last if each() not in (None, cursor)]
            self._changed.notify_all()

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Hold the context for something that is quickly done, when the step under way has ended.

        The next step waits for it: without that, steps in quick succession would let nobody else in.
        """
        lock, me = self._model.lock, threading.get_ident()  # a forked child is refused, whose threads are not there
        with self._changed:
            self._n_visitors += 1
            self._changed.notify_all()
        try:
            with self._changed:
                while self._leader not in (None, me):
                    self._changed.wait()
                self._leader = me
            with lock:
                yield
        finally:
            with self._changed:
                self._n_visitors -= 1
                self._leader = None if self._leader == me else self._leader
                self._changed.notify_all()

    # ---- steps

    def _take_step(self, lock: threading.RLock) -> None:
        """Take the next step for all, or wait for the end of the one that another thread is taking."""
        me = threading.get_ident()
        try:
            with self._changed:
                is_visitor = self._leader == me  # it decodes something between two steps
                if self._leader not in (None, me) or (self._n_visitors and not is_visitor):
                    self._changed.wait()
                    return
                self._leader = me
                self._gather()
                if self._n_visitors and not is_visitor:  # perhaps they say that nobody need wait for them
                    return
                jobs = list(self._jobs)
                is_alone = len(jobs) == 1 and not self._absent(jobs)
            if jobs:
                begun_at = time.perf_counter()
                if self._decoder is None or is_visitor:  # a visitor holds the lock itself
                    self._step(lock, jobs, is_alone)
                else:
                    _wait(self._decoder.submit(self._step, lock, jobs, is_alone))
                self._step_s = time.perf_counter() - begun_at
        finally:
            if self._leader == me:
                with self._changed:
                    self._leader = None
                    self._settle()
                    self._changed.notify_all()

    def _step(self, lock: threading.RLock, jobs: Sequence[Job], is_alone: bool) -> None:
        with lock:
            self._stepper.step(self._without_stopped(jobs), is_alone=is_alone)

    def _without_stopped(self, jobs: Sequence[Job]) -> list[Job]:
        for job in jobs:
            # After each token, Decoding asks by itself.
            if not job.is_done and (job.cursor.is_over if isinstance(job, PromptJob) else job.cursor.is_stopped):
                job.fail(AnswerStopped())
        return [job for job in jobs if not job.is_done]

    def _settle(self) -> None:
        """Take what is done out of the queue, and remember who is expected back."""
        done = [job for job in self._jobs if job.is_done]
        if not done:
            return
        self._ended_at = now = time.perf_counter()
        self._jobs = [job for job in self._jobs if not job.is_done]
        for job in done:
            job.cursor.served_at, job.cursor.thread = now, job.thread
        self._last = [weakref.ref(job.cursor) for job in done if job.has_logits]

    # ---- others

    def _gather(self) -> None:
        """Wait a moment for answers of the last step."""
        patience_s = min(max(_PATIENCE * self._step_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
        until = self._ended_at + patience_s
        while late := [cursor for cursor in self._absent(self._jobs) if cursor.lag_s <= patience_s]:
            if self._n_visitors:
                return
            left_s = until - time.perf_counter()
            if left_s <= 0 or not self._changed.wait(left_s):
                for cursor in late:
                    cursor.lag_s = inf
                return

    def _absent(self, jobs: Sequence[Job]) -> list[Cursor]:
        """Answers of the last step that other threads go on with, and that are not among these jobs."""
        here, me = [job.cursor for job in jobs], threading.get_ident()
        last = [each() for each in self._last]
        if last == here:  # as with a thread alone
            return []
        return [each for each in last if each is not None and each not in here and each.thread != me]

    def is_alone(self, cursor: Cursor) -> bool:
        """Whether no other answer is being decoded beside this one."""
        with self._changed:
            last = [each() for each in self._last]
            me = threading.get_ident()
            others = [each for each in last if each not in (None, cursor) and each.thread != me]
            return not others and not any(job.cursor is not cursor for job in self._jobs)

    @property
    def n_jobs(self) -> int:
        """Jobs in the queue."""
        return len(self._jobs)


def _wait(step: Future[None]) -> None:
    """Wait for a step's end, after Ctrl-C, too: nothing else may happen beside it.

    Raises:
        Exception: what went wrong in it.
    """
    try:
        step.result()
    finally:
        wait([step])
