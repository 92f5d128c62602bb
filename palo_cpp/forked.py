"""Models do not survive `os.fork`: their threads stay in the parent, and a child that used one would wait for ever."""

from __future__ import annotations

import os

from palo_cpp.errors import PaloError


class ProcessGuard:
    """Remembers the process in which something was loaded."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of that process."""
        return os.getpid() != self._pid

    def check(self, what: str) -> None:
        """Refuse to use it in a child.

        Args:
            what: the thing, for the message.

        Raises:
            PaloError: this is a child of the process that loaded it.
        """
        if self.is_forked:
            raise PaloError(
                f"{what}: could not be used in a forked process: its threads stayed in the parent; "
                "load the model after the fork, in each process its own"
            )
