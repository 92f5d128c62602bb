"""One answer's place in the context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from palo_cpp.llm.sequence_pool import HeldSequence
from palo_cpp.segments import Cell, Segment, TextSegment, cells_of


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
        should_stop: asked before each piece of its prompt, whether anybody still waits for it.
        is_stopped: whether it was ended from outside.
        served_at: time.perf_counter() at the end of its last step.
        lag_s: how long after that its next token was asked for, last time.
        thread: who asked for it.
    """

    segments: list[Segment]
    cells: list[Cell] = field(default_factory=list)
    n_cached: int = 0
    logits: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32), repr=False)
    guess: tuple[int, NDArray[np.float32]] | None = field(default=None, repr=False)
    n_placed: int = 0
    sequence: HeldSequence | None = field(default=None, repr=False)
    should_stop: Callable[[], bool] | None = field(default=None, repr=False)
    is_stopped: bool = False
    served_at: float = 0.0
    lag_s: float = 0.0
    thread: int = 0

    def __post_init__(self) -> None:
        self.cells = self.cells or cells_of(self.segments)

    @property
    def is_displaced(self) -> bool:
        """Whether its sequence was given to another answer."""
        return self.sequence is None or self.sequence.cells is not self.cells

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.is_stopped or (self.should_stop is not None and self.should_stop())

    def is_guessed(self, token: int) -> bool:
        """Whether this token was decoded already."""
        return self.guess is not None and self.guess[0] == token

    def whole(self) -> list[Segment]:
        """The prompt and what was answered until now."""
        n_prompt = sum(map(len, self.segments))
        answer = tuple(cell for cell in self.cells[n_prompt:] if isinstance(cell, int))
        return [*self.segments, TextSegment(answer)] if answer else self.segments
