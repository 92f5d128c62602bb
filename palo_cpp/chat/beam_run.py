"""An answer found by beam search, in families whose whole prompt is prefilled for every question."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palo_cpp.chat.answer import Timings
from palo_cpp.chat.prompt_run import ImageEncoding, stages
from palo_cpp.decoding.beam_search import BeamSearch
from palo_cpp.decoding.decoding import Decoding
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


class BeamRun:
    """One attempt at an answer; see `answer_run.Generation`.

    Text is shown as soon as all paths agree on it. Masks over the vocabulary do not apply: the language is checked on
    the text alone. The model holds one prompt, so an answer that is asked for while another one is under way runs that
    one to its end first.

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
        self._prefill_s = 0.0
        self._search: BeamSearch | None = None
        self._shown: deque[str] = deque()
        self._vocabulary = _Vocabulary(part.model.token_table_for(plan.request.segments))
        self.decoding = Decoding(self._vocabulary, plan.request.options, has_byte_tokens=has_byte_tokens)

    def pieces(self) -> Iterator[str]:
        """Text of the answer as the paths agree on it."""
        self._images.encode(segment for segment in self._request.segments if isinstance(segment, ImageSegment))
        while not self.decoding.is_finished:
            with self._part.lock:
                self._step()
            while self._shown:
                yield self._shown.popleft()

    def run_to_end(self) -> None:
        """Decode what is left; its text waits until it is asked for. Called with the model's lock held."""
        while not self.decoding.is_finished:
            self._step()

    def _step(self) -> None:
        if self.decoding.is_finished:  # another answer's thread was here
            return
        if self._search is None:
            self._begin()
        elif not self._search.is_finished:
            self._search.take(self._part.model.step(self._search.parents, self._search.tokens))
        assert self._search is not None  # it has begun
        self._show(self._search)

    def _begin(self) -> None:
        self._part.take_turn(self)
        stages.info("reading the prompt")
        begun_at, request, model = time.perf_counter(), self._request, self._part.model
        n_room = model.n_ctx - request.n_prompt
        max_tokens = min(request.options.max_tokens, n_room)
        table = self._vocabulary.token_table
        self._search = BeamSearch(self._part.options, table.ends_generation, max_tokens, table.base_ids)
        logits = model.prefill(request.segments, self._images.embeddings)
        self._prefill_s = time.perf_counter() - begun_at
        self._search.take(logits[np.newaxis])

    def _show(self, search: BeamSearch) -> None:
        for token in search.settled[len(self.decoding.token_ids) :]:
            if self.decoding.is_finished:
                break
            self._shown.append(self.decoding.accept(token))
        if search.is_finished and not self.decoding.is_finished:
            self.decoding.end("stop" if search.has_ended_itself else "context")
        if self.decoding.is_finished:
            self._shown.append(self.decoding.finish())

    def timings(self) -> Timings:
        """What prefill and encoding cost until now."""
        return Timings(
            encode_s=self._images.elapsed_s, prefill_s=self._prefill_s, n_images_encoded=self._images.n_encoded
        )

    def stop(self) -> None:
        """End it after the step under way."""
        self.decoding.end("cancelled")

    def release(self) -> None:
        """It has ended: nobody waits for it any more."""
        self._part.leave(self)

    def learn(self, language: str | None, token_ids: Sequence[int]) -> None:
        """Nothing is guessed."""
