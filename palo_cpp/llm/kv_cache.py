"""Tracks what the context holds, so that only the new part of a prompt is decoded.

A conversation is a list of segments, and a sequence of the context holds a prefix of one. Every prompt is compared with
what is held, position by position, an image by the hash of its pixels, and only what differs is decoded. Answers that
are under way at the same time have a sequence each, which share the cells of what their prompts have in common; one
that must give up its room is prefilled again when it goes on. An ended answer's sequence serves the next prompt.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, OutOfMemoryError
from palo_cpp.llm.sequence_pool import Context, HeldSequence, SequencePool
from palo_cpp.llm.sequence_state import State
from palo_cpp.segments import Cell, ImageSegment, Segment, TextSegment, cells_of, n_common

# Rows that are prefilled ahead at once. A question about something else waits for as many: on a slow machine a few
# seconds of PALO-7B. Fewer would not keep the matrix kernels busy.
N_AHEAD = 128

# image_embeddings [n_image_tokens, n_embd] f32 by content hash.
Embeddings = Mapping[str, NDArray[np.float32]]


@dataclass(eq=False)
class Cursor:
    """One answer's place in the context.

    Attributes:
        segments: the prompt.
        cells: what its sequence must hold: the prompt's positions, then the answer's tokens.
        n_cached: positions of the prompt that were held already.
        logits: [n_vocab] f32 after the prompt.
        guess: a token that the sequence holds after `cells` before it was chosen, with the logits that follow it.
        n_placed: how often its prompt was prefilled: once, and again each time it had to give up its room.
        sequence: where it is, or was before it gave up its room.
    """

    segments: list[Segment]
    cells: list[Cell]
    n_cached: int = 0
    logits: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32), repr=False)
    guess: tuple[int, NDArray[np.float32]] | None = field(default=None, repr=False)
    n_placed: int = 0
    sequence: HeldSequence | None = field(default=None, repr=False)

    @property
    def is_displaced(self) -> bool:
        """Whether its sequence was given to another answer."""
        return self.sequence is None or self.sequence.cells is not self.cells

    def is_guessed(self, token: int) -> bool:
        """Whether this token was decoded already."""
        return self.guess is not None and self.guess[0] == token

    def whole(self) -> list[Segment]:
        """The prompt and what was answered until now."""
        n_prompt = sum(map(len, self.segments))
        answer = tuple(cell for cell in self.cells[n_prompt:] if isinstance(cell, int))
        return [*self.segments, TextSegment(answer)] if answer else self.segments


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
        turn: hold it for a whole answer that nobody reads piece by piece, so that answers asked for by several threads
            come one after the other instead of sharing the room.
    """

    def __init__(self, model: Context) -> None:
        self._model = model
        self._pool = SequencePool(model)
        self.turn = threading.RLock()

    # ---- prompts

    def images_to_prefill(self, segments: Sequence[Segment]) -> list[ImageSegment]:
        """Those images of a prompt whose embeddings are needed to prefill it, as the context is now."""
        cells = cells_of(segments)
        with self._model.lock:
            return _images_after(segments, self._pool.n_held(cells))

    def prefill(self, segments: list[Segment], embeddings: Embeddings) -> Cursor | None:
        """Bring a sequence to the end of a prompt, decoding only what it does not hold.

        Args:
            segments: the prompt; it must fit and end with text.
            embeddings: of the images that `images_to_prefill` named.

        Returns:
            The place reached, with the logits there; None where the context has changed since, so that further images
            are needed: nothing was decoded.
        """
        cursor = Cursor(segments, cells_of(segments))
        with self._model.lock:
            return cursor if self._place(cursor, embeddings) else None

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
            with self._model.lock:
                if is_over() or self._pool.is_running:
                    return
                sequence = self._pool.nearest(cells)
                if mine is not None and mine is not sequence.cells:
                    return
                n_cached = n_common(sequence.cells, cells)
                if n_cached == len(cells) or not _has_all(embeddings, _images_after(segments, n_cached)):
                    return
                sequence = self._pool.own(sequence, n_cached)
                self._decode_piece(sequence, segments, cells, embeddings, N_AHEAD)
                mine = sequence.cells

    def n_to_prefill(self, segments: Sequence[Segment]) -> int:
        """Positions of a prompt that no sequence holds."""
        cells = cells_of(segments)
        with self._model.lock:
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
        """
        with self._model.lock:
            if cursor.is_displaced and not self._place(cursor, embeddings or {}):
                return None
            assert cursor.sequence is not None  # it was placed
            self._pool.use(cursor.sequence)
            if cursor.guess and cursor.is_guessed(token):
                (_, logits), cursor.guess = cursor.guess, None
            else:
                self._drop_guess(cursor)
                logits = self._decode_after(cursor, cursor.sequence, token, guess)
            cursor.cells.append(token)
            return logits

    def release(self, cursor: Cursor) -> None:
        """The answer has ended; its sequence stays for what may follow."""
        with self._model.lock:
            self._drop_guess(cursor)
            if cursor.sequence is not None and not cursor.is_displaced:
                cursor.sequence.answer = None

    def n_free(self, cursor: Cursor) -> int:
        """Tokens that still fit after an answer's place."""
        return self._model.n_ctx - len(cursor.cells)

    def alone(self, cursor: Cursor) -> int | None:
        """Empty all sequences but a cursor's.

        Returns:
            The number of its sequence; None where it is displaced: nothing was emptied.
        """
        with self._model.lock:
            if cursor.sequence is None or cursor.is_displaced:
                return None
            self._pool.empty_all_but(cursor.sequence)
            return cursor.sequence.seq_id

    # ---- what is kept outside

    def clear(self) -> None:
        """Forget everything."""
        with self._model.lock:
            self._pool.empty_all_but(None)

    def stored(self, segments: Sequence[Segment]) -> tuple[list[Cell], State] | None:
        """Copy what is held of a prompt, for `restore`.

        Args:
            segments: a conversation, as far as it has come.

        Returns:
            The longest prefix of it that is held, with its keys and values; None where nothing is.
        """
        cells = cells_of(segments)
        with self._model.lock:
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
        with self._model.lock:
            sequence = self._pool.idle()
            self._pool.make_room(len(cells) - len(sequence.cells), sequence)
            try:
                self._model.set_sequence_state(state, sequence.seq_id, n_expected=len(cells))
            except OutOfMemoryError:
                self._pool.empty(sequence)
                raise
            sequence.cells = list(cells)
            self._pool.use(sequence)

    # ---- decoding

    def _place(self, cursor: Cursor, embeddings: Embeddings) -> bool:
        """Prefill all of a cursor's cells into a sequence of its own; False where images are missing."""
        segments, cells = cursor.whole(), cursor.cells
        nearest = self._pool.nearest(cells)
        # The last position is decoded again even where it is held: its logits are not.
        n_cached = min(n_common(nearest.cells, cells), len(cells) - 1)
        if not _has_all(embeddings, _images_after(segments, n_cached)):
            return False
        sequence = self._pool.own(nearest, n_cached)
        self._pool.make_room(len(cells) - n_cached, sequence)
        while len(sequence.cells) < len(cells):
            cursor.logits = self._decode_piece(sequence, segments, cells, embeddings, len(cells))
        cursor.n_cached = cursor.n_cached if cursor.n_placed else n_cached
        cursor.n_placed, cursor.guess = cursor.n_placed + 1, None
        cursor.sequence, sequence.cells, sequence.answer = sequence, cells, weakref.ref(cursor)
        return True

    def _decode_after(
        self, cursor: Cursor, sequence: HeldSequence, token: int, guess: int | None
    ) -> NDArray[np.float32]:
        position, seq_id = len(cursor.cells), sequence.seq_id
        self._pool.make_room(1 if guess is None else 2, sequence)
        if guess is None:
            return self._model.decode([token], position=position, seq_id=seq_id)
        logits, after_guess = self._model.decode([token, guess], position=position, seq_id=seq_id, all_logits=True)
        cursor.guess = guess, after_guess
        return np.asarray(logits)

    def _drop_guess(self, cursor: Cursor) -> None:
        if cursor.guess and cursor.sequence and not cursor.is_displaced:
            self._model.remove(cursor.sequence.seq_id, len(cursor.cells))
        cursor.guess = None

    def _decode_piece(
        self,
        sequence: HeldSequence,
        segments: Sequence[Segment],
        cells: list[Cell],
        embeddings: Embeddings,
        n_most: int,
    ) -> NDArray[np.float32]:
        """Decode what a sequence lacks of one segment, or the next `n_most` rows of that."""
        begin = len(sequence.cells)
        start = end = 0
        for segment in segments:
            start, end = end, end + len(segment)
            if end > begin:
                break
        end = min(end, begin + n_most)
        rows = segment.tokens if isinstance(segment, TextSegment) else embeddings[segment.content_hash]
        inputs = rows[begin - start : end - start]
        logits = self._model.decode(inputs, position=begin, seq_id=sequence.seq_id)
        sequence.cells = sequence.cells + cells[begin:end]
        return logits


def _images_after(segments: Sequence[Segment], n_cells: int) -> list[ImageSegment]:
    """The images of a prompt that do not lie whole within its first cells."""
    images, end = [], 0
    for segment in segments:
        end += len(segment)
        if isinstance(segment, ImageSegment) and end > n_cells:
            images.append(segment)
    return images


def _has_all(embeddings: Embeddings, images: Sequence[ImageSegment]) -> bool:
    return all(image.content_hash in embeddings for image in images)
