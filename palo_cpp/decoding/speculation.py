"""Speculation: one step of the model reads the next token and a guess at the one behind it.

A step reads all weights once, whether for one row or for two, so where memory is the bound the second row is nearly
free. The model still chooses every token: a guess that is not its choice is dropped, and the text is the same with and
without. What followed the last one to three tokens before is the guess: in the conversation, in a sample text of the
language, and in earlier answers in it. Scripts that a vocabulary spells byte by byte gain most: their bytes follow each
other by few rules. Where a smaller model drafts (draft.py), it is asked instead as long as that saves more.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence, Set
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import PaloError
from palo_cpp.families.palo.prompt import TextSegment
from palo_cpp.languages.text_samples import ARTICLE_1

if TYPE_CHECKING:
    from palo_cpp.chat.request import Request
    from palo_cpp.llm.kv_cache import Cursor, KvCache
    from palo_cpp.llm.language_model import LanguageModel
    from palo_cpp.models.draft_model import Draft, DraftModel

logger = logging.getLogger(__name__)

# Seen once means little behind one token, more behind three: what is added to a context's count, by its length.
_DOUBT = {1: 1.0, 2: 0.6, 3: 0.4}
_LONGEST = max(_DOUBT)

_N_TIMED, _N_REMEMBERED = 15, 256  # steps that a median is of; steps after which their times are forgotten
_FIRST_COST = 0.15  # of the second row, in single steps, until it has been timed
_MARGIN = 0.02  # Python's own part
_SHORTEST_STEP = 2e-3  # seconds; of shorter ones Python's part is more than a guess saves
_N_LEARNT = 4000  # tokens of each language, of which about 4 MB of counts are made
_N_TRUSTED = 2.0  # right guesses by which one believes what the counts say of their chances

_FIRST_DRAFT_COST = 0.3  # of a draft model's step, in single steps, until it has been timed
_FIRST_WORTH = 0.5  # of a draft, until some were made
_DRAFT_MEMORY, _DRAFT_OBLIVION = 16, 1024  # drafts that the worth is a mean of; tokens until an old one is forgotten
_N_READ_AT_ONCE = 8  # rows that a draft model reads in the time of about one token that it saves


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


Step = Literal["one row", "two rows", "draft"]


class Pace:
    """What a second row and a draft cost on this machine with these models, measured as they run."""

    def __init__(self) -> None:
        self._times = {step: deque[tuple[int, float]](maxlen=_N_TIMED) for step in get_args(Step)}
        self._n_steps = 0

    def note(self, step: Step, elapsed: float) -> None:
        """It took so many seconds."""
        self._n_steps += step != "draft"
        self._times[step].append((self._n_steps, elapsed))

    @property
    def cost(self) -> float:
        """Of the second row, in single steps."""
        one, two = self._median("one row"), self._median("two rows")
        return two / one - 1.0 if one and two else _FIRST_COST

    @property
    def draft_cost(self) -> float:
        """Of a draft, in single steps."""
        one, draft = self._median("one row"), self._median("draft")
        return draft / one if one and draft else _FIRST_DRAFT_COST

    def _median(self, step: Step) -> float | None:
        recent = [elapsed for n, elapsed in self._times[step] if n > self._n_steps - _N_REMEMBERED]
        return statistics.median(recent) if len(recent) > 2 else None

    @property
    def is_too_quick(self) -> bool:
        """Whether steps are so short that no guess pays."""
        one = self._median("one row")
        return one is not None and one < _SHORTEST_STEP

    def gain(self, guess: Guess | None) -> float:
        """What reading such a guess saves, in single steps; not above 0 where it does not pay."""
        return guess.probability - self.cost - _MARGIN if guess and not self.is_too_quick else 0.0


class Worth:
    """What a draft saves, in single steps, before its own cost: a mean over the last ones.

    Without drafts it drifts back to what is hoped for at first, so that from time to time one is tried.
    """

    def __init__(self) -> None:
        self.mean = _FIRST_WORTH

    def note(self, saved: float) -> None:
        """A draft saved so much."""
        self.mean += (saved - self.mean) / _DRAFT_MEMORY

    def drift(self) -> None:
        """A token came without one."""
        self.mean += (_FIRST_WORTH - self.mean) / _DRAFT_OBLIVION


class Speculation:
    """What the answers of one model share.

    Args:
        model: whose vocabulary it is.
        draft: a smaller model that drafts for it.
    """

    def __init__(self, model: LanguageModel, draft: DraftModel | None = None) -> None:
        self._model = model
        self._draft = draft
        self.worth = Worth()
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
        draft = self._draft.follow(request.segments) if self._draft else None
        return SpeculativeSteps(cache, cursor, guesser, self.pace, Drafting(draft, self.pace, self.worth, self._never))

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


class Drafting:
    """Asks the draft model where that saves more than it costs.

    Args:
        draft: of one answer; None asks nobody.
        pace: what things cost.
        worth: what drafts saved until now.
        never: tokens that are never guessed.
        clock: tells seconds.

    Attributes:
        n_drafted: how often it was asked.
    """

    def __init__(
        self,
        draft: Draft | None,
        pace: Pace,
        worth: Worth,
        never: Set[int] = frozenset(),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._draft, self._pace, self._worth, self._never, self._clock = draft, pace, worth, never, clock
        self._drafted: Guess | None = None
        self.n_drafted = 0

    def take(self, token: int) -> None:
        """The answer goes on with this token."""
        if self._draft is None:
            return
        if drafted := self._drafted:
            is_read = self._pace.gain(drafted) > 0
            self._worth.note((drafted.token == token) - self._pace.cost if is_read else 0.0)
            self._drafted = None
        else:
            self._worth.drift()
        self._draft.take(token)

    def better_than(self, guess: Guess | None) -> Guess | None:
        """What the draft model guesses, if asking it promises more than this guess, else this one."""
        draft = self._draft
        if draft is None or self._worth.mean - self._pace.draft_cost <= max(self._pace.gain(guess), 0.0):
            return guess
        # What it has not read yet, the prompt most of all, must be won back by the rest of the answer. How long that
        # will be nobody knows: about as long as it has been, as with anything that may end at any time.
        n_unread = draft.n_unread
        if n_unread > _N_READ_AT_ONCE * draft.n_answered or not draft.has_room:
            return guess
        begun = self._clock()
        try:
            self._drafted = drafted = draft.guess()
        except PaloError:
            logger.warning("the draft model failed; the answer goes on without it", exc_info=True)
            self._draft = None
            return guess
        if n_unread <= _N_READ_AT_ONCE:
            self._pace.note("draft", self._clock() - begun)
        self.n_drafted += 1
        return guess if drafted.token in self._never else drafted


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
        drafting: Drafting | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._cache, self._cursor, self._guesser, self._pace, self._clock = cache, cursor, guesser, pace, clock
        self._drafting = drafting or Drafting(None, pace, Worth())
        self.n_guessed = self.n_right = 0

    @property
    def n_drafted(self) -> int:
        """Tokens that a draft model was asked for."""
        return self._drafting.n_drafted

    def advance(self, token: int) -> NDArray[np.float32]:
        """Append a token that was chosen; the logits [n_vocab] f32 that follow."""
        self._guesser.take(token)
        self._drafting.take(token)
        if self._cursor.is_guessed(token):
            self.n_right += 1
            return self._cache.advance(self._cursor, token)
        guess = self._guess()
        begun = self._clock()
        logits = self._cache.advance(self._cursor, token, guess)
        self._pace.note("one row" if guess is None else "two rows", self._clock() - begun)
        self.n_guessed += guess is not None
        return logits

    def _guess(self) -> int | None:
        if self._cache.n_free(self._cursor) < 2:
            return None
        best = self._drafting.better_than(self._guesser.guess())
        return best.token if best and self._pace.gain(best) > 0 else None
