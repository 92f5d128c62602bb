"""Ctrl-C while an answer comes: the first one asks for an orderly stop, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class InterruptWatch:
    """Takes Ctrl-C over for the length of a `with` block.

    A conversation's cache stays consistent when an answer ends between two tokens, and might not when an exception ends
    it anywhere. So while text comes, the first Ctrl-C only sets `requested`, which is checked between two pieces.
    Before the first piece, in the long stages, and the second time it raises KeyboardInterrupt.

    Attributes:
        requested: whether Ctrl-C was pressed.
        is_patient: whether the first Ctrl-C is only noted.
    """

    def __init__(self) -> None:
        self.requested = False
        self.is_patient = False
        self._before: Any = None

    def __enter__(self) -> InterruptWatch:
        # Python delivers signals to the main thread only, and lets only that one ask for them.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _on_interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested or not self.is_patient:
            raise KeyboardInterrupt
        self.requested = True
