"""From the bytes of tokens to text that may be shown at once."""

from __future__ import annotations

import codecs

import regex

from palo_cpp.decoding.repetition import RepetitionGate

# Extended grapheme clusters (UAX #29) with the conjuncts of Indic scripts (rule GB9c). `regex` follows Unicode's
# tables release by release and has wheels everywhere; the standard library has no segmentation.
_CLUSTER = regex.compile(r"\X")
# Code points of one cluster, or white space in a row, that no text means: the model is in a loop. UAX #15 calls 30
# combining marks in a row the most that any language needs.
_N_CLUSTER_MAX = 128
_N_SPACE_MAX = 256


class TextStream:
    """Turns the bytes of tokens into text that may be shown at once, and the pieces joined are the final text.

    Held back are: the last grapheme cluster, as long as what comes may belong to it; text that may become a stop
    string; space that may turn out to be the end, for PALO strips its answers; text that begins to repeat itself.
    Bytes that cannot become a character are left out, and so is a character cut off by the end of the answer.

    Attributes:
        stopped: a stop string has come.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._stop = stop
        self._unsure = ""  # may become a stop string
        self._clusters = ""  # not yet whole: the last may grow, and those before it are space
        self._has_begun = False
        self._is_endless = False
        self._gate = RepetitionGate()
        self.stopped = False

    @property
    def repeats(self) -> bool:
        """Whether the text has come to do nothing but repeat itself."""
        return self._gate.repeats or self._is_endless

    @property
    def n_unfinished(self) -> int:
        """Bytes of a character that is not finished."""
        return len(self._decoder.getstate()[0])

    def push(self, data: bytes) -> str:
        """Add the bytes of one token.

        Returns:
            Text to show now, whole clusters, often "".
        """
        if self.stopped or self.repeats:
            return ""
        text = self._decoder.decode(data)
        return self._gate.push(self._whole(self._before_stop(text))) if text else ""

    def finish(self) -> str:
        """Text that was held back for what did not come."""
        if self.repeats:
            return self._gate.finish()
        rest = (self._clusters + self._unsure).rstrip()
        shown = self._gate.push(rest if self._has_begun else rest.lstrip())
        return shown + self._gate.finish()

    def _before_stop(self, text: str) -> str:
        """What can no longer become part of a stop string."""
        if not self._stop:
            return text
        text = self._unsure + text
        ends = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            self._unsure = ""
            return text[: min(ends)[1]]
        n_unsure = max(_overlap(text, stop) for stop in self._stop)
        sure = text[: len(text) - n_unsure]
        self._unsure = text[len(sure) :]
        return sure

    def _whole(self, text: str) -> str:
        """Clusters that cannot grow any more, without space around the answer."""
        text = self._clusters + text
        clusters = _CLUSTER.findall(text)
        n_ready = max(len(clusters) - 1, 0)
        while n_ready and clusters[n_ready - 1][-1].isspace():
            n_ready -= 1
        ready = "".join(clusters[:n_ready])
        self._clusters = text[len(ready) :]
        self._is_endless = len(clusters) - n_ready > _N_SPACE_MAX or len("".join(clusters[-1:])) > _N_CLUSTER_MAX
        shown = ready if self._has_begun else ready.lstrip()
        self._has_begun = self._has_begun or n_ready > 0
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
