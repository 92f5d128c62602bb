"""The sequences of a context: which cells each holds, which is free, which gives up its room first."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.llm.sequence_state import State
from palo_cpp.segments import Cell, n_common

_N_LOST = 64  # sequences given up that are remembered, to count what is decoded once more


class Context(Protocol):
    """What sequences need of a language model.

    Attributes:
        n_ctx: tokens that one answer may take.
        n_parallel: answers that have room for as many at once.
        n_seq: sequences that there are.
    """

    n_ctx: int
    n_parallel: int
    n_seq: int

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

    def decode_many(self, tokens: Mapping[int, Sequence[int]]) -> NDArray[np.float32]:
        """Append tokens to several sequences; the logits that follow each."""
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
        n_wanted: cells that it will hold when that answer's prompt is prefilled.
    """

    seq_id: int
    cells: list[Cell] = field(default_factory=list)
    used_at: int = 0
    answer: weakref.ref[Any] | None = None
    n_wanted: int = 0

    @property
    def is_running(self) -> bool:
        """Whether an answer is under way in it."""
        return self.answer is not None and self.answer() is not None

    @property
    def n_reserved(self) -> int:
        """Cells that its prompt still needs; while there are any, nobody takes its room."""
        return max(0, self.n_wanted - len(self.cells)) if self.is_running else 0


class SequencePool:
    """The sequences of one context. Hold the model's lock around each call.

    Answers under way have one each. Of ended ones, so many are kept as conversations may soon go on: one where the
    context has room for one answer, for cells that are held for nobody slow attention down; else two for each answer.

    Attributes:
        n_displaced: answers under way that had to give up their room until now.
    """

    def __init__(self, model: Context) -> None:
        self._model = model
        self._held: list[HeldSequence] = []
        self._uses = count(1)
        self._n_kept = 1 if model.n_parallel == 1 else 2 * model.n_parallel
        self.n_displaced = 0
        self._lost: deque[list[Cell]] = deque(maxlen=_N_LOST)

    @property
    def n_running(self) -> int:
        """Answers that are under way."""
        return sum(each.is_running for each in self._held)

    def n_held(self, cells: Sequence[Cell]) -> int:
        """Length of the longest prefix of these cells that a sequence holds."""
        return max((n_common(each.cells, cells) for each in self._held), default=0)

    def n_lost(self, cells: Sequence[Cell]) -> int:
        """Length of the longest prefix of these cells that one held which was given up."""
        return max((n_common(lost, cells) for lost in self._lost), default=0)

    def nearest(self, cells: Sequence[Cell]) -> HeldSequence:
        """The sequence that holds most of these cells, of several the one used last; a new one where there is none."""
        if not self._held:
            return self._new()
        return max(self._held, key=lambda each: (n_common(each.cells, cells), each.used_at))

    def idle(self) -> HeldSequence:
        """The sequence of the answer that ended last, where no other is kept; else a new one."""
        idle = [each for each in self._held if not each.is_running]
        return max(idle, key=lambda each: each.used_at) if idle and self._n_kept == 1 else self._new()

    def own(self, source: HeldSequence, n_cells: int) -> HeldSequence:
        """The first cells of a sequence, to append to: that sequence, or a copy where others need what it holds."""
        sequence = source
        if source.is_running or (self._n_kept > 1 and n_cells < len(source.cells)):
            sequence, cells = self._new(), source.cells[:n_cells]
            if n_cells and source in self._held:  # else it had to make room for the new one
                self._model.copy(source.seq_id, sequence.seq_id)
                sequence.cells = cells
                self.use(source)
        ended = [each for each in self._held if each is not sequence and not each.is_running]
        while len(ended) >= self._n_kept:
            ended.remove(least := min(ended, key=self._worth))
            self.empty(least)
        self.cut(sequence, n_cells)
        self.use(sequence)
        return sequence

    def use(self, sequence: HeldSequence) -> None:
        """It is the one used last."""
        sequence.used_at = next(self._uses)

    def cut(self, sequence: HeldSequence, n_cells: int) -> None:
        """Keep its first cells only."""
        self._model.remove(sequence.seq_id, n_cells)
        if n_cells < len(sequence.cells):
            self._lost.append(sequence.cells)
        sequence.cells = sequence.cells[:n_cells]

    def make_room(self, n_cells: int, kept: HeldSequence, spared: Collection[HeldSequence] = ()) -> bool:
        """Empty other sequences, those used longest ago first, until so many cells are free; alone it always fits.

        Args:
            n_cells: beside those that prompts on their way need.
            kept: the one that needs them.
            spared: further ones that are not emptied, as neither are those whose prompt is on its way.

        Returns:
            Whether they are free.
        """
        while self._n_unreserved(kept) < n_cells:
            others = [e for e in self._held if e is not kept and e not in spared and not e.n_reserved]
            if not others:
                return len(self._held) == 1
            self.empty(min(others, key=self._worth))
        return True

    def _n_unreserved(self, kept: HeldSequence) -> int:
        return self._model.n_free - sum(each.n_reserved for each in self._held if each is not kept)

    def empty(self, sequence: HeldSequence) -> None:
        """Give its room away; an answer that is under way in it is displaced."""
        self.n_displaced += sequence.is_running
        self._lost.append(sequence.cells)
        self.drop(sequence)

    def drop(self, sequence: HeldSequence) -> None:
        """Give its room away; nobody is expected to ask for it."""
        if sequence in self._held:
            self._held.remove(sequence)
            self._model.remove(sequence.seq_id)
            sequence.cells = []

    def clear(self) -> None:
        """Give the room of all away, and forget them."""
        for sequence in list(self._held):
            self.empty(sequence)
        self._lost.clear()

    def _new(self) -> HeldSequence:
        if len(self._held) == self._model.n_seq - 1:  # one stays free: a part of a sequence is copied through it
            self.empty(min(self._held, key=lambda each: (each.n_reserved > 0, *self._worth(each))))
        taken = {each.seq_id for each in self._held}
        sequence = HeldSequence(next(i for i in range(self._model.n_seq) if i not in taken))
        self._held.append(sequence)
        return sequence

    def _worth(self, sequence: HeldSequence) -> tuple[bool, bool, int]:
        """What is emptied first is worth least.

        Ended answers go before running ones, of them those most of which a later one holds too (the same question asked
        again), and of these what was used longest ago.
        """
        later = [each for each in self._held if each.used_at > sequence.used_at] if self._n_kept > 1 else []
        is_own = all(2 * n_common(each.cells, sequence.cells) < len(sequence.cells) for each in later)
        return sequence.is_running, is_own, sequence.used_at
