"""Several questions about one image, answered side by side: the prefix is read once, each step decodes a token of each.

Sequence 0 of the context is the conversation's; it holds the common prefix, now and afterwards. Each answer goes on
from it in a sequence of its own, which is freed when the answer ends. Where the context does not hold all answers at
once, the last ones wait, and an answer that must give way is read again later: none is cut shorter than it would be
alone. An answer that begins in another language than it should is begun again, as `kept_language` does it for one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from palo_cpp.chat.answer import Answer, Timings
from palo_cpp.chat.answer_run import Reading, answer_from
from palo_cpp.chat.language_retry import judge_beginning, with_retry
from palo_cpp.chat.request import Engine, Plan, Request
from palo_cpp.decoding.decoding import Decoding
from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.prompt import Segment, TextSegment
from palo_cpp.languages.detection import is_in_language
from palo_cpp.llm.context import N_SEQ_MAX
from palo_cpp.llm.kv_cache import Cell, cells_of, n_common

# The command line shows it while the user waits.
logger = logging.getLogger("palo_cpp.chat.answer_run")

# Tokens that each answer should be able to add before one must give way again. Giving way costs reading an answer's
# text once more, which takes about as long as this many steps do.
_HEADROOM = 32


@dataclass
class _Fork:
    """One answer on its way.

    Attributes:
        plan: what is asked, and what instead after a beginning in another language.
        request: what is being asked now.
        decoding: chooses the answer's tokens.
        n_shared: cells of the common prefix that its prompt begins with: all, but perhaps for a second attempt.
        question: tokens of the prompt behind them.
        seq_id: its sequence; None while it waits.
        pending: tokens that its sequence does not hold yet.
        prefill_s: its share of reading the questions, by tokens.
        ended_at: time.perf_counter() at its last token.
        is_in_language: whether it is; None as long as that cannot be told.
        thrown_away: what the first attempt cost, in a second one.
    """

    plan: Plan
    request: Request
    decoding: Decoding
    n_shared: int
    question: list[int]
    seq_id: int | None = None
    pending: list[int] = field(default_factory=list)
    prefill_s: float = 0.0
    ended_at: float = 0.0
    is_in_language: bool | None = None
    thrown_away: Timings | None = None

    def __post_init__(self) -> None:
        self.pending = list(self.question)

    def has_gone_astray(self) -> bool:
        """Whether it is in another language, judged as it comes and once more at its end."""
        code = self.request.language
        if self.plan.insist is None or self.thrown_away is not None or code is None:
            return False
        if self.is_in_language is None:
            self.is_in_language = judge_beginning(self.decoding.text, code)
        if self.decoding.is_finished and self.is_in_language is not False:
            self.is_in_language = is_in_language(self.decoding.text, code) is not False
        return self.is_in_language is False


class ParallelAnswers:
    """Answers requests that differ in their last text only.

    Args:
        engine: the model and what stands in its context.
        plans: one for each answer; at least one.
    """

    def __init__(self, engine: Engine, plans: Sequence[Plan]) -> None:
        self._engine = engine
        self._model = engine.model
        self._prefix, self._prefix_cells = shared_prefix([plan.request.segments for plan in plans])
        self._reading = Reading()
        self._forks = [self._fork(plan, plan.request) for plan in plans]
        self._waiting = deque(self._forks)
        self._running: list[_Fork] = []
        self._free_ids = list(range(N_SEQ_MAX - 1, 0, -1))

    def _fork(self, plan: Plan, request: Request, thrown_away: Timings | None = None) -> _Fork:
        cells = cells_of(request.segments)
        n_shared = min(n_common(self._prefix_cells, cells), len(cells) - 1)
        question = [cell for cell in cells[n_shared:] if isinstance(cell, int)]
        decoding = self._engine.new_decoding(self._model, request)
        return _Fork(plan, request, decoding, n_shared, question, thrown_away=thrown_away)

    def run(self) -> list[Answer]:
        """Answer all; in the order of the plans.

        Raises:
            ModelFormatError: the logits are not numbers.
            OutOfMemoryError: llama.cpp could not decode.
        """
        # The model's lock, too: a stream in another thread would take room away between two steps.
        with self._engine.cache.turn, self._model.lock:
            try:
                self._reading.read(self._engine.cache, self._prefix)
                while self._waiting or self._running:
                    self._make_room()
                    self._admit()
                    self._step()
            finally:  # after Ctrl-C and errors, too: the conversation finds its context as it left it
                self._reading.release(self._engine.cache)
                for seq_id in range(1, N_SEQ_MAX):
                    self._model.remove(seq_id)
        return [self._answer(fork) for fork in self._forks]

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
            self._model.copy(0, fork.seq_id)
            self._model.remove(fork.seq_id, fork.n_shared)
            self._running.append(self._waiting.popleft())

    def _step(self) -> None:
        """Decode what is pending of all that run, and take the next token of each."""
        begun_at, n_pending = time.perf_counter(), self._n_pending
        logits = self._model.decode_many({fork.seq_id: fork.pending for fork in self._running if fork.seq_id})
        elapsed_s = time.perf_counter() - begun_at
        for fork, row in zip(list(self._running), logits, strict=True):
            if fork.decoding.first_token_at is None:
                fork.prefill_s += elapsed_s * len(fork.pending) / n_pending
            fork.decoding.take(row)
            if len(fork.decoding.token_ids) > self._model.n_ctx - fork.request.n_prompt:  # the last needs no room
                fork.decoding.end("context")
            fork.pending = fork.decoding.token_ids[-1:]
            if fork.decoding.is_finished:
                fork.decoding.finish()
            self._settle(fork)

    def _settle(self, fork: _Fork) -> None:
        """Let an answer go that has ended, and begin one again that is in another language."""
        fork.ended_at = time.perf_counter()
        second = self._second_attempt(fork) if fork.has_gone_astray() else None
        if second is not None:
            self._forks[self._forks.index(fork)] = second
            self._waiting.append(second)
        if second is not None or fork.decoding.is_finished:
            self._leave(fork)
            n_ended = sum(each.decoding.is_finished for each in self._forks)
            logger.info("answering: %d of %d are ready", n_ended, len(self._forks))

    def _second_attempt(self, fork: _Fork) -> _Fork | None:
        assert fork.plan.insist is not None  # else it would not have gone astray
        try:
            request = fork.plan.insist()
        except ArgumentError:  # the longer question does not fit into the context
            return None
        return self._fork(fork.plan, request, self._timings(fork))

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
        if fork.thrown_away is not None:
            timings = with_retry(timings, fork.thrown_away)
        return answer_from(fork.request, fork.decoding, timings)

    def _timings(self, fork: _Fork) -> Timings:
        """What one attempt cost; the common prefix counts with the first answer, for the others it was cached."""
        is_first = fork is self._forks[0] and fork.thrown_away is None
        request, reading = fork.request, self._reading if is_first else Reading()
        first_at = fork.decoding.first_token_at or fork.ended_at
        return Timings(
            image_s=request.image_s,
            encode_s=reading.encode_s,
            prefill_s=fork.prefill_s + reading.prefill_s,
            decode_s=fork.ended_at - first_at,
            first_token_s=first_at - request.started_at + request.image_s,
            n_images_encoded=reading.n_images_encoded,
            n_prompt_tokens=request.n_prompt,
            n_cached_tokens=reading.n_cached if is_first else fork.n_shared,
            n_generated=fork.decoding.n_generated,
            n_parallel=len(self._forks),
        )


def shared_prefix(prompts: Sequence[Sequence[Segment]]) -> tuple[list[Segment], list[Cell]]:
    """What all prompts begin with, as segments and as cells; each prompt goes on with one token of text at least.

    Raises:
        ArgumentError: behind what they share, one has an image.
    """
    all_cells = [cells_of(prompt) for prompt in prompts]
    n_shared = min(n_common(all_cells[0], cells) for cells in all_cells)
    n_shared = min(n_shared, *(len(cells) - 1 for cells in all_cells))
    if not all(isinstance(cell, int) for cells in all_cells for cell in cells[n_shared:]):
        raise ArgumentError("prompts: expected the same images in each, got others; ask about each image apart")
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
