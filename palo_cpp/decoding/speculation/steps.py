"""One step of the model decodes the next token and a guess at the one after it.

A step reads all weights once, whether for one row or for two, so where memory is the bound the second row is nearly
free. The model still chooses every token: a guess that is not its choice is dropped, and the text is the same with and
without. What followed the last one to three tokens before is the guess: in the conversation, in a sample text of the
language, and in earlier answers in it. Scripts that a vocabulary spells byte by byte gain most: their bytes follow each
other by few rules. Where a smaller model drafts, it is asked instead as long as that saves more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.speculation.counts import Followers, Guesser
from palo_cpp.decoding.speculation.drafting import Drafter, Drafting
from palo_cpp.decoding.speculation.step_times import DraftGain, StepTimes
from palo_cpp.languages.text_samples import ARTICLE_1
from palo_cpp.llm.text_model import TextModel
from palo_cpp.segments import Segment, TextSegment

_N_LEARNT = 4000  # tokens of each language, of which about 4 MB of counts are made


class AnswerContext(Protocol):
    """Where one answer's tokens are appended."""

    @property
    def n_free(self) -> int:
        """Tokens that still fit."""
        ...

    @property
    def is_alone(self) -> bool:
        """Whether no other answer is decoded in the same steps: with others, a guess takes the time of a row."""
        ...

    def is_guessed(self, token: int) -> bool:
        """Whether this token was decoded already, as a guess."""
        ...

    def advance(self, token: int, guess: int | None = None) -> NDArray[np.float32]:
        """Append a token, and decode the one that may come next in the same step.

        Returns:
            logits [n_vocab] f32 that follow `token`.
        """
        ...


class DraftModel(Protocol):
    """A smaller model that drafts."""

    def follow(self, segments: Sequence[Segment]) -> Drafter | None:
        """Draft one answer to this prompt; None where that cannot be done."""
        ...


class Speculation:
    """What the answers of one model share.

    Args:
        model: whose vocabulary it is.
        draft: a smaller model that drafts for it.
    """

    def __init__(self, model: TextModel, draft: DraftModel | None = None) -> None:
        self._model = model
        self._draft = draft
        self.draft_gain = DraftGain()
        self._known: dict[str | None, Followers] = {}
        self.times = StepTimes()

    @cached_property
    def _never(self) -> frozenset[int]:
        """Tokens that are never guessed: those that end an answer."""
        return frozenset(np.flatnonzero(self._model.token_table.ends_generation).tolist())

    def steps(
        self, context: AnswerContext, language: str | None, segments: Sequence[Segment]
    ) -> SpeculativeSteps | None:
        """For one answer; None where the model is so quick that guessing does not pay.

        Args:
            context: where its tokens are appended.
            language: code of the language that was asked for.
            segments: the prompt.
        """
        if self.times.is_too_quick:
            return None
        guesser = Guesser(self._followers(language), self._never)
        for segment in segments:
            if isinstance(segment, TextSegment):
                guesser.take_all(segment.tokens)
        draft = self._draft.follow(segments) if self._draft else None
        drafting = Drafting(draft, self.times, self.draft_gain, self._never)
        return SpeculativeSteps(context, guesser, self.times, drafting)

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
        n_guessed: rows that were decoded for a guess.
        n_right: those that were the model's choice.
    """

    def __init__(
        self,
        context: AnswerContext,
        guesser: Guesser,
        times: StepTimes,
        drafting: Drafting | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._context, self._guesser, self._times, self._clock = context, guesser, times, clock
        self._drafting = drafting or Drafting(None, times, DraftGain())
        self.n_guessed = self.n_right = 0

    @property
    def n_drafted(self) -> int:
        """Tokens that a draft model was asked for."""
        return self._drafting.n_drafted

    def advance(self, token: int) -> NDArray[np.float32]:
        """Append a token that was chosen; the logits [n_vocab] f32 that follow."""
        self._guesser.take(token)
        self._drafting.take(token)
        if self._context.is_guessed(token):
            self.n_right += 1
            return self._context.advance(token)
        if not self._context.is_alone:
            return self._context.advance(token)
        guess = self._guess()
        begun = self._clock()
        logits = self._context.advance(token, guess)
        if not self._context.is_alone:  # another answer came in: its time is not this one's
            return logits
        self._times.note("one row" if guess is None else "two rows", self._clock() - begun)
        self.n_guessed += guess is not None
        return logits

    def _guess(self) -> int | None:
        if self._context.n_free < 2:
            return None
        best = self._drafting.better_than(self._guesser.guess())
        return best.token if best and self._times.gain(best) > 0 else None
