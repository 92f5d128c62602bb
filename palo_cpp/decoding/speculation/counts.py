"""Guesses from counts: what followed the last one to three tokens before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

# Seen once means little after one token, more after three: what is added to a context's count, by its length.
_DOUBT = {1: 1.0, 2: 0.6, 3: 0.4}
_LONGEST = max(_DOUBT)
_N_TRUSTED = 2.0  # right guesses by which one believes what the counts say of their chances


class Guess(NamedTuple):
    """A token, and the share of such guesses that come true."""

    token: int
    probability: float


class Followers:
    """Which tokens followed each run of one to three tokens, and how often."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self.n_tokens = 0

    def take(self, before: Sequence[int], token: int) -> None:
        """`token` came after `before`, of which the last three count."""
        for n in range(1, min(_LONGEST, len(before)) + 1):
            self._counts[tuple(before[-n:])][token] += 1

    def take_all(self, tokens: Sequence[int]) -> None:
        """A text."""
        self.n_tokens += len(tokens)
        for i in range(1, len(tokens)):
            self.take(tokens[max(0, i - _LONGEST) : i], tokens[i])

    def after(self, context: tuple[int, ...]) -> Counter[int] | None:
        """Counts of what followed, not to be written into; None where nothing did."""
        return self._counts.get(context)


class Guesser:
    """Guesses the next token of one conversation.

    Args:
        known: of other texts in the language, shared by all conversations.
        never: tokens that are never guessed, as those that end an answer.
    """

    def __init__(self, known: Followers, never: Set[int] = frozenset()) -> None:
        self._known, self._own, self._never = known, Followers(), never
        self._last: list[int] = []
        self._guess: Guess | None = None
        self._n_expected = self._n_right = _N_TRUSTED

    def take(self, token: int) -> None:
        """The conversation continues with this token."""
        if self._guess:
            self._n_expected += self._guess.probability
            self._n_right += self._guess.token == token
            self._guess = None
        self._own.take(self._last, token)
        self._last = [*self._last[1 - _LONGEST :], token]

    def take_all(self, tokens: Iterable[int]) -> None:
        """It continues with these."""
        for token in tokens:
            self.take(token)

    def guess(self) -> Guess | None:
        """What will come next, by the context that knows it best; None where nothing like this has come before.

        How often earlier guesses came true, beside what was said of them, corrects what is said of this one.
        """
        self._guess = best = self._by_counts()
        return best and Guess(best.token, best.probability * self._n_right / self._n_expected)

    def _by_counts(self) -> Guess | None:
        best: Guess | None = None
        for n in range(1, len(self._last) + 1):
            context = tuple(self._last[-n:])
            own, known = self._own.after(context), self._known.after(context)
            found = own + known if own and known else own or known
            if not found:
                break  # longer contexts are rarer still
            token = max(found, key=found.__getitem__)
            count = found[token]
            probability = count / (found.total() + _DOUBT[n])
            if token not in self._never and (best is None or probability > best.probability):
                best = Guess(token, probability)
        return best
