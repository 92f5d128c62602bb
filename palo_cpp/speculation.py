"""Speculation: one step of the model reads the next token and a guess at the one behind it.

A step reads all weights once, whether for one row or for two, so where memory is the bound the second row is nearly
free. The model still chooses every token: a guess that is not its choice is dropped, and the text is the same with and
without. What followed the last one to three tokens before is the guess: in the conversation, in a sample text of the
language, and in earlier answers in it. Scripts that a vocabulary spells byte by byte gain most: their bytes follow each
other by few rules.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palo_cpp.prompt import TextSegment
from palo_cpp.text_samples import ARTICLE_1

if TYPE_CHECKING:
    from palo_cpp.engine import Request
    from palo_cpp.kv_cache import Cursor, KvCache
    from palo_cpp.language_model import LanguageModel

# Seen once means little behind one token, more behind three: what is added to a context's count, by its length.
_DOUBT = {1: 1.0, 2: 0.6, 3: 0.4}
_LONGEST = max(_DOUBT)

_N_TIMED, _N_REMEMBERED = 15, 256  # steps that a median is of; steps after which their times are forgotten
_FIRST_COST = 0.15  # of the second row, in single steps, until it has been timed
_MARGIN = 0.02  # Python's own part
_SHORTEST_STEP = 2e-3  # seconds; of shorter ones Python's part is more than a guess saves
_N_LEARNT = 4000  # tokens of each language, of which about 4 MB of counts are made
_N_TRUSTED = 2.0  # right guesses by which one believes what the counts say of their chances


class Followers:
    """Which tokens followed each run of one to three tokens, and how often."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self.n_tokens = 0

    def take(self, before: Sequence[int], token: int) -> None:
        """`token` came behind `before`, of which the last three count."""
        for n in range(1, min(_LONGEST, len(before)) + 1):
            self._counts[tuple(before[-n:])][token] += 1

    def take_all(self, tokens: Sequence[int]) -> None:
        """A text."""
        self.n_tokens += len(tokens)
        for i in range(1, len(tokens)):
            self.take(tokens[max(0, i - _LONGEST) : i], tokens[i])

    def behind(self, context: tuple[int, ...]) -> Counter[int] | None:
        """Counts of what followed, not to be written into; None where nothing did."""
        return self._counts.get(context)


class Guess(NamedTuple):
    """A token, and the share of such guesses that come true."""

    token: int
    probability: float


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
        """The conversation goes on with this token."""
        if self._guess:
            self._n_expected += self._guess.probability
            self._n_right += self._guess.token == token
            self._guess = None
        self._own.take(self._last, token)
        self._last = [*self._last[1 - _LONGEST :], token]

    def take_all(self, tokens: Iterable[int]) -> None:
        """It goes on with these."""
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
            own, known = self._own.behind(context), self._known.behind(context)
            found = own + known if own and known else own or known
            if not found:
                break  # longer contexts are rarer still
            token = max(found, key=found.__getitem__)
            count = found[token]
            probability = count / (found.total() + _DOUBT[n])
            if token not in self._never and (best is None or probability > best.probability):
                best = Guess(token, probability)
        return best


class Pace:
    """What a second row costs on this machine with this model, measured as it runs."""

    def __init__(self) -> None:
        self._times = {n_rows: deque[tuple[int, float]](maxlen=_N_TIMED) for n_rows in (1, 2)}
        self._n_steps = 0

    def note(self, n_rows: int, elapsed: float) -> None:
        """A step of one or two rows took so many seconds."""
        self._n_steps += 1
        self._times[n_rows].append((self._n_steps, elapsed))

    @property
    def cost(self) -> float:
        """Of the second row, in single steps."""
        one, two = (self._median(n_rows) for n_rows in (1, 2))
        return two / one - 1.0 if one and two else _FIRST_COST

    def _median(self, n_rows: int) -> float | None:
        recent = [elapsed for step, elapsed in self._times[n_rows] if step > self._n_steps - _N_REMEMBERED]
        return statistics.median(recent) if len(recent) > 2 else None

    @property
    def is_too_quick(self) -> bool:
        """Whether steps are so short that no guess pays."""
        one = self._median(1)
        return one is not None and one < _SHORTEST_STEP

    def pays(self, guess: Guess) -> bool:
        """Whether such guesses save more than they cost."""
        return not self.is_too_quick and guess.probability > self.cost + _MARGIN


class Speculation:
    """What the answers of one model share.

    Args:
        model: whose vocabulary it is.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._never = frozenset(np.flatnonzero(model.token_table.ends_generation).tolist())
        self._known: dict[str | None, Followers] = {}
        self.pace = Pace()

    def steps(self, cache: KvCache, cursor: Cursor, request: Request) -> SpeculativeSteps | None:
        """For one answer; None where the model is so quick that guessing does not pay."""
        if self.pace.is_too_quick:
            return None
        guesser = Guesser(self._followers(request.language), self._never)
        for segment in request.segments:
            if isinstance(segment, TextSegment):
                guesser.take_all(segment.tokens)
        return SpeculativeSteps(cache, cursor, guesser, self.pace)

    def learn(self, language: str | None, answer: Sequence[int]) -> None:
        """An answer has ended: the next ones in its language know it."""
        followers = self._followers(language)
        if followers.n_tokens < _N_LEARNT:
            followers.take_all(answer)

    def _followers(self, language: str | None) -> Followers:
        if language not in self._known:
            self._known[language] = Followers()
            if language:
                self._known[language].take_all(self._model.tokenize(ARTICLE_1[language]))
        return self._known[language]


class SpeculativeSteps:
    """Appends one answer's tokens to the context, some of them before they are chosen.

    Attributes:
        n_guessed: rows that were read for a guess.
        n_right: those that were the model's choice.
    """

    def __init__(
        self,
        cache: KvCache,
        cursor: Cursor,
        guesser: Guesser,
        pace: Pace,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._cache, self._cursor, self._guesser, self._pace, self._clock = cache, cursor, guesser, pace, clock
        self.n_guessed = self.n_right = 0

    def advance(self, token: int) -> NDArray[np.float32]:
        """Append a token that was chosen; the logits [n_vocab] f32 that follow."""
        self._guesser.take(token)
        if self._cursor.is_guessed(token):
            self.n_right += 1
            return self._cache.advance(self._cursor, token)
        guess = self._guesser.guess() if self._cache.n_free(self._cursor) > 1 else None
        guessed = guess.token if guess and self._pace.pays(guess) else None
        begun = self._clock()
        logits = self._cache.advance(self._cursor, token, guessed)
        self._pace.note(1 if guessed is None else 2, self._clock() - begun)
        self.n_guessed += guessed is not None
        return logits
