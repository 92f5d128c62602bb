"""The sequences of a context: which cells each holds, which is free, which gives up its room first."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.llm.context import N_SEQ_MAX
from palo_cpp.llm.sequence_state import State
from palo_cpp.segments import Cell, n_common


class Context(Protocol):
    """What sequences need of a language model."""

    n_ctx: int

    @property
    def lock(self) -> Any:
        """Hold it to keep other threads out over several calls."""
        ...

    @property
    def n_free(self) -> int:
        """Cells that nothing takes."""
        ...

    def decode(self, inputs: Any, *, position: int, seq_id: int = 0, all_logits: bool = False) -> NDArray[np.float32]:
        """Append tokens or embeddings; the logits that follow, or all."""
        ...

    def remove(self, seq_id: int, start: int = 0) -> None:
        """Drop the end of a sequence."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Make a sequence what another one is; they share its cells."""
        ...

    def sequence_state(self, seq_id: int = 0, *, end: int | None = None) -> State:
        """Keys and values of a sequence."""
        ...

    def set_sequence_state(self, state: State, seq_id: int = 0, *, n_expected: int | None = None) -> int:
        """Put them back."""
        ...


@dataclass(eq=False)
class HeldSequence:
    """One sequence of the context.

    Attributes:
        seq_id: its number.
        cells: what it holds.
        used_at: a number that grows with each use.
        answer: the answer that is under way in it; one that nobody holds any more has ended.
    """

    seq_id: int
    cells: list[Cell] = field(default_factory=list)
    used_at: int = 0
    answer: weakref.ref[Any] | None = None

    @property
    def is_running(self) -> bool:
        """Whether an answer is under way in it."""
        return self.answer is not None and self.answer() is not None


class SequencePool:
    """The sequences of one context. Hold the model's lock around each call."""

    def __init__(self, model: Context) -> None:
        self._model = model
        self._held: list[HeldSequence] = []
        self._uses = count(1)

    @property
    def is_running(self) -> bool:
        """Whether any answer is under way."""
        return any(each.is_running for each in self._held)

    def n_held(self, cells: Sequence[Cell]) -> int:
        """Length of the longest prefix of these cells that a sequence holds."""
        return max((n_common(each.cells, cells) for each in self._held), default=0)

    def nearest(self, cells: Sequence[Cell]) -> HeldSequence:
        """The sequence that holds most of these cells, of several the one used last; a new one where there is none."""
        if not self._held:
            return self._new()
        return max(self._held, key=lambda each: (n_common(each.cells, cells), each.used_at))

    def idle(self) -> HeldSequence:
        """The sequence of the answer that ended last; a new one where there is none."""
        idle = [each for each in self._held if not each.is_running]
        return max(idle, key=lambda each: each.used_at) if idle else self._new()

    def own(self, source: HeldSequence, n_cells: int) -> HeldSequence:
        """The first cells of a sequence, to append to: that sequence, or a copy where an answer is under way in it."""
        sequence = source
        if source.is_running:
            sequence, cells = self._new(), source.cells[:n_cells]
            if n_cells and source in self._held:  # else it had to make room for the new one
                self._model.copy(source.seq_id, sequence.seq_id)
                sequence.cells = cells
        # Only one ended answer is kept: cells that are held for nobody would slow attention down.
        for other in [each for each in self._held if each is not sequence and not each.is_running]:
            self.empty(other)
        self.cut(sequence, n_cells)
        self.use(sequence)
        return sequence

    def use(self, sequence: HeldSequence) -> None:
        """It is the one used last."""
        sequence.used_at = next(self._uses)

    def cut(self, sequence: HeldSequence, n_cells: int) -> None:
        """Keep its first cells only."""
        self._model.remove(sequence.seq_id, n_cells)
        sequence.cells = sequence.cells[:n_cells]

    def make_room(self, n_cells: int, kept: HeldSequence) -> None:
        """Empty other sequences, those used longest ago first, until so many cells are free; alone it always fits."""
        while self._model.n_free < n_cells and len(self._held) > 1:
            self.empty(min((each for each in self._held if each is not kept), key=_worth))

    def empty(self, sequence: HeldSequence) -> None:
        """Give its room away; an answer that is under way in it is displaced."""
        self._held.remove(sequence)
        self._model.remove(sequence.seq_id)
        sequence.cells = []

    def empty_all_but(self, kept: HeldSequence | None) -> None:
        """Give away the room of all others."""
        for sequence in [each for each in self._held if each is not kept]:
            self.empty(sequence)

    def _new(self) -> HeldSequence:
        if len(self._held) == N_SEQ_MAX - 1:  # one stays free: a part of a sequence is copied through it
            self.empty(min(self._held, key=_worth))
        taken = {each.seq_id for each in self._held}
        sequence = HeldSequence(next(i for i in range(N_SEQ_MAX) if i not in taken))
        self._held.append(sequence)
        return sequence


def _worth(sequence: HeldSequence) -> tuple[bool, int]:
    """What is emptied first is worth least: ended answers before running ones, and what was used longest ago."""
    return sequence.is_running, sequence.used_at
