"""Loops of a language model, seen on text: what repeats itself for ever is cut, what only sounds like it is not.

Tokens are the wrong place to look: half of the languages spell their letters with the same few byte tokens, so a
penalty on repeated tokens punishes the script and not the loop.
"""

from __future__ import annotations

import re
from bisect import bisect_left

import regex

# A period that is longer than this (code points; some five sentences) is not looked for.
MAX_PERIOD = 1000
_N_KEPT = 4 * MAX_PERIOD  # text that is looked back on
# How far text must go on repeating itself, in code points. It must come a third time, or a third time begin where the
# period is long; short periods must fill what would be a line of text. That is far above what people write: "ha ha ha",
# "very, very", a cheer. A Chinese or Japanese character says as much as two letters or three.
_N_LETTERS, _N_IDEOGRAPHS = 48, 24
# Rows, rules and lists repeat by their nature: | yes | yes |, -----, 0.0 0.0.
_N_LAYOUT = 160
_N_OF_THIRD = 100
_KEY = 12  # an end of text this long is looked for further up
# Agreement by accident before the loop begins: ". " comes before its first round as before its second.
_N_BY_ACCIDENT = 12
_N_WORD_MAX = 24

_SENTENCE_END = re.compile(r"(?:[.!?](?=\s|[\"'”’»)]|$)|[。！？।॥۔؟…])[.!?。！？।॥۔؟…]*[\"'”’»)」』]*")
_CLAUSE_END = re.compile(r"(?:\A|[.!?。！？।॥۔؟…,;:،؛，、；：\n])\W*\Z")  # quotes, brackets and space may follow
# A unit begins: a word after space, or what follows a mark that needs no space after it.
_UNIT_START = re.compile(r"(?:\A|(?<=\s)|(?<=[。！？।॥۔؟…،؛，、；：]))[^\s]")
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_CLUSTER = regex.compile(r"\X")
_N_WORDS_BACK = 3


