"""From the bytes of tokens to text that may be shown at once."""

from __future__ import annotations

import codecs


class TextStream:
    """Turns the bytes of tokens into text that may be shown at once.

    A character whose bytes have not all come is held back, and so is text that may become a stop string, and space
    that may turn out to be the end: PALO strips its answers, so that the pieces joined are the final text.
    Bytes that can never become a character are U+FFFD; a character cut off by the end of the answer is left out.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = stop
        self._held = ""
        self._space = ""
        self._has_begun = False
        self.stopped = False

    def push(self, data: bytes) -> str:
        """Add the bytes of one token.

        Returns:
            Text to show now, often "".
        """
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        ends = [(at + len(text), at) for text in self._stop if (at := self._held.find(text)) >= 0]
        if ends:
            self.stopped = True
            return self._strip(self._held[: min(ends)[1]])
        n_held = max((_overlap(self._held, text) for text in self._stop), default=0)
        ready = self._held[: len(self._held) - n_held]
        self._held = self._held[len(ready) :]
        return self._strip(ready)

    def finish(self) -> str:
        """Text that was held back for what did not come."""
        return "" if self.stopped else self._strip(self._held)

    def _strip(self, text: str) -> str:
        text = self._space + text
        if not self._has_begun:
            text = text.lstrip()
        shown = text.rstrip()
        self._space = text[len(shown) :]
        self._has_begun = self._has_begun or bool(shown)
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
