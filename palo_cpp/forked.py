"""Models do not survive `os.fork`: the threads that compute stay in the parent, and a child would hang.

That holds for every model of the process, also for one that the child would load itself: OpenMP's team, on which
llama.cpp computes, is one for the whole process (GCC's bug 58378). The vision encoder alone has threads of its own,
which a child starts again.
"""

from __future__ import annotations

import os
from functools import cache

from palo_cpp.errors import PaloError


class ProcessGuard:
    """Remembers the process in which the first model was loaded."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of that process."""
        return os.getpid() != self._pid

    def check(self, what: str) -> None:
        """Refuse to load or use something in a child.

        Args:
            what: the thing, for the message.

        Raises:
            PaloError: this is a child of the process that loaded the first model.
        """
        if self.is_forked:
            raise PaloError(
                f"{what}: could not be used in a forked process: the threads that compute stayed in the parent; "
                "load models after the fork only, or start processes with multiprocessing's 'spawn' method"
            )


@cache
def process_guard() -> ProcessGuard:
    """The guard of this process, made when the first model is loaded; children inherit it."""
    return ProcessGuard()
