"""An answer decoded token by token, in a context whose beginning may hold its prompt already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from palo_cpp.chat.answer import Timings
from palo_cpp.chat.prompt_run import PromptRun
from palo_cpp.decoding.decoding import Decoding
from palo_cpp.errors import AnswerStopped

if TYPE_CHECKING:
    from palo_cpp.chat.language_policy import Plan
    from palo_cpp.decoding.speculation.steps import SpeculativeSteps
    from palo_cpp.models.loaded_model import PrefixModel
    from palo_cpp.vision.embedder import Embedder


class TokenRun:
    """One attempt at an answer; see `answer_run.Generation`.

    Args:
        model: language model and context.
        embedder: encodes images.
        plan: the question, and how its language is kept.
    """

    def __init__(self, model: PrefixModel, embedder: Embedder, plan: Plan) -> None:
        self._model = model
        self._request = plan.request
        self._prompt = PromptRun(model.cache, embedder, plan.request.ahead, plan.request.options.should_stop)
        self._steps: SpeculativeSteps | None = None
        self.decoding = Decoding(model.model, plan.request.options, plan.policy.masks())

    def pieces(self) -> Iterator[str]:
        """Text of the answer as it comes."""
        try:
            yield from self._pieces()
        except AnswerStopped:
            self.decoding.abandon()

    def _pieces(self) -> Iterator[str]:
        request = self._request
        logits = self._prompt.prefill(request.segments).logits
        n_room = self._model.model.n_ctx - request.n_prompt
        if self._model.speculation:
            self._steps = self._model.speculation.steps(self._prompt, request.language, request.segments)
        advance = self._steps.advance if self._steps else self._prompt.advance
        pieces = self.decoding.pieces(logits, advance, n_room)
        for piece in pieces:
            yield piece
            if self._prompt.was_displaced:
                # Answers that do not fit into the context together would displace each other at every token, at the
                # price of a prompt each: the one that came back runs to its end.
                with self._model.cache.turn:
                    rest = list(pieces)
                yield from rest

    def timings(self) -> Timings:
        """What prefill, encoding and guesses cost until now."""
        prompt, steps = self._prompt, self._steps
        return Timings(
            encode_s=prompt.images.elapsed_s,
            prefill_s=prompt.prefill_s,
            n_images_encoded=prompt.images.n_encoded,
            n_cached_tokens=prompt.n_cached,
            n_guessed=steps.n_guessed if steps else 0,
            n_guessed_right=steps.n_right if steps else 0,
            n_drafted=steps.n_drafted if steps else 0,
        )

    def stop(self) -> None:
        """End it, from any thread, within a step."""
        self._prompt.stop()

    def release(self) -> None:
        """It has ended."""
        self._prompt.release()

    def learn(self, language: str | None, token_ids: Sequence[int]) -> None:
        """Guesses at the next answers know this one."""
        if self._steps and self._model.speculation:
            self._model.speculation.learn(language, token_ids)
