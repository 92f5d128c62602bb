"""What answers wait for: their next token's logits, or the end of their prompt."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from palo_cpp.llm.cursor import Cursor
from palo_cpp.llm.prompt_rows import Embeddings
from palo_cpp.segments import Cell, Segment


@dataclass(eq=False)
class Job:
    """What one answer waits for.

    Attributes:
        cursor: its place.
        thread: who waits.
        is_done: whether the wait is over.
        error: why it could not be done.
    """

    cursor: Cursor
    thread: int = field(default_factory=threading.get_ident)
    is_done: bool = False
    error: Exception | None = None

    @property
    def has_logits(self) -> bool:
        """Whether the answer can go on."""
        return False

    def fail(self, error: Exception) -> None:
        """It could not be done."""
        self.error, self.is_done = error, True


@dataclass(eq=False)
class TokenJob(Job):
    """One more token of an answer is to be decoded.

    Attributes:
        token: its id.
        guess: a token that may follow, decoded along with it where no other answer is under way; -1 is none.
        logits: [n_vocab] f32 that follow `token`; None where the answer had to give up its room before.
    """

    token: int = -1
    guess: int = -1
    logits: NDArray[np.float32] | None = None

    @property
    def has_logits(self) -> bool:
        """Whether the answer can go on."""
        return self.logits is not None


@dataclass(eq=False)
class PromptJob(Job):
    """A sequence is to hold all of a cursor's cells.

    Attributes:
        embeddings: of images that it does not hold.
        is_read: whether it holds them now; where not, further images are needed.
        segments: what the cells are of.
        held: what the sequence held after the last piece.
    """

    embeddings: Embeddings = field(default_factory=dict, repr=False)
    is_read: bool = False
    segments: list[Segment] = field(default_factory=list)
    held: list[Cell] | None = None

    @property
    def has_logits(self) -> bool:
        """Whether the answer can go on."""
        return self.is_read

    def __post_init__(self) -> None:
        self.segments = self.cursor.whole()

    @property
    def is_under_way(self) -> bool:
        """Whether a part of it was decoded, and is still there."""
        sequence = self.cursor.sequence
        return sequence is not None and self.held is not None and sequence.cells is self.held

    @property
    def n_left(self) -> int:
        """Positions that are not decoded yet, as far as that is known."""
        return len(self.cursor.cells) - (len(self.held) if self.held is not None and self.is_under_way else 0)
