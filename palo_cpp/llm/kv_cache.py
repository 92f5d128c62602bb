"""What stands in the language model's context, and how little of a prompt must be read anew.

A conversation is a list of segments, and the KV cache holds a prefix of one. Every prompt is compared with it position
by position, an image by the hash of its pixels, and only what differs is decoded. Conversations that take turns on one
context stay right: the one that finds its own prefix gone reads it again.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, OutOfMemoryError
from palo_cpp.families.palo.prompt import ImageSegment, Segment, TextSegment
from palo_cpp.llm.sequence_state import State

# Rows that are read ahead at once. A question about something else waits for as many: on a slow machine a few seconds
# of PALO-7B. Fewer would not keep the matrix kernels busy.
N_AHEAD = 128

# One position of the context: a token id, a row of an image, or a token whose keys and values came from elsewhere.
Cell = int | tuple[str, int]


class Context(Protocol):
    """What the cache needs of a language model."""

    n_ctx: int
    lock: Any

    def decode(self, inputs: Any, *, position: int, all_logits: bool = False) -> NDArray[np.float32]:
        """Append tokens or embeddings; the logits that follow, or all."""
        ...

    def remove(self, seq_id: int, start: int = 0) -> None:
        """Drop the end of a sequence."""
        ...

    def sequence_state(self, seq_id: int = 0, *, end: int | None = None) -> State:
        """Keys and values of a sequence."""
        ...

    def set_sequence_state(self, state: State, seq_id: int = 0, *, n_expected: int | None = None) -> int:
        """Put them back."""
        ...


@dataclass(eq=False)
class Cursor:
    """One conversation's place in the context.

    Attributes:
        segments: the prompt.
        cells: what the context must hold: the prompt's positions, then the answer's tokens.
        n_cached: positions of the prompt that stood there already.
        logits: [n_vocab] f32 after the prompt.
        guess: a token that stands in the context behind `cells` before it was chosen, with the logits that follow it.
    """

    segments: list[Segment]
    cells: list[Cell]
    n_cached: int = 0
    logits: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32), repr=False)
    guess: tuple[int, NDArray[np.float32]] | None = field(default=None, repr=False)

    def is_guessed(self, token: int) -> bool:
        """Whether this token stands there already."""
        return self.guess is not None and self.guess[0] == token


def cells_of(segments: Sequence[Segment]) -> list[Cell]:
    """The positions that segments take."""
    cells: list[Cell] = []
    for segment in segments:
        if isinstance(segment, TextSegment):
            # One cell tells the origin of all behind it: prompts are compared from their beginning on.
            cells += [(segment.origin, segment.tokens[0]), *segment.tokens[1:]] if segment.origin else segment.tokens
        else:
            cells += [(segment.content_hash, row) for row in range(len(segment))]
    return cells


def n_common(cells: Sequence[Cell], wanted: Sequence[Cell]) -> int:
    """Length of the longest common prefix."""
    for i, (cell, other) in enumerate(zip(cells, wanted, strict=False)):
        if cell != other:
            return i
    return min(len(cells), len(wanted))


def check_fits(segments: Sequence[Segment], n_ctx: int) -> int:
    """Refuse a prompt that leaves no room for an answer, before anything is decoded.

    Args:
        segments: the prompt.
        n_ctx: size of the context.

    Returns:
        The prompt's length in tokens.

    Raises:
        ArgumentError: says by how many tokens it is too long.
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
    """The one sequence of a context that conversations share.

    Attributes:
        turn: hold it for a whole answer, so that answers asked for by several threads come one after the other instead
            of displacing each other's prompt at every token.
    """

    def __init__(self, model: Context) -> None:
        self._model = model
        self._cells: list[Cell] = []
        self._answering: weakref.WeakSet[Cursor] = weakref.WeakSet()  # answers that nobody reads to the end die out
        self.turn = threading.RLock()

    def read(self, segments: list[Segment]) -> Cursor:
        """Bring the context to the end of a prompt, decoding only what it does not hold.

        Args:
            segments: the prompt; it must fit and end with text.

        Returns:
            The place reached, with the logits there.
        """
        cursor = Cursor(segments, cells_of(segments))
        with self._model.lock:
            cursor.n_cached, cursor.logits = self._read(segments, cursor.cells)
            self._answering.add(cursor)
        return cursor

    def release(self, cursor: Cursor) -> None:
        """The answer that began here has ended; what it left in the context stays."""
        with self._model.lock:
            self._answering.discard(cursor)
            if self._cells is cursor.cells:
                self._drop_guess(cursor)

    def images_to_read(self, segments: Sequence[Segment]) -> list[ImageSegment]:
        """Those images of a prompt whose embeddings will be needed to read it, as the context is now."""
        with self._model.lock:
            n_cached, end = n_common(self._cells, cells_of(segments)), 0
        images = []
        for segment in segments:
            end += len(segment)
            if isinstance(segment, ImageSegment) and end > n_cached:
                images.append(segment)
        return images

    def read_ahead(self, segments: Sequence[Segment], is_over: Callable[[], bool]) -> None:
        """Read the beginning of a prompt that is still being typed, in pieces between which others get the context.

        It gives way: it ends where an answer is being decoded or another prompt is read meanwhile.

        Args:
            segments: the beginning.
            is_over: asked before each piece, whether to stop there.
        """
        cells = cells_of(segments)
        mine: list[Cell] | None = None
        while True:
            with self._model.lock:
                if is_over() or (mine is not None and mine is not self._cells) or len(self._answering) > 0:
                    return
                n_cached = n_common(self._cells, cells)
                if n_cached == len(cells):
                    return
                self._cut(n_cached)
                self._read_piece(segments, cells, N_AHEAD)
                mine = self._cells

    def advance(self, cursor: Cursor, token: int, guess: int | None = None) -> NDArray[np.float32]:
        """Append a token of the answer; where it was guessed right before, nothing is decoded.

        Args:
            cursor: the conversation's place; moves on by one.
            token: its id.
            guess: the token that may come behind it: decoded in the same step, and dropped if another one comes.

        Returns:
            logits [n_vocab] f32 that follow `token`.
        """
        with self._model.lock:
            if self._cells is not cursor.cells:
                self._return_to(cursor)
            if cursor.guess and cursor.is_guessed(token):
                (_, logits), cursor.guess = cursor.guess, None
            else:
                self._drop_guess(cursor)
                logits = self._decode_behind(cursor, token, guess)
            cursor.cells.append(token)
            return logits

    def n_unread(self, segments: Sequence[Segment]) -> int:
        """Positions of a prompt that the context does not hold."""
        cells = cells_of(segments)
        with self._model.lock:
            return len(cells) - n_common(self._cells, cells)

    def n_free(self, cursor: Cursor) -> int:
        """Tokens that still fit behind a conversation's place."""
        return self._model.n_ctx - len(cursor.cells)

    def _decode_behind(self, cursor: Cursor, token: int, guess: int | None) -> NDArray[np.float32]:
        position = len(cursor.cells)
        if guess is None:
            return self._model.decode([token], position=position)
        logits, after_guess = self._model.decode([token, guess], position=position, all_logits=True)
        cursor.guess = guess, after_guess
        return np.asarray(logits)

    def _drop_guess(self, cursor: Cursor) -> None:
        if cursor.guess:
            self._model.remove(0, len(cursor.cells))
            cursor.guess = None

    def clear(self) -> None:
        """Forget everything."""
        with self._model.lock:
            self._cells = []
            self._model.remove(0)

    def stored(self, segments: Sequence[Segment]) -> tuple[list[Cell], State] | None:
        """Copy what stands there of a prompt, for `restore`.

        Args:
            segments: a conversation, as far as it has come.

        Returns:
            The longest prefix of it that stands there, with its keys and values; None where nothing does.
        """
        cells = cells_of(segments)
        with self._model.lock:
            n_common_cells = n_common(self._cells, cells)
            if n_common_cells == 0:
                return None
            return cells[:n_common_cells], self._model.sequence_state(0, end=n_common_cells)

    def restore(self, cells: Sequence[Cell], state: State) -> None:
        """Put back what `stored` returned; what stood there is displaced.

        Raises:
            ArgumentError: it is not what `stored` returns for this model, or too long; nothing has changed.
            OutOfMemoryError: llama.cpp did not take it; nothing stands there.
        """
        with self._model.lock:
            try:
                self._model.set_sequence_state(state, 0, n_expected=len(cells))
            except OutOfMemoryError:
                self._cells = []
                raise
            self._cells = list(cells)

    def _return_to(self, cursor: Cursor) -> None:
        """Another conversation used the context meanwhile: read again what it displaced."""
        cursor.guess = None
        n_prompt = sum(map(len, cursor.segments))
        answer = TextSegment(tuple(cell for cell in cursor.cells[n_prompt:] if isinstance(cell, int)))
        self._read([*cursor.segments, answer], cursor.cells)

    def _read(self, segments: Sequence[Segment], cells: list[Cell]) -> tuple[int, NDArray[np.float32]]:
        # The last position is decoded again even where it is cached: its logits are not.
        n_cached = min(n_common(self._cells, cells), len(cells) - 1)
        self._cut(n_cached)
        logits = np.empty(0, np.float32)
        while len(self._cells) < len(cells):
            logits = self._read_piece(segments, cells, len(cells))
        self._cells = cells
        return n_cached, logits

    def _cut(self, n_cached: int) -> None:
        self._model.remove(0, n_cached)
        self._cells = self._cells[:n_cached]

    def _read_piece(self, segments: Sequence[Segment], cells: list[Cell], n_most: int) -> NDArray[np.float32]:
        """Decode what the context lacks of one segment, or the next `n_most` rows of that."""
        begin = len(self._cells)
        start = end = 0
        for segment in segments:
            start, end = end, end + len(segment)
            if end > begin:
                break
        end = min(end, begin + n_most)
        logits = self._model.decode(segment.rows()[begin - start : end - start], position=begin)
        self._cells = self._cells + cells[begin:end]
        return logits
