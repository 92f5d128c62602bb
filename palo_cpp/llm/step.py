"""One step of the context: a token of every answer that waits for one, then a piece of a prompt."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palo_cpp.llm.cursor import Cursor
from palo_cpp.llm.jobs import Job, PromptJob, TokenJob
from palo_cpp.llm.prompt_rows import Rows, has_all, images_after, next_rows
from palo_cpp.llm.sequence_pool import Context, HeldSequence, SequencePool
from palo_cpp.segments import n_common

# Rows of a prompt between two steps of answers under way, which wait for them: as long as a few of their tokens.
N_BESIDE = 32
# Rows of a prompt where only other prompts wait: enough to keep the matrix kernels busy.
N_AMONG_PROMPTS = 128


@dataclass
class Counts:
    """What was decoded since the model was loaded.

    Attributes:
        n_steps: calls of llama.cpp.
        n_rows: rows decoded in them.
        n_rows_reused: positions of prompts that a sequence held already.
        n_rows_repeated: positions of prompts that were decoded once more, because their room had been given away.
        n_together: the most answers that one step decoded a token of.
    """

    n_steps: int = 0
    n_rows: int = 0
    n_rows_reused: int = 0
    n_rows_repeated: int = 0
    n_together: int = 0


class Stepper:
    """Decodes what jobs ask for. Hold the model's lock around each call.

    Args:
        model: the context.
        pool: its sequences.

    Attributes:
        counts: what was decoded.
    """

    def __init__(self, model: Context, pool: SequencePool) -> None:
        self._model, self._pool = model, pool
        self._n_pieces = 0
        self.counts = Counts()

    def step(self, jobs: Sequence[Job], *, is_alone: bool) -> None:
        """Take all jobs a step further; those that are done say so.

        Args:
            jobs: in the order in which they came.
            is_alone: no other answer is under way: prompts need not be cut into pieces, and guesses pay.
        """
        tokens = [job for job in jobs if isinstance(job, TokenJob)]
        prompts = [job for job in jobs if isinstance(job, PromptJob)]
        ready = self._placed(tokens)
        if ready:
            self._decode_tokens(ready, with_guess=is_alone and len(jobs) == 1)
        if prompts:
            n_most = N_BESIDE if ready else N_AMONG_PROMPTS
            spared = [job.cursor.sequence for job in ready if job.cursor.sequence]
            self._read(prompts, len(prompts[0].cursor.cells) if is_alone and len(jobs) == 1 else n_most, spared)

    # ---- tokens

    def _placed(self, jobs: Sequence[TokenJob]) -> list[TokenJob]:
        """Those for which there is room; the others must prefill their prompts again."""
        ready = [job for job in jobs if not job.cursor.is_displaced]
        for job in jobs:
            drop_guess(self._model, job.cursor)
            job.is_done = job.cursor.is_displaced
        for job in ready:
            self._pool.use(sequence_of(job.cursor))
        while len(ready) > 1 and not self._has_room(ready, len(ready)):
            job = ready.pop()  # the last to come gives way
            self._pool.empty(sequence_of(job.cursor))
            job.is_done = True
        if len(ready) == 1 and not self._has_room(ready, 1 + (ready[0].guess >= 0)):
            self._pool.empty(sequence_of(ready[0].cursor))  # a prompt that was promised room is on its way
            ready.pop().is_done = True
        return ready

    def _has_room(self, jobs: Sequence[TokenJob], n_rows: int) -> bool:
        sequences = [sequence_of(job.cursor) for job in jobs]
        return self._pool.make_room(n_rows, sequences[0], sequences[1:])

    def _decode_tokens(self, jobs: list[TokenJob], *, with_guess: bool) -> None:
        try:
            with self._whole(jobs):
                if len(jobs) == 1:
                    self._decode_one(jobs[0], with_guess=with_guess)
                else:
                    rows = self._model.decode_many({sequence_of(job.cursor).seq_id: [job.token] for job in jobs})
                    for job, logits in zip(jobs, rows, strict=True):
                        job.logits = logits
        except Exception as error:
            for job in jobs:
                job.fail(error)
            return
        counts = self.counts
        counts.n_steps += 1
        counts.n_rows += len(jobs) + sum(job.cursor.guess is not None for job in jobs)
        counts.n_together = max(counts.n_together, len(jobs))
        for job in jobs:
            job.cursor.cells.append(job.token)
            job.is_done = True

    def _decode_one(self, job: TokenJob, *, with_guess: bool) -> None:
        cursor, seq_id = job.cursor, sequence_of(job.cursor).seq_id
        if job.guess < 0 or not with_guess:
            job.logits = self._model.decode([job.token], position=len(cursor.cells), seq_id=seq_id)
            return
        tokens = [job.token, job.guess]
        logits, after_guess = self._model.decode(tokens, position=len(cursor.cells), seq_id=seq_id, all_logits=True)
        job.logits, cursor.guess = np.asarray(logits), (job.guess, after_guess)

    # ---- prompts

    def _read(self, jobs: list[PromptJob], n_most: int, spared: list[HeldSequence]) -> None:
        """Decode a piece: rows of one image, or tokens of as many prompts as fit into it."""
        piece: list[tuple[PromptJob, Rows]] = []
        for job in self._in_turn(jobs):
            if n_most <= 0 or not self._begin(job, spared):
                continue
            rows = next_rows(job.segments, len(sequence_of(job.cursor).cells), job.embeddings, n_most)
            is_image = isinstance(rows, np.ndarray)
            if piece and is_image:
                continue
            piece.append((job, rows))
            n_most = 0 if is_image else n_most - len(rows)
        if piece:
            self._decode_piece(piece)

    def _in_turn(self, jobs: list[PromptJob]) -> list[PromptJob]:
        """The one that came first and the one that is nearest to its end take turns: short ones need not wait long."""
        self._n_pieces += 1
        return sorted(jobs, key=lambda job: job.n_left) if self._n_pieces % 2 else jobs

    def _begin(self, job: PromptJob, spared: list[HeldSequence]) -> bool:
        """Find a sequence for a prompt; False where it must wait for room, or needs further images."""
        if job.is_under_way:
            return True
        cursor, cells = job.cursor, job.cursor.cells
        nearest = self._pool.nearest(cells)
        # The last position is decoded again even where it is held: its logits are not.
        n_cached = min(n_common(nearest.cells, cells), len(cells) - 1)
        if not has_all(job.embeddings, images_after(job.segments, n_cached)):
            job.is_done = True
            return False
        n_lost = self._pool.n_lost(cells)
        sequence = self._pool.own(nearest, n_cached)
        n_cached = len(sequence.cells)  # none, where the nearest had to give up its room for the copy
        if not has_all(job.embeddings, images_after(job.segments, n_cached)):
            job.is_done = True
            return False
        if not self._pool.make_room(len(cells) - n_cached, sequence, spared):
            return False
        cursor.sequence, job.held = sequence, sequence.cells
        sequence.answer, sequence.n_wanted = weakref.ref(cursor), len(cells)
        cursor.n_cached = cursor.n_cached if cursor.n_placed else n_cached
        self.counts.n_rows_reused += n_cached
        self.counts.n_rows_repeated += max(0, n_lost - n_cached)
        return True

    def _decode_piece(self, piece: list[tuple[PromptJob, Rows]]) -> None:
        try:
            with self._whole([job for job, _ in piece]):
                logits = self._decode_rows(piece)
        except Exception as error:
            for job, _ in piece:
                sequence_of(job.cursor).answer = None
                job.fail(error)
            return
        for (job, rows), after in zip(piece, logits, strict=True):
            cursor, sequence = job.cursor, sequence_of(job.cursor)
            n_held = len(sequence.cells) + len(rows)
            sequence.cells = job.held = cursor.cells[:n_held]
            if n_held == len(cursor.cells):
                cursor.logits, sequence.cells = after, cursor.cells
                cursor.n_placed, cursor.guess = cursor.n_placed + 1, None
                job.is_read = job.is_done = True

    def _decode_rows(self, piece: list[tuple[PromptJob, Rows]]) -> Sequence[NDArray[np.float32]]:
        self.counts.n_steps += 1
        self.counts.n_rows += sum(len(rows) for _, rows in piece)
        if len(piece) == 1:
            (job, rows) = piece[0]
            sequence = sequence_of(job.cursor)
            return [self._model.decode(rows, position=len(sequence.cells), seq_id=sequence.seq_id)]
        return list(self._model.decode_many({sequence_of(job.cursor).seq_id: list(rows) for job, rows in piece}))

    @contextmanager
    def _whole(self, jobs: Sequence[Job]) -> Iterator[None]:
        """After an error, and after Ctrl-C, sequences hold what they are known to hold: others go on with them."""
        try:
            yield
        except BaseException:
            for job in jobs:
                sequence = sequence_of(job.cursor)
                self._model.remove(sequence.seq_id, len(sequence.cells))
            raise


def sequence_of(cursor: Cursor) -> HeldSequence:
    """The sequence of an answer that has been placed."""
    assert cursor.sequence is not None
    return cursor.sequence


def drop_guess(model: Context, cursor: Cursor) -> None:
    """Cut off what was decoded before it was chosen."""
    if cursor.guess and cursor.sequence and not cursor.is_displaced:
        model.remove(cursor.sequence.seq_id, len(cursor.cells))
    cursor.guess = None
