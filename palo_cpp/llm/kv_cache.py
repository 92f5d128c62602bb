"""Tracks what the context holds, so that only the new part of a prompt is decoded.

A conversation is a list of segments, and a sequence of the context holds a prefix of one. Every prompt is compared with
what is held, position by position, an image by the hash of its pixels, and only what differs is decoded. Answers that
are under way at the same time have a sequence each, which share the cells of what their prompts have in common, and are
decoded together (scheduler.py); one that must give up its room is prefilled again when it goes on. An ended answer's
sequence serves the next prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, OutOfMemoryError
from palo_cpp.llm.cursor import Cursor
from palo_cpp.llm.jobs import Job, PromptJob, TokenJob
from palo_cpp.llm.prompt_rows import Embeddings, has_all, images_after, next_rows
from palo_cpp.llm.scheduler import Scheduler
from palo_cpp.llm.sequence_pool import Context, SequencePool
from palo_cpp.llm.sequence_state import State
from palo_cpp.llm.step import Counts, Stepper, drop_guess
from palo_cpp.segments import Cell, ImageSegment, Segment, cells_of, n_common

# Rows that are prefilled ahead at once. A question about something else waits for as many: on a slow machine a few
# seconds of PALO-7B. Fewer would not keep the matrix kernels busy.
N_AHEAD = 128


def check_fits(segments: Sequence[Segment], n_ctx: int) -> int:
    """Refuse a prompt that leaves no room for an answer, before anything is decoded.

    Args:
        segments: the prompt.
        n_ctx: size of the context.

    Returns:
        The prompt's length in tokens.

    Raises:
        ArgumentError: by how many tokens it is too long.
    """
    n_tokens = sum(map(len, segments))
    n_over = n_tokens + 1 - n_ctx
    if n_over > 0:
        n_images = sum(isinstance(segment, ImageSegment) for segment in segments)
        show_fewer = ", show fewer images" if n_images > 1 else ""
        raise ArgumentError(
            f"question: expected a prompt of at most {n_ctx - 1} tokens, got {n_tokens}: {n_over} too many; "
            f"shorten the question{show_fewer}, clear the conversation or choose a larger n_ctx"
        )
    return n_tokens


class KvCache:
    """The sequences of a context that answers share.

    Images are never encoded here: what a prompt needs is asked with `images_to_prefill` and handed in as embeddings, so
    that nothing holds the model's lock while an image is encoded.

    Attributes:
        turn: held by an answer that had to give up its room, from then to its end: two of them would displace each
            other at every token.
    """

    def __init__(self, model: Context) -> None:
        self._model = model
        self._pool = SequencePool(model)
        self._stepper = Stepper(model, self._pool)
        self._scheduler = Scheduler(model, self._stepper)
        self.turn = threading.RLock()

    # ---- prompts

    def images_to_prefill(self, segments: Sequence[Segment]) -> list[ImageSegment]:
        """Those images of a prompt whose embeddings are needed to prefill it, as the context is now."""
        cells = cells_of(segments)
        with self._scheduler.between_steps():
            return images_after(segments, self._pool.n_held(cells))

    def prefill(self, segments: list[Segment], embeddings: Embeddings) -> Cursor | None:
        """`place` a new answer.

        Args:
            segments: the prompt; it must fit and end with text.
            embeddings: of the images that `images_to_prefill` named.

        Returns:
            The place reached, with the logits there; None where further images are needed.
        """
        cursor = Cursor(segments)
        return cursor if self.place(cursor, embeddings) else None

    def place(self, cursor: Cursor, embeddings: Embeddings) -> bool:
        """Bring a sequence to the end of an answer's cells, decoding only what none holds.

        Args:
            cursor: the answer's place; gets the logits after the last of its cells.
            embeddings: of the images that `images_to_prefill` named.

        Returns:
            False where the context has changed since, so that further images are needed.

        Raises:
            AnswerStopped: nobody waits for it any more.
        """
        job = PromptJob(cursor, embeddings=embeddings)
        self._scheduler.run([job])
        return job.is_read

    def prefill_ahead(self, segments: Sequence[Segment], embeddings: Embeddings, is_over: Callable[[], bool]) -> None:
        """Prefill the beginning of a prompt that is still being typed, in pieces between which others get the context.

        It gives way: it ends where an answer is being decoded or another prompt is prefilled meanwhile.

        Args:
            segments: the beginning.
            embeddings: of the images that `images_to_prefill` named.
            is_over: asked before each piece, whether to stop there.
        """
        cells = cells_of(segments)
        mine: list[Cell] | None = None
        while True:
            with self._scheduler.between_steps():
                if is_over() or self._pool.n_running:
                    return
                sequence = self._pool.nearest(cells)
                if mine is not None and mine is not sequence.cells:
                    return
                n_cached = n_common(sequence.cells, cells)
                if n_cached == len(cells) or not has_all(embeddings, images_after(segments, n_cached)):
                    return
                sequence = self._pool.own(sequence, n_cached)
                rows = next_rows(segments, n_cached, embeddings, N_AHEAD)
                self._model.decode(rows, position=n_cached, seq_id=sequence.seq_id)
                sequence.cells = mine = cells[: n_cached + len(rows)]

    def n_to_prefill(self, segments: Sequence[Segment]) -> int:
        """Positions of a prompt that no sequence holds."""
        cells = cells_of(segments)
        with self._scheduler.between_steps():
            return len(cells) - self._pool.n_held(cells)

    # ---- answers

    def advance(
        self, cursor: Cursor, token: int, guess: int | None = None, embeddings: Embeddings | None = None
    ) -> NDArray[np.float32] | None:
        """Append a token of the answer; where it was guessed right before, nothing is decoded.

        Args:
            cursor: the answer's place; moves on by one.
            token: its id.
            guess: the token that may come next: decoded in the same step, and dropped if another one comes.
            embeddings: of images, where the cursor was displaced and `images_to_prefill(cursor.whole())` names some.

        Returns:
            logits [n_vocab] f32 that follow `token`; None where such embeddings are missing: nothing has changed.

        Raises:
            AnswerStopped: nobody waits for it any more.
        """
        if cursor.guess and (logits := self._guessed(cursor, token)) is not None:
            return logits
        job = TokenJob(cursor, token=token, guess=-1 if guess is None else guess)
        while job.logits is None:
            if cursor.is_displaced and not self.place(cursor, embeddings or {}):
                return None
            job.is_done = False
            self._scheduler.run([job])
        return job.logits

    def _guessed(self, cursor: Cursor, token: int) -> NDArray[np.float32] | None:
        with self._scheduler.between_steps():
            if cursor.is_displaced or cursor.guess is None or not cursor.is_guessed(token):
                return None
            (_, logits), cursor.guess = cursor.guess, None
            cursor.cells.append(token)
            return logits

    def advance_some(self, jobs: Sequence[Job]) -> None:
        """Wait until some of several answers' jobs are done; see `Scheduler.run`."""
        self._scheduler.run(jobs)

    def is_alone(self, cursor: Cursor) -> bool:
        """Whether no other answer is decoded beside it, so that guesses pay."""
        return self._scheduler.is_alone(cursor)

    def stop(self, cursor: Cursor) -> None:
        """End an answer from any thread: its room is free after the step under way, and who decodes it comes back."""
        cursor.is_stopped = True
        self.release(cursor)

    def release(self, cursor: Cursor, *, is_kept: bool = True) -> None:
        """The answer has ended.

        Args:
            cursor: its place.
            is_kept: its sequence stays for what may follow.
        """
        with self._scheduler.between_steps():
            drop_guess(self._model, cursor)
            sequence = cursor.sequence
            if sequence is not None and (sequence.answer is None or sequence.answer() is cursor):
                sequence.answer = None
                if not is_kept:
                    self._pool.drop(sequence)
        self._scheduler.forget(cursor)

    def n_free(self, cursor: Cursor) -> int:
        """Tokens that still fit after an answer's place."""
        return self._model.n_ctx - len(cursor.cells)

    @property
    def counts(self) -> Counts:
        """What was decoded since the model was loaded."""
        return self._stepper.counts

    @property
    def n_displaced(self) -> int:
        """Answers under way that had to give up their room until now."""
        return self._pool.n_displaced

    @property
    def n_running(self) -> int:
        """Answers that are under way."""
        return self._pool.n_running

    # ---- what is kept outside

    def clear(self) -> None:
        """Forget everything."""
        with self._scheduler.between_steps():
            self._pool.clear()

    def stored(self, segments: Sequence[Segment]) -> tuple[list[Cell], State] | None:
        """Copy what is held of a prompt, for `restore`.

        Args:
            segments: a conversation, as far as it has come.

        Returns:
            The longest prefix of it that is held, with its keys and values; None where nothing is.
        """
        cells = cells_of(segments)
        with self._scheduler.between_steps():
            n_held = self._pool.n_held(cells)
            if n_held == 0:
                return None
            return cells[:n_held], self._model.sequence_state(self._pool.nearest(cells).seq_id, end=n_held)

    def restore(self, cells: Sequence[Cell], state: State) -> None:
        """Put back what `stored` returned; ended answers' sequences make room for it.

        Raises:
            ArgumentError: it is not what `stored` returns for this model, or too long; nothing has changed.
            OutOfMemoryError: llama.cpp did not take it; nothing is held of it.
        """
        with self._scheduler.between_steps():
            sequence = self._pool.idle()
            self._pool.make_room(len(cells) - len(sequence.cells), sequence)
            try:
                self._model.set_sequence_state(state, sequence.seq_id, n_expected=len(cells))
            except OutOfMemoryError:
                self._pool.empty(sequence)
                raise
            sequence.cells = list(cells)
            self._pool.use(sequence)
