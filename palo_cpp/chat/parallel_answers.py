"""Several questions about one image, answered side by side: each step decodes a token of every answer.

All are answers like any others, whose jobs one thread hands over together (llm/scheduler.py). The prefix that their
prompts share is prefilled first, so that it is decoded once. Where the context does not hold all answers at once, the
last ones wait, and an answer that must give way is prefilled again later: none is cut shorter than it would be alone.
An answer that begins in another language than it should is begun again, as `kept_answer` does it for one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palo_cpp.chat.answer import Answer, Timings
from palo_cpp.chat.answer_run import answer_from
from palo_cpp.chat.language_policy import LanguageWatch, Plan, with_retry
from palo_cpp.chat.prompt_run import PromptRun, stages
from palo_cpp.decoding.decoding import Decoding
from palo_cpp.errors import AnswerStopped, ArgumentError
from palo_cpp.llm.cursor import Cursor
from palo_cpp.llm.jobs import Job, PromptJob, TokenJob
from palo_cpp.segments import Cell, Segment, TextSegment, cells_of, n_common

if TYPE_CHECKING:
    from palo_cpp.models.loaded_model import LoadedModel

# Tokens that each answer should be able to add before one must give way again. Giving way costs reading an answer's
# text once more, which takes about as long as this many steps do.
_HEADROOM = 32


@dataclass
class _Fork:
    """One answer on its way.

    Attributes:
        plan: what is asked, and how its language is kept.
        decoding: chooses the answer's tokens.
        watch: follows its language; the second attempt is not watched.
        cursor: its place in the context.
        n_shared: cells of the common prefix that its prompt begins with: all, but perhaps for a second attempt.
        job: what it waits for; None while it waits to be admitted.
        prefill_s: its share of the questions' prefill.
        ended_at: time.perf_counter() at its last token.
        first_attempt: what the first attempt cost, in a second one.
    """

    plan: Plan
    decoding: Decoding
    watch: LanguageWatch
    cursor: Cursor
    n_shared: int
    job: Job | None = None
    prefill_s: float = 0.0
    ended_at: float = 0.0
    first_attempt: Timings | None = None

    @property
    def has_token(self) -> bool:
        """Whether its last token was chosen already, and is not among its cells."""
        return len(self.cursor.cells) < self.plan.request.n_prompt + len(self.decoding.token_ids)

    def is_in_wrong_language(self) -> bool:
        """Judged as it comes and once more at its end; a second attempt stays whatever it is in."""
        return self.first_attempt is None and self.watch.take(self.decoding.text, is_whole=self.decoding.is_finished)


class ParallelAnswers:
    """Answers requests that differ in their last text only.

    Args:
        model: of a family that reuses prefixes.
        plans: one for each answer; at least one.
    """

    def __init__(self, model: LoadedModel, plans: Sequence[Plan]) -> None:
        assert model.prefix is not None  # else there is no prefix to share
        self._loaded = model
        self._cache, self._model = model.prefix.cache, model.prefix.model
        self._prefix, self._prefix_cells = shared_prefix([plan.request.segments for plan in plans])
        self._prompt = PromptRun(self._cache, model.embedder, should_stop=plans[0].request.options.should_stop)
        self._forks = [self._fork(plan) for plan in plans]
        self._waiting = deque(self._forks)
        self._running: list[_Fork] = []

    def _fork(self, plan: Plan, first_attempt: Timings | None = None) -> _Fork:
        cells = cells_of(plan.request.segments)
        n_shared = min(n_common(self._prefix_cells, cells), len(cells) - 1)
        decoding = Decoding(self._model, plan.request.options, plan.policy.masks())
        cursor = Cursor(plan.request.segments, cells)
        return _Fork(plan, decoding, plan.policy.watch(), cursor, n_shared, first_attempt=first_attempt)

    def run(self) -> list[Answer]:
        """Answer all; in the order of the plans.

        Raises:
            ModelFormatError: the logits are not numbers.
            OutOfMemoryError: llama.cpp could not decode.
        """
        try:
            self._prompt.prefill(self._prefix)
            while self._waiting or self._running:
                self._admit()
                self._step()
        except AnswerStopped:
            for fork in self._forks:
                if not fork.decoding.is_finished:
                    self._end(fork, "cancelled")
        finally:  # after Ctrl-C and errors, too: the conversation finds its context as it left it
            for fork in self._forks:
                self._cache.release(fork.cursor, is_kept=False)
            self._prompt.release()
        return [self._answer(fork) for fork in self._forks]

    def _admit(self) -> None:
        """Take in as many that wait as there is room for; one at least, which alone always fits."""
        n_promised = sum(self._n_missing(fork) + _HEADROOM for fork in self._running)
        while self._waiting:
            fork = self._waiting[0]
            n_promised += self._n_missing(fork) + _HEADROOM
            if self._running and n_promised > self._model.n_free:
                return
            fork.job = PromptJob(fork.cursor, embeddings=self._prompt.images.embeddings)
            self._running.append(self._waiting.popleft())

    @staticmethod
    def _n_missing(fork: _Fork) -> int:
        """Cells that it still needs beyond those it shares."""
        return len(fork.cursor.cells) - fork.n_shared if fork.cursor.is_displaced else 0

    def _step(self) -> None:
        """Bring those whose prompts are not prefilled to their end; else take the next token of each that runs."""
        begun_at = time.perf_counter()
        forks = [fork for fork in self._running if isinstance(fork.job, PromptJob)] or list(self._running)
        self._cache.advance_some([fork.job for fork in forks if fork.job])
        elapsed_s = time.perf_counter() - begun_at
        for fork in forks:
            if fork.decoding.first_token_at is None:
                fork.prefill_s += elapsed_s / len(forks)
            if fork.job and fork.job.is_done:
                self._take(fork, fork.job)

    def _take(self, fork: _Fork, job: Job) -> None:
        """Choose the next token, where the last one's logits are there."""
        logits = job.logits if isinstance(job, TokenJob) else fork.cursor.logits
        if logits is None:  # it had to give way, and goes on when there is room again
            self._leave(fork)
            self._waiting.appendleft(fork)
        elif isinstance(job, PromptJob) and not job.is_read:
            self._prompt.images.encode(self._cache.images_to_prefill(job.segments))
            fork.job = PromptJob(fork.cursor, embeddings=self._prompt.images.embeddings)
        elif isinstance(job, PromptJob) and fork.has_token:
            fork.job = TokenJob(fork.cursor, token=fork.decoding.token_ids[-1])
        else:
            fork.decoding.take(logits)
            if len(fork.decoding.token_ids) > self._model.n_ctx - fork.plan.request.n_prompt:  # the last needs no room
                fork.decoding.end("context")
            fork.job = TokenJob(fork.cursor, token=fork.decoding.token_ids[-1] if fork.decoding.token_ids else -1)
            if fork.decoding.is_finished:
                fork.decoding.finish()
            self._settle(fork)

    def _settle(self, fork: _Fork) -> None:
        """Let an answer go that has ended, and begin one again that is in another language."""
        fork.ended_at = time.perf_counter()
        plan = fork.plan.policy.second_plan() if fork.is_in_wrong_language() else None
        if plan is not None:
            second = self._fork(plan, self._timings(fork))
            self._forks[self._forks.index(fork)] = second
            self._waiting.append(second)
        if plan is not None or fork.decoding.is_finished:
            self._leave(fork)
            self._cache.release(fork.cursor, is_kept=False)
            n_ended = sum(each.decoding.is_finished for each in self._forks)
            stages.info("answering: %d of %d are ready", n_ended, len(self._forks))

    def _leave(self, fork: _Fork) -> None:
        self._running.remove(fork)
        fork.job = None

    def _end(self, fork: _Fork, reason: str) -> None:
        fork.decoding.end(reason)
        fork.decoding.finish()
        fork.ended_at = time.perf_counter()

    def _answer(self, fork: _Fork) -> Answer:
        timings = self._timings(fork)
        if fork.first_attempt is not None:
            timings = with_retry(timings, fork.first_attempt)
        return answer_from(self._loaded, fork.plan.request, fork.decoding, timings)

    def _timings(self, fork: _Fork) -> Timings:
        """What one attempt cost; the common prefix counts with the first answer, for the others it was cached."""
        is_first = fork is self._forks[0] and fork.first_attempt is None
        request = fork.plan.request
        first_at = fork.decoding.first_token_at or fork.ended_at
        return Timings(
            image_s=request.image_s,
            encode_s=self._prompt.images.elapsed_s if is_first else 0.0,
            prefill_s=fork.prefill_s + (self._prompt.prefill_s if is_first else 0.0),
            decode_s=fork.ended_at - first_at,
            first_token_s=first_at - request.started_at + request.image_s,
            n_images_encoded=self._prompt.images.n_encoded if is_first else 0,
            n_prompt_tokens=request.n_prompt,
            n_cached_tokens=self._prompt.n_cached if is_first else fork.n_shared,
            n_generated=fork.decoding.n_generated,
            n_parallel=len(self._forks),
        )


def shared_prefix(prompts: Sequence[Sequence[Segment]]) -> tuple[list[Segment], list[Cell]]:
    """What all prompts begin with, as segments and as cells; each prompt goes on with one token of text at least.

    Raises:
        ArgumentError: after what they share, one has an image.
    """
    all_cells = [cells_of(prompt) for prompt in prompts]
    n_shared = min(n_common(all_cells[0], cells) for cells in all_cells)
    n_shared = min(n_shared, *(len(cells) - 1 for cells in all_cells))
    if not all(isinstance(cell, int) for cells in all_cells for cell in cells[n_shared:]):
        raise ArgumentError("prompts: expected the same images in each, got others; ask about each image alone")
    return _beginning(prompts[0], n_shared), all_cells[0][:n_shared]


def _beginning(segments: Sequence[Segment], n_cells: int) -> list[Segment]:
    """The first cells of a prompt; the cut is never inside an image, where prompts do not part."""
    beginning: list[Segment] = []
    for segment in segments:
        if n_cells <= 0:
            break
        beginning.append(TextSegment(segment.tokens[:n_cells]) if isinstance(segment, TextSegment) else segment)
        n_cells -= len(segment)
    return beginning
