"""How far a conversion is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One report.

    Attributes:
        n_tensors_done: tensors written so far; a tensor that llama.cpp quantizes afterwards counts twice.
        n_tensors: of them in all.
        n_bytes_done: bytes written so far.
        n_bytes: of them in all.
        what: tensor or file that was written last.
    """

    n_tensors_done: int
    n_tensors: int
    n_bytes_done: int
    n_bytes: int
    what: str


ProgressCallback = Callable[[Progress], None]


class ProgressCounter:
    """Adds up tensors and bytes and reports each step."""

    def __init__(self, report: ProgressCallback | None, n_tensors: int, n_bytes: int) -> None:
        self._report, self._n_tensors, self._n_bytes = report, n_tensors, n_bytes
        self._n_tensors_done = self._n_bytes_done = 0

    def add(self, n_tensors: int, n_bytes: int, what: str) -> None:
        """Count what was just written."""
        self._n_tensors_done = min(self._n_tensors_done + n_tensors, self._n_tensors)
        self._n_bytes_done = min(self._n_bytes_done + n_bytes, self._n_bytes)
        if self._report is not None:
            self._report(Progress(self._n_tensors_done, self._n_tensors, self._n_bytes_done, self._n_bytes, what))
