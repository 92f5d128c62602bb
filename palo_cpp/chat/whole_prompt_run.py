"""An answer in families whose whole prompt is prefilled for every question: the model holds one prompt at a time."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from palo_cpp.chat.answer import Timings
from palo_cpp.chat.prompt_run import ImageEncoding, stages
from palo_cpp.decoding.decoding import Decoding
from palo_cpp.errors import AnswerStopped
from palo_cpp.llm.token_table import TokenTable
from palo_cpp.segments import ImageSegment

if TYPE_CHECKING:
    from palo_cpp.chat.language_policy import Plan
    from palo_cpp.models.loaded_model import BeamPart
    from palo_cpp.vision.embedder import Embedder


@dataclass(frozen=True)
class _Vocabulary:
    """The tokens of answers to one prompt."""

    token_table: TokenTable


class WholePromptRun(ABC):
    """One attempt at an answer; see `answer_run.Generation`. What follows the prompt is chosen by a subclass.

    Masks over the vocabulary do not apply: the language is checked on the text alone. An answer that is asked for while
    another one is under way runs that one to its end first.

    Args:
        part: the model, and who holds it.
        embedder: encodes images.
        plan: the question, and how its language is kept.
        has_byte_tokens: see `Capabilities`.
    """

    def __init__(self, part: BeamPart, embedder: Embedder, plan: Plan, *, has_byte_tokens: bool) -> None:
        self._part = part
        self._request = plan.request
        self._images = ImageEncoding(embedder, plan.request.ahead)
        self._prefill_s = self._decode_s = 0.0
        self._is_begun = False
        self._shown: deque[str] = deque()
        vocabulary = _Vocabulary(part.model.token_table_for(plan.request.segments))
        self._table = vocabulary.token_table
        self.decoding = Decoding(vocabulary, plan.request.options, has_byte_tokens=has_byte_tokens)

    def pieces(self) -> Iterator[str]:
        """Text of the answer as it becomes certain."""
        self._images.encode(segment for segment in self._request.segments if isinstance(segment, ImageSegment))
        while not self.decoding.is_finished:
            with self._part.lock:
                self._step()
            while self._shown:
                if text := self._shown.popleft():
                    yield text

    def run_to_end(self) -> None:
        """Decode what is left; its text waits until it is asked for. Called with the model's lock held."""
        while not self.decoding.is_finished:
            self._step()

    def _step(self) -> None:
        if self.decoding.is_finished:  # another answer's thread was here
            return
        if self._is_not_wanted():  # paths that agree on nothing yet take no token that would ask
            self.decoding.abandon()
            return
        try:
            logits = self._next() if self._is_begun else self._prefill()
        except AnswerStopped:
            self.decoding.abandon()
            return
        begun_at = time.perf_counter()
        self._choose(logits)
        if self.decoding.is_finished:
            self._shown.append(self.decoding.finish())
        self._decode_s += time.perf_counter() - begun_at

    def _prefill(self) -> NDArray[np.float32]:
        self._part.take_turn(self)
        stages.info("reading the prompt")
        begun_at, request = time.perf_counter(), self._request
        logits = self._part.model.prefill(request.segments, self._images.embeddings, should_stop=self._is_not_wanted)
        self._prefill_s = time.perf_counter() - begun_at
        self._part.count(request.n_prompt)
        self._is_begun = True
        return logits[np.newaxis]

    def _next(self) -> NDArray[np.float32]:
        begun_at = time.perf_counter()
        logits = self._part.model.step(*self._appended())
        self._part.count(len(logits))
        self._decode_s += time.perf_counter() - begun_at
        return logits

    def _is_not_wanted(self) -> bool:
        should_stop = self._request.options.should_stop
        return self.decoding.is_finished or (should_stop is not None and should_stop())

    @property
    def _n_room(self) -> int:
        """Tokens of an answer for which the context has room."""
        return self._part.model.n_ctx - self._request.n_prompt

    @abstractmethod
    def _choose(self, logits: NDArray[np.float32]) -> None:
        """Choose what follows, and put text that is certain to stay into `_shown`.

        Args:
            logits: [n_paths, n_tokens] f32 after the prompt or the last tokens.
        """

    @abstractmethod
    def _appended(self) -> tuple[Sequence[int], Sequence[int]]:
        """(path that each continues, its next token), for the model's next step."""

    def timings(self) -> Timings:
        """What prefill, encoding and decoding cost until now."""
        return Timings(
            encode_s=self._images.elapsed_s,
            prefill_s=self._prefill_s,
            decode_s=self._decode_s,
            n_images_encoded=self._images.n_encoded,
            n_repeated_tokens=self._request.n_repeated,
        )

    def stop(self) -> None:
        """End it after the step under way, or within the prompt."""
        self.decoding.end("cancelled")

    def release(self) -> None:
        """It has ended: nobody waits for it any more."""
        self._part.leave(self)

    def learn(self, language: str | None, token_ids: Sequence[int]) -> None:  # noqa: B027  # not for subclasses
        """Nothing is guessed."""
