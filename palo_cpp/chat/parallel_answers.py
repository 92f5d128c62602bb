"""Several questions about one image, answered side by side: each step decodes a token of every answer.

A sequence of the context holds the prefix that all prompts share, now and afterwards. Each answer continues from it in
a sequence of its own, which is freed when the answer ends. Where the context does not hold all answers at once, the
last ones wait, and an answer that must give way is prefilled again later: none is cut shorter than it would be alone.
An answer that begins in another language than it should is begun again, as `kept_answer` does it for one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from palo_cpp.chat.answer import Answer, Timings
from palo_cpp.chat.answer_run import answer_from
from palo_cpp.chat.language_policy import LanguageWatch, Plan, with_retry
from palo_cpp.chat.prompt_run import PromptRun, stages
from palo_cpp.decoding.decoding import Decoding
from palo_cpp.errors import ArgumentError
from palo_cpp.llm.context import N_SEQ_MAX
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
        n_shared: cells of the common prefix that its prompt begins with: all, but perhaps for a second attempt.
        question: tokens of the prompt after them.
        seq_id: its sequence; None while it waits.
        pending: tokens that its sequence does not hold yet.
        prefill_s: its share of the questions' prefill, by tokens.
        ended_at: time.perf_counter() at its last token.
        first_attempt: what the first attempt cost, in a second one.
    """

    plan: Plan
    decoding: Decoding
    watch: LanguageWatch
    n_shared: int
    question: list[int]
    seq_id: int | None = None
    pending: list[int] = field(default_factory=list)
    prefill_s: float = 0.0
    ended_at: float = 0.0
    first_attempt: Timings | None = None

    def __post_init__(self) -> None:
        self.pending = list(self.question)

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
        self._prompt = PromptRun(self._cache, model.embedder)
        self._forks = [self._fork(plan) for plan in plans]
        self._waiting = deque(self._forks)
        self._running: list[_Fork] = []
        self._source = 0
        self._free_ids: list[int] = []

    def _fork(self, plan: Plan, first_attempt: Timings | None = None) -> _Fork:
        cells = cells_of(plan.request.segments)
        n_shared = min(n_common(self._prefix_cells, cells), len(cells) - 1)
        question = [cell for cell in cells[n_shared:] if isinstance(cell, int)]
        decoding = Decoding(self._model, plan.request.options, plan.policy.masks())
        return _Fork(plan, decoding, plan.policy.watch(), n_shared, question, first_attempt=first_attempt)

    def run(self) -> list[Answer]:
        """Answer all; in the order of the plans.

        Raises:
            ModelFormatError: the logits are not numbers.
            OutOfMemoryError: llama.cpp could not decode.
        """
        with self._cache.turn:
            while True:
                cursor = self._prompt.prefill(self._prefix)
                # The model's lock, too: a stream in another thread would take room away between two steps.
                with self._model.lock:
                    if (source := self._cache.alone(cursor)) is not None:
                        self._decode_all(source)
                        break
        return [self._answer(fork) for fork in self._forks]

    def _decode_all(self, source: int) -> None:
        self._source = source
        self._free_ids = [i for i in range(N_SEQ_MAX - 1, -1, -1) if i != source]
        try:
            while self._waiting or self._running:
                self._make_room()
                self._admit()
                self._step()
        finally:  # after Ctrl-C and errors, too: the conversation finds its context as it left it
            self._prompt.release()
            for seq_id in range(N_SEQ_MAX):
                if seq_id != source:
                    self._model.remove(seq_id)

    def _make_room(self) -> None:
        """Let the last answers give way until each of the others can take its next step."""
        while len(self._running) > 1 and self._n_pending > self._model.n_free:
            fork = self._running[-1]
            self._leave(fork)
            fork.pending = [*fork.question, *fork.decoding.token_ids]
            self._waiting.appendleft(fork)

    def _admit(self) -> None:
        """Take in as many that wait as there is room for; one at least, which alone always fits."""
        while self._waiting and self._free_ids:
            fork = self._waiting[0]
            needed = self._n_pending + len(fork.pending) + _HEADROOM * (len(self._running) + 1)
            if self._running and needed > self._model.n_free:
                return
            fork.seq_id = self._free_ids.pop()
            self._model.copy(self._source, fork.seq_id)
            self._model.remove(fork.seq_id, fork.n_shared)
            self._running.append(self._waiting.popleft())

    def _step(self) -> None:
        """Decode what is pending of all that run, and take the next token of each."""
        begun_at, n_pending = time.perf_counter(), self._n_pending
        logits = self._model.decode_many(
            {fork.seq_id: fork.pending for fork in self._running if fork.seq_id is not None}
        )
        elapsed_s = time.perf_counter() - begun_at
        for fork, row in zip(list(self._running), logits, strict=True):
            if fork.decoding.first_token_at is None:
                fork.prefill_s += elapsed_s * len(fork.pending) / n_pending
            fork.decoding.take(row)
            if len(fork.decoding.token_ids) > self._model.n_ctx - fork.plan.request.n_prompt:  # the last needs no room
                fork.decoding.end("context")
            fork.pending = fork.decoding.token_ids[-1:]
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
            n_ended = sum(each.decoding.is_finished for each in self._forks)
            stages.info("answering: %d of %d are ready", n_ended, len(self._forks))

    def _leave(self, fork: _Fork) -> None:
        assert fork.seq_id is not None  # it was running
        self._running.remove(fork)
        self._model.remove(fork.seq_id)
        self._free_ids.append(fork.seq_id)
        fork.seq_id = None

    @property
    def _n_pending(self) -> int:
        return sum(len(fork.pending) for fork in self._running)

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