class RepetitionGate:
    """Lets text through until it begins to repeat itself, and cuts it where it does nothing else.

    Text is held back from the beginning of a sentence, clause or word on as long as it says what an earlier one said,
    and comes out as soon as it says something else. When it turns out to be a loop, the text ends with the last whole
    sentence before the repetition, else with the first round of the loop, but never before what was let through
    already. So the pieces that come out, joined, are the text that stays.

    Attributes:
        repeats: the text is in a loop; nothing more comes out.
    """

    def __init__(self) -> None:
        self._text = ""  # the end of all text so far
        self._n_out = 0  # how much of `_text` was let through
        self._starts: list[int] = []  # where words and clauses begin in `_text`
        self._clauses: list[int] = []  # those of them that begin clauses
        self._suspected_at = 0  # what may be a repetition begins here
        self._periods: list[int] = []  # at these distances to what it repeats; none where nothing is suspected
        self.repeats = False

    def push(self, text: str) -> str:
        """Add text.

        Args:
            text: whole grapheme clusters, not ending in space.

        Returns:
            Text that may be shown now.
        """
        if not text or self.repeats:
            return ""
        n_before = len(self._text)
        self._text += text
        self._find_starts(n_before)
        self._keep_suspicion(n_before)
        period = self._period_at_end()
        loop = next(filter(self._is_loop, sorted({period, *self._periods} - {0})), 0)
        if loop:
            self.repeats = True
            return self._let_out(self._cut(loop))
        if self._periods:
            return ""
        self._suspect(period)
        shown = self._let_out(self._held_from() if self._periods else len(self._text))
        if len(self._text) > 2 * _N_KEPT:
            self._forget()
        return shown

    def finish(self) -> str:
        """What was held back for a loop that did not come."""
        return "" if self.repeats else self._let_out(len(self._text))

    def _let_out(self, end: int) -> str:
        shown = self._text[self._n_out : end]
        self._n_out = max(self._n_out, end)
        return shown

    # ---- is it a loop

    def _period_at_end(self) -> int:
        """The distance at which the end of the text stood before; 0 where it did not."""
        text, n = self._text, len(self._text)
        at = text.rfind(text[-_KEY:], max(0, n - _KEY - MAX_PERIOD), n - 1) if n > _KEY else -1
        return n - _KEY - at if at >= 0 else 0

    def _repeats_for(self, n: int, period: int) -> bool:
        """Whether the last n code points repeat at this distance."""
        text = self._text
        return len(text) >= n + period and text[-n:] == text[-n - period : -period]

    def _is_loop(self, period: int) -> bool:
        if not self._repeats_for(min(2 * period, period + _N_OF_THIRD), period):
            return False
        return self._repeats_for(_n_convincing(self._text[-period:]), period)

    # ---- may it become one

    def _find_starts(self, n_before: int) -> None:
        for match in _UNIT_START.finditer(self._text, max(0, n_before - 1)):
            start = match.start()
            if start < n_before:
                continue
            self._starts.append(start)
            if _CLAUSE_END.search(self._text[max(0, start - 8) : start]):
                self._clauses.append(start)

    def _keep_suspicion(self, n_before: int) -> None:
        """Keep the distances at which the new text, too, stood before."""
        text, n = self._text, len(self._text)
        new = text[n_before:]
        self._periods = [p for p in self._periods if text[n_before - p : n - p] == new]

    def _suspect(self, period: int) -> None:
        """Find the first unit of the text not yet let through from which all that follows stood before."""
        for j in range(bisect_left(self._starts, self._n_out), len(self._starts)):
            self._periods = self._periods_of(j)
            if self._periods:
                self._suspected_at = self._starts[j]
                return
        if period and self._repeats_for(max(period, _KEY), period):  # words without space, or no words at all
            self._suspected_at, self._periods = self._n_out, [period]

    def _periods_of(self, j: int) -> list[int]:
        """Distances at which all that follows unit j stood before, from the beginning of such a unit on."""
        start = self._starts[j]
        earlier = self._starts[max(0, j - _N_WORDS_BACK) : j]
        if start in self._clauses[-64:]:
            earlier = [*earlier, *self._clauses]
        said = self._text[start:]
        return sorted({start - e for e in earlier if 0 < start - e <= MAX_PERIOD and self._text.startswith(said, e)})

    def _held_from(self) -> int:
        """Where the suspicion begins, without the space before it, between two clusters."""
        return self._between_clusters(self._n_out + len(self._text[self._n_out : self._suspected_at].rstrip()))

    # ---- where the answer ends

    def _cut(self, period: int) -> int:
        """Where a text that is a loop should end; not before what was let through."""
        text = self._text
        start = len(text)  # of what only repeats: the second round
        while start > period and text[start - 1] == text[start - 1 - period]:
            start -= 1
        latest = start + min(period // 4, _N_BY_ACCIDENT)
        ends = [m.end() for m in _SENTENCE_END.finditer(text, max(0, self._n_out - 8), latest + 4)]
        ends = [end for end in ends if self._n_out <= end <= latest]
        if ends:
            return self._between_clusters(next((end for end in ends if end >= start), ends[-1]))
        end = max(self._n_out, start)
        word_end = next((i for i in range(end, min(end + _N_WORD_MAX, len(text))) if text[i].isspace()), end)
        return self._between_clusters(self._n_out + len(text[self._n_out : word_end].rstrip()))

    def _between_clusters(self, end: int) -> int:
        """The last place up to `end` that no cluster spans."""
        at = self._n_out
        for cluster in _CLUSTER.findall(self._text[at:]):
            if at + len(cluster) > end:
                break
            at += len(cluster)
        return at

    def _forget(self) -> None:
        """Drop text that is too far back to matter."""
        n = min(len(self._text) - _N_KEPT, self._n_out)
        self._text = self._text[n:]
        self._n_out -= n
        self._suspected_at -= n
        self._starts = [start - n for start in self._starts if start >= n]
        self._clauses = [start - n for start in self._clauses if start >= n]


def _n_convincing(period: str) -> int:
    """How far a repetition of this text must go to be a loop, in code points."""
    has_letters = any(map(str.isalpha, period))
    if not has_letters or "\n" in period or "|" in period or "\t" in period:
        return _N_LAYOUT
    return _N_IDEOGRAPHS if _IDEOGRAPH.search(period) else _N_LETTERS
