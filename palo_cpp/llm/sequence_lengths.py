"""How long each sequence of a context is, and how many cells of it they take together."""

from __future__ import annotations

from itertools import count


class SequenceLengths:
    """Counts cells as llama.cpp's unified KV cache shares them: what a sequence was copied with counts once.

    A sequence is a row of runs; a copy has the same runs, and what either appends afterwards begins a run of its own.
    A shared run takes as many cells as its longest user has of it.
    """

    def __init__(self, n_sequences: int) -> None:
        self._runs: list[dict[int, int]] = [{} for _ in range(n_sequences)]  # run's number -> cells, in order
        self._shared: set[int] = set()  # runs that more than one sequence has had: nobody appends to them
        self._numbers = count()

    def __getitem__(self, seq_id: int) -> int:
        """Cells of one sequence."""
        return sum(self._runs[seq_id].values())

    @property
    def n_used(self) -> int:
        """Cells of all sequences together."""
        return self.n_used_without(None)

    def n_used_without(self, seq_id: int | None) -> int:
        """Cells that are taken when a sequence is removed."""
        longest: dict[int, int] = {}
        for number, runs in enumerate(self._runs):
            for run, n in runs.items() if number != seq_id else ():
                longest[run] = max(n, longest.get(run, 0))
        return sum(longest.values())

    def append(self, seq_id: int, n: int) -> None:
        """Lengthen a sequence."""
        runs = self._runs[seq_id]
        last = next(reversed(runs), None)
        if last is None or last in self._shared:
            last = next(self._numbers)
        runs[last] = runs.get(last, 0) + n

    def truncate(self, seq_id: int, length: int) -> None:
        """Cut a sequence to `length` cells, if it is longer."""
        kept: dict[int, int] = {}
        for run, n in self._runs[seq_id].items():
            if length > 0:
                kept[run] = min(n, length)
                length -= n
        self._runs[seq_id] = kept

    def copy(self, source: int, target: int) -> None:
        """Make a sequence what another one is."""
        self._runs[target] = dict(self._runs[source])
        self._shared.update(self._runs[source])
        self._shared.intersection_update({run for runs in self._runs for run in runs})  # forget those that are gone
